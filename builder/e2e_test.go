package builder_test

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/moby/buildkit/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/slipway-paas/slipway/builder"
	"github.com/slipway-paas/slipway/builder/llb"
	"github.com/slipway-paas/slipway/internal/paas"
)

const server = `require("express")().get("/",(q,s)=>s.send("one")).listen(process.env.PORT)`

func express(t *testing.T) files {
	t.Helper()
	f := files{"app.js": server}
	for _, name := range []string{"package.json", "package-lock.json"} {
		text, err := os.ReadFile(filepath.Join("testdata/express", name))
		if err != nil {
			t.Fatal(err)
		}
		f[name] = string(text)
	}
	return f
}

// withBuild is an app without dependencies whose build script is script.
func withBuild(script string) files {
	return files{"package.json": `{"scripts":{"build":` + quote(script) + `,"start":"node app.js"}}`, "app.js": "1"}
}

func quote(s string) string { return `"` + strings.ReplaceAll(s, `"`, `\"`) + `"` }

// TestWorker_RealEngine is one test, since an engine takes seconds to start.
func TestWorker_RealEngine(t *testing.T) {
	e := newEnv(t)
	t.Run("Express", func(t *testing.T) { testExpress(t, e) })
	t.Run("Ready", func(t *testing.T) { testReady(t, e) })
	t.Run("BuildScript", func(t *testing.T) { testBuildScript(t, e) })
	t.Run("Failures", func(t *testing.T) { testFailures(t, e) })
	t.Run("Deadline", func(t *testing.T) { testDeadline(t, e) })
	t.Run("Cancel", func(t *testing.T) { testCancel(t, e) })
	t.Run("OurTrouble", func(t *testing.T) { testOurTrouble(t, e) })
	t.Run("MemoryBomb", func(t *testing.T) { testMemoryBomb(t, e) })
}

func testExpress(t *testing.T, e *env) {
	e.work(t, nil)
	app := express(t)
	first := e.built(t, "hello", zipOf(t, app))
	if l := ledger(t, first, llb.StepDependencies); l.Hit || l.Changed[0] != "first build" {
		t.Errorf("first build: dependencies = %+v, want a miss because of the first build", l)
	}

	app["app.js"] = strings.Replace(server, "one", "two", 1) // same size
	started := time.Now()
	second := e.built(t, "hello", zipOf(t, app))
	t.Logf("code change: %s", time.Since(started))
	if l := ledger(t, second, llb.StepDependencies); !l.Hit {
		t.Errorf("code change: dependencies = %+v, want a hit", l)
	}
	if l := ledger(t, second, llb.StepApp); l.Hit || strings.Join(l.Changed, ",") != "app.js" {
		t.Errorf("code change: app = %+v, want app.js changed", l)
	}
	e.inImage(t, second, func(root string) {
		got, err := os.ReadFile(filepath.Join(root, "u01/app/app.js"))
		if err != nil || string(got) != app["app.js"] {
			t.Errorf("app.js in the image = %q (%v), want the new content", got, err)
		}
		if _, err := os.Stat(filepath.Join(root, "u01/app/node_modules/express/package.json")); err != nil {
			t.Error(err)
		}
	})

	started = time.Now()
	third := e.built(t, "hello", zipOf(t, app))
	t.Logf("unchanged: %s", time.Since(started))
	if !third.Result.Reused || third.Result.ImageDigest != second.Result.ImageDigest {
		t.Errorf("unchanged: reused %v, digest %s, want that of build %d", third.Result.Reused, third.Result.ImageDigest, second.ID)
	}
	noCanary(t, e, second)

	prune(t, e)
	again := e.built(t, "other", zipOf(t, app))
	if again.Result.ImageDigest != second.Result.ImageDigest {
		t.Errorf("after a prune the digest is %s, want %s; only in one of them:\n%s", again.Result.ImageDigest, second.Result.ImageDigest, difference(listing(t, e, second), listing(t, e, again)))
	}
}

func prune(t *testing.T, e *env) {
	t.Helper()
	c, err := client.New(t.Context(), e.addr.Buildkit)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Prune(t.Context(), nil, client.PruneAll); err != nil {
		t.Fatal(err)
	}
}

