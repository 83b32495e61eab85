// Package apitest starts an API server for tests, over a Store that the test
// brings (a real one on SQLite) and in-memory stand-ins for the rest of the
// platform, and plays the parts of builder and reconcile on request. It is
// imported by tests only and imports api, its client and internal/paas.
//
// Start reading at Platform; blobs.go and runtime.go hold the stand-ins.
package apitest

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/slipway-paas/slipway/api"
	"github.com/slipway-paas/slipway/api/client"
	"github.com/slipway-paas/slipway/internal/paas"
)

// Platform is a server with all that it talks to.
type Platform struct {
	Store     paas.Store
	Blobs     *Blobs
	Runtime   *Runtime
	Logs      *Logs
	BuildLogs *BuildLogs
	Machine   *Machine
	API       *api.Server
	HTTP      *httptest.Server
	Token     string
	Client    *client.Client
	LogText   *Buffer // what the server logged, as JSON
}

// New starts a platform over store with one administrator, and stops it when the
// test ends. change may alter what the server is made of. An archive is accepted
// if it begins with "PK".
func New(t testing.TB, store paas.Store, change ...func(*api.Deps)) *Platform {
	t.Helper()
	p := &Platform{Store: store, Blobs: NewBlobs(), Runtime: &Runtime{}, Logs: &Logs{}, BuildLogs: NewBuildLogs(store), Machine: &Machine{}, LogText: &Buffer{}}
	d := api.Deps{
		Store: store, Blobs: p.Blobs, Runtime: p.Runtime, Logs: p.Logs, BuildLogs: p.BuildLogs, Router: p.Machine, Components: p.Machine,
		CheckArchive: checkArchive, CheckManifest: checkManifest, Version: "v0.0.0-test",
		Config: api.Config{RouterPort: 8080, DataDir: t.TempDir()},
		Log:    slog.New(slog.NewJSONHandler(p.LogText, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, f := range change {
		f(&d)
	}
	var err error
	if p.API, err = api.New(d); err != nil {
		t.Fatal(err)
	}
	var hash string
	p.Token, hash = api.NewToken()
	if _, err := store.EnsureAdmin(t.Context(), "admin", "test", hash); err != nil {
		t.Fatal(err)
	}
	p.HTTP = httptest.NewUnstartedServer(nil)
	p.HTTP.Config = p.API.HTTPServer("")
	p.HTTP.Start()
	if p.Client, err = client.New(p.HTTP.URL, p.Token); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Client.Close()
		p.API.Close()
		p.HTTP.Close()
	})
	return p
}

func checkArchive(_ context.Context, r io.ReaderAt, size int64) error {
	head := make([]byte, 2)
	if _, err := r.ReadAt(head, 0); err != nil || !bytes.Equal(head, []byte("PK")) {
		return paas.Errorf(paas.CodeInvalid, "%d bytes are no archive", size).WithHint("send a zip or tar.gz")
	}
	return nil
}

func checkManifest(manifest, _ []byte) error {
	if manifest != nil && manifest[0] != '{' {
		return paas.Errorf(paas.CodeInvalid, "manifest.json, line 1, column 1: not an object")
	}
	return nil
}

// Build plays the builder for the oldest queued build: it writes lines to the
// log and finishes it with an image. The app's deployment is rolling after.
func (p *Platform) Build(t testing.TB, lines ...string) paas.Release {
	t.Helper()
	b := p.Claim(t)
	for _, l := range lines {
		p.BuildLogs.Add(b.ID, l)
	}
	r, err := p.Store.FinishBuild(t.Context(), b.ID, b.Attempt, paas.BuildResult{
		ImageRef: paas.ImageRef(b.AppID, b.ID), ImageDigest: "sha256:" + zeros, Type: paas.TypeWeb, Command: []string{"node", "server.js"},
		Env: []string{"NODE_ENV=production"}, Plan: []byte(`{"kind":"test"}`), Health: paas.HealthCheck{Path: "/", StartupTime: 30 * time.Second},
		Ledger: []paas.LedgerEntry{{Step: "dependencies", Key: "k", Changed: []string{"first build"}, Duration: time.Second}},
		Grace:  10 * time.Second,
	}, "")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const zeros = "0000000000000000000000000000000000000000000000000000000000000000"

// Claim plays a builder that takes the oldest queued build.
func (p *Platform) Claim(t testing.TB) *paas.Build {
	t.Helper()
	b, err := p.Store.ClaimBuild(t.Context(), "apitest", time.Minute)
	if err != nil || b == nil {
		t.Fatalf("no build to claim: %v", err)
	}
	return b
}

// Move plays reconcile: it takes a deployment from one state to the next.
func (p *Platform) Move(t testing.TB, id int64, from, to paas.DeploymentState, f *paas.Failure) {
	t.Helper()
	moved, err := p.Store.MoveDeployment(t.Context(), id, from, to, time.Now().Add(time.Minute), f)
	if err != nil || !moved {
		t.Fatalf("deployment %d did not move from %s to %s: %v", id, from, to, err)
	}
}

// Deploy takes an app from an archive to a release that has succeeded.
func (p *Platform) Deploy(t testing.TB, app, content string) paas.Release {
	t.Helper()
	d, err := p.Client.Deploy(t.Context(), client.DeployRequest{App: app, Create: true, Open: Content(content), Size: int64(len(content))})
	if err != nil {
		t.Fatal(err)
	}
	r := p.Build(t, "installed 3 packages")
	p.Succeed(t, d.ID)
	return r
}

// Succeed takes a rolling deployment to its end.
func (p *Platform) Succeed(t testing.TB, id int64) {
	t.Helper()
	p.Move(t, id, paas.DeploymentRolling, paas.DeploymentLive, nil)
	p.Move(t, id, paas.DeploymentLive, paas.DeploymentSucceeded, nil)
}

// Content is an Open for client.DeployRequest.
func Content(s string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader([]byte(s))), nil }
}
