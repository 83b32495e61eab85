package storetest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

// Opener opens one more Store on the same database, as another process would,
// with a clock of the suite. The implementation closes it when t ends.
type Opener func(t *testing.T, now func() time.Time) paas.Store

// Run tests a Store. fresh is called once per test and returns an Opener for a
// new, empty database.
func Run(t *testing.T, fresh func(t *testing.T) Opener) {
	for _, group := range [][]testCase{appCases, acceptCases, buildCases, rollingCases, configCases, workCases, pruneCases, smallCases} {
		for _, c := range group {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				f := &fixture{t: t, open: fresh(t), clock: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
				f.s = f.another()
				c.run(f)
			})
		}
	}
}

type testCase struct {
	name string
	run  func(f *fixture)
}

// fixture is one store with helpers that fail the test.
type fixture struct {
	t    *testing.T
	s    paas.Store
	open Opener

	mu    sync.Mutex
	clock time.Time // guarded by mu
}

func (f *fixture) another() paas.Store { return f.open(f.t, f.now) }

func (f *fixture) now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.clock
}

func (f *fixture) advance(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.clock = f.clock.Add(d)
}

// must returns v or ends the test.
func must[T any](v T, err error) func(f *fixture) T {
	return func(f *fixture) T {
		f.t.Helper()
		f.ok(err)
		return v
	}
}

func (f *fixture) ok(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) code(err error, want paas.Code) {
	f.t.Helper()
	if got := paas.CodeOf(err); got != want {
		f.t.Fatalf("error %v has code %q, want %q", err, got, want)
	}
}

func equal[T comparable](f *fixture, what string, got, want T) {
	f.t.Helper()
	if got != want {
		f.t.Fatalf("%s is %v, want %v", what, got, want)
	}
}

// archive is a made-up upload, another one for each content.
func archive(content string) paas.Archive {
	sum := sha256.Sum256([]byte(content))
	digest := hex.EncodeToString(sum[:])
	return paas.Archive{Digest: "sha256:" + digest, SizeBytes: int64(len(content)), Key: "archives/" + digest}
}

func (f *fixture) accept(app, content string) paas.Deployment {
	f.t.Helper()
	d, _, err := f.s.AcceptDeploy(f.t.Context(), paas.NewDeploy{App: app, CreateApp: true, Archive: archive(content), Origin: paas.OriginCLI, By: "ann"})
	f.ok(err)
	return d
}

func (f *fixture) claim() *paas.Build {
	f.t.Helper()
	b, err := f.s.ClaimBuild(f.t.Context(), "worker", time.Minute)
	f.ok(err)
	if b == nil {
		f.t.Fatal("no build to claim")
	}
	return b
}

func result(b *paas.Build) paas.BuildResult {
	return paas.BuildResult{
		ImageRef: paas.ImageRef(b.AppID, b.ID), ImageDigest: fmt.Sprintf("sha256:image%d", b.ID), Type: paas.TypeWeb,
		Command: []string{"node", "server.js"}, Env: []string{"NODE_ENV=production"}, Plan: []byte(`{"p": 1}`),
		Ledger: []paas.LedgerEntry{{Step: "base", Hit: true}}, Grace: 10 * time.Second,
		Health: paas.HealthCheck{Path: "/", StartupTime: 30 * time.Second},
	}
}

func logKey(b *paas.Build) string { return fmt.Sprintf("builds/%d.log", b.ID) }

func (f *fixture) finish(b *paas.Build) paas.Release {
	f.t.Helper()
	return must(f.s.FinishBuild(f.t.Context(), b.ID, b.Attempt, result(b), logKey(b)))(f)
}

// roll accepts, builds and returns a deployment that is rolling.
func (f *fixture) roll(app, content string) paas.Deployment {
	f.t.Helper()
	d := f.accept(app, content)
	f.finish(f.claim())
	return f.deployment(d.ID)
}

func (f *fixture) move(id int64, from, to paas.DeploymentState) {
	f.t.Helper()
	moved, err := f.s.MoveDeployment(f.t.Context(), id, from, to, f.now().Add(paas.DefaultWatch), nil)
	f.ok(err)
	equal(f, fmt.Sprintf("moved from %s to %s", from, to), moved, true)
}

// live deploys until the deployment is live and watched.
func (f *fixture) live(app, content string) paas.Deployment {
	f.t.Helper()
	d := f.roll(app, content)
	f.move(d.ID, paas.DeploymentRolling, paas.DeploymentLive)
	return f.deployment(d.ID)
}

// done deploys until the deployment has succeeded.
func (f *fixture) done(app, content string) paas.Deployment {
	f.t.Helper()
	d := f.live(app, content)
	f.move(d.ID, paas.DeploymentLive, paas.DeploymentSucceeded)
	return f.deployment(d.ID)
}

func (f *fixture) deployment(id int64) paas.Deployment {
	f.t.Helper()
	return must(f.s.Deployment(f.t.Context(), id))(f)
}

func (f *fixture) state(id int64, want paas.DeploymentState) {
	f.t.Helper()
	d := f.deployment(id)
	equal(f, fmt.Sprintf("state of deployment %d", id), d.State, want)
	equal(f, fmt.Sprintf("deployment %d has an end", id), !d.FinishedAt.IsZero(), want.Final())
}

func (f *fixture) build(id int64) paas.Build {
	f.t.Helper()
	return must(f.s.Build(f.t.Context(), id))(f)
}

func (f *fixture) app(name string) paas.App {
	f.t.Helper()
	return must(f.s.App(f.t.Context(), name))(f)
}

func (f *fixture) update(name string, change func(a *paas.App)) paas.App {
	f.t.Helper()
	return must(f.s.UpdateApp(f.t.Context(), name, func(a *paas.App) error { change(a); return nil }, "app.changed", "changed", "ann"))(f)
}

// env returns the newest environment as "A=1 B=2".
func (f *fixture) env(app string) string {
	f.t.Helper()
	return flat(must(f.s.Env(f.t.Context(), app))(f))
}

func flat(vars []paas.EnvVar) string {
	parts := make([]string, len(vars))
	for i, v := range vars {
		parts[i] = v.Name + "=" + string(v.Value)
	}
	return strings.Join(parts, " ")
}

// kinds lists an app's event kinds in order.
func (f *fixture) kinds(app string) string {
	f.t.Helper()
	var out []string
	for _, e := range must(f.s.Events(f.t.Context(), app, 0, 1000))(f) {
		out = append(out, e.Kind)
	}
	return strings.Join(out, " ")
}

func (f *fixture) work(app string) paas.AppWork {
	f.t.Helper()
	for _, w := range must(f.s.Work(f.t.Context()))(f) {
		if w.App.Name == app {
			return w
		}
	}
	f.t.Fatalf("Work has no app %q", app)
	return paas.AppWork{}
}

// together runs fn n times at one instant.
func together(n int, fn func(i int)) {
	var wg sync.WaitGroup
	gate := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-gate
			fn(i)
		})
	}
	close(gate)
	wg.Wait()
}