// listing is every entry of every layer, as far as it makes the digest.
func listing(t *testing.T, e *env, b paas.Build) map[string]bool {
	t.Helper()
	ctx, out := t.Context(), map[string]bool{}
	img, err := e.client.GetImage(ctx, b.Result.ImageRef)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := images.Manifest(ctx, e.client.ContentStore(), img.Target(), nil)
	if err != nil {
		t.Fatal(err)
	}
	config, err := content.ReadBlob(ctx, e.client.ContentStore(), manifest.Config)
	if err != nil {
		t.Fatal(err)
	}
	out[string(config)] = true
	for i, d := range manifest.Layers {
		r, err := e.client.ContentStore().ReaderAt(ctx, d)
		if err != nil {
			t.Fatal(err)
		}
		layer := tar.NewReader(content.NewReader(r))
		for h, err := layer.Next(); err == nil; h, err = layer.Next() {
			sum := sha256.New()
			io.Copy(sum, layer)
			out[fmt.Sprintf("%d %s %o %d:%d %s %s %x", i, h.Name, h.Mode, h.Uid, h.Gid, h.ModTime, h.PAXRecords, sum.Sum(nil)[:4])] = true
		}
		r.Close()
	}
	return out
}

func difference(a, b map[string]bool) string {
	var lines []string
	for l := range a {
		if !b[l] {
			lines = append(lines, "- "+l)
		}
	}
	for l := range b {
		if !a[l] {
			lines = append(lines, "+ "+l)
		}
	}
	sort.Strings(lines)
	return strings.Join(lines[:min(len(lines), 20)], "\n")
}

// noCanary searches config and layers for a line of the CA bundle.
func noCanary(t *testing.T, e *env, b paas.Build) {
	t.Helper()
	ctx := t.Context()
	img, err := e.client.GetImage(ctx, b.Result.ImageRef)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := images.Manifest(ctx, e.client.ContentStore(), img.Target(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range append([]ocispec.Descriptor{img.Target(), manifest.Config}, manifest.Layers...) {
		r, err := e.client.ContentStore().ReaderAt(ctx, d)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(content.NewReader(r))
		r.Close()
		if err != nil || strings.Contains(string(text), e.canary) {
			t.Errorf("%s holds the server's CA bundle (%v)", d.Digest, err)
		}
	}
	if strings.Contains(e.log(t, b), e.canary) {
		t.Error("the log holds the server's CA bundle")
	}
}

func testReady(t *testing.T, e *env) {
	e.work(t, nil)
	b := e.built(t, "ready", zipOf(t, files{
		"manifest.json": `{"command":"node server.js","type":"web"}`, "server.js": "1",
		"package.json": `{"dependencies":{"a":"1"}}`, "node_modules/a/package.json": `{"name":"a"}`, "node_modules/a/index.js": "2",
	}))
	log := e.log(t, b)
	if !strings.Contains(log, "kind: ready") || strings.Contains(log, ": $ ") {
		t.Errorf("a ready archive ran a command:\n%s", log)
	}
	e.inImage(t, b, func(root string) {
		info, err := os.Stat(filepath.Join(root, "u01/app/node_modules/a/index.js"))
		if err != nil || info.ModTime().After(time.Now()) {
			t.Errorf("%v (%v), want a file with a time in the past", info, err)
		}
	})
}

func testBuildScript(t *testing.T, e *env) {
	e.work(t, nil)
	app := withBuild(`mkdir -p dist && cp app.js dist/out.js && echo $npm_config_registry $HOME > dist/env && id -u >> dist/env`)
	first := e.built(t, "compiled", zipOf(t, app))
	e.inImage(t, first, func(root string) {
		env, _ := os.ReadFile(filepath.Join(root, "u01/app/dist/env"))
		if !strings.Contains(string(env), "/tmp") || !strings.HasSuffix(string(env), "10001\n") {
			t.Errorf("the step saw %q, want HOME /tmp and uid 10001", env)
		}
	})
	app["app.js"] = "2"
	second := e.built(t, "compiled", zipOf(t, app))
	e.inImage(t, second, func(root string) {
		if out, err := os.ReadFile(filepath.Join(root, "u01/app/dist/out.js")); string(out) != "2" {
			t.Errorf("dist/out.js = %q (%v), want that of the new source", out, err)
		}
	})
	if l := ledger(t, second, llb.StepBuild); l.Hit || strings.Join(l.Changed, ",") != "source" {
		t.Errorf("build = %+v, want a miss because of the source", l)
	}
}

func testFailures(t *testing.T, e *env) {
	e.work(t, nil)
	stale := express(t)
	stale["package.json"] = strings.Replace(stale["package.json"], `"express"`, `"koa":"^2","express"`, 1)
	for name, c := range map[string]struct {
		archive []byte
		code    string
		text    string
	}{
		"no-archive":  {[]byte("hello"), "invalid_archive", ""},
		"no-start":    {zipOf(t, files{"package.json": "{}"}), "no_start_command", "looked for"},
		"no-language": {zipOf(t, files{"x.py": "1"}), "unknown_language", ""},
		"manifest":    {zipOf(t, files{"manifest.json": "{\n\"type\":\"x\"}", "app.js": "1"}), "invalid_archive", "line 2 column 8"},
		"version":     {zipOf(t, files{"package.json": `{"engines":{"node":"999"}}`, "app.js": "1"}), "unsupported_version", ""},
		"lock-stale":  {zipOf(t, stale), llb.FailStep, "npm ci --omit=dev"},
		"build-fails": {zipOf(t, withBuild("echo sorry && exit 7")), llb.FailStep, "`npm run build` ended with exit code 7"},
	} {
		t.Run(name, func(t *testing.T) {
			b := e.finished(t, e.deploy(t, name, c.archive), time.Minute)
			f := b.Failure
			if b.State != paas.BuildFailed || f == nil || f.Code != c.code || !strings.Contains(f.Message, c.text) || f.Message == "" {
				t.Fatalf("build is %s with %+v, want the failure %s with %q; its log:\n%s", b.State, f, c.code, c.text, e.log(t, b))
			}
			if name == "build-fails" && !strings.Contains(strings.Join(f.Output, "\n"), "sorry") {
				t.Errorf("output = %q, want the last lines of the step", f.Output)
			}
		})
	}
}

func testDeadline(t *testing.T, e *env) {
	e.work(t, func(o *builder.Options) { o.Deadline = 6 * time.Second })
	b := e.finished(t, e.deploy(t, "slow", zipOf(t, withBuild("sleep 300"))), time.Minute)
	if b.State != paas.BuildFailed || b.Failure.Code != "build_deadline" {
		t.Fatalf("build is %s with %+v, want the deadline", b.State, b.Failure)
	}
	noSteps(t, e)
}

func testCancel(t *testing.T, e *env) {
	e.work(t, nil)
	d := e.deploy(t, "canceled", zipOf(t, withBuild("echo begun && sleep 300")))
	b, err := e.store.Build(t.Context(), d.BuildID)
	if err != nil {
		t.Fatal(err)
	}
	var canceled time.Time
	err = e.logs.Read(t.Context(), b, 0, true, func(l paas.BuildLine) error { // follows until the end
		if l.Text == "begun" {
			canceled = time.Now()
			_, err := e.store.CancelDeployment(t.Context(), d.ID, "test")
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	b = e.finished(t, d, time.Minute)
	if b.State != paas.BuildCanceled || canceled.IsZero() || time.Since(canceled) > 10*time.Second {
		t.Errorf("build is %s, %s after the cancel", b.State, time.Since(canceled))
	}
	noSteps(t, e)
}

// troubled fails and panics before it works.
type troubled struct {
	builder.Solver
	calls atomic.Int32
}

func (s *troubled) Build(ctx context.Context, r llb.Request) (*llb.Result, error) {
	switch s.calls.Add(1) {
	case 1:
		return nil, paas.Errorf(paas.CodeUnavailable, "buildkitd does not answer")
	case 2:
		panic("a mistake of ours")
	}
	return s.Solver.Build(ctx, r)
}

func testOurTrouble(t *testing.T, e *env) {
	e.work(t, func(o *builder.Options) { o.Solver = &troubled{Solver: o.Solver} })
	b := e.built(t, "troubled", zipOf(t, withBuild("true")))
	if log := e.log(t, b); b.Attempt != 3 || !strings.Contains(log, "attempt 3") {
		t.Errorf("attempt %d; want success at the third, with the log of all:\n%s", b.Attempt, log)
	}
}

func testMemoryBomb(t *testing.T, e *env) {
	e.work(t, func(o *builder.Options) { o.Limits.MemoryBytes = 192 << 20 })
	bomb := withBuild(`node -e 'const a=[];for(;;)a.push(Buffer.alloc(16<<20,1))'`)
	b := e.finished(t, e.deploy(t, "bomb", zipOf(t, bomb)), time.Minute)
	if b.State != paas.BuildFailed || b.Failure.Code != llb.FailMemory || !strings.Contains(b.Failure.Message, "192 MiB") {
		t.Errorf("build is %s with %+v, want out of memory at 192 MiB; its log:\n%s", b.State, b.Failure, e.log(t, b))
	}
}

// noSteps waits until no process of a step is left.
func noSteps(t *testing.T, e *env) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		left := ""
		for _, pattern := range []string{"/sys/fs/cgroup/memory", "/sys/fs/cgroup"} {
			_ = filepath.Walk(pattern+e.addr.BuildCgroup, func(path string, _ os.FileInfo, err error) error {
				if err == nil && filepath.Base(path) == "cgroup.procs" {
					text, _ := os.ReadFile(path)
					left += string(text)
				}
				return nil
			})
		}
		if strings.TrimSpace(left) == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("processes of build steps are left: %s", left)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
