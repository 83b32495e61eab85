package builder_test

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/opencontainers/image-spec/identity"

	"github.com/slipway-paas/slipway/builder"
	"github.com/slipway-paas/slipway/builder/base"
	"github.com/slipway-paas/slipway/builder/llb"
	"github.com/slipway-paas/slipway/internal/blob"
	"github.com/slipway-paas/slipway/internal/engine"
	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/internal/seal"
	"github.com/slipway-paas/slipway/internal/store"
)

// env is a real engine, store and object store with a worker on top.
type env struct {
	t      *testing.T
	dir    string
	addr   engine.Addresses
	store  paas.Store
	blobs  paas.Blobs
	client *containerd.Client
	bases  *base.Bases
	logs   *builder.Logs
	canary string // a line of the CA bundle that must not get into any image
	caFile string
}

func newEnv(t *testing.T) *env {
	t.Helper()
	dir, err := os.MkdirTemp("", "sl") // socket paths are limited
	if err != nil {
		t.Fatal(err)
	}
	e := &env{t: t, dir: dir}
	cfg := engine.Config{DataDir: dir, EngineDir: engineDir(t), Log: slog.New(slog.DiscardHandler),
		BuildAllowed: []string{base.RegistryAddress(base.HostRegistry(t.Context()))}}
	t.Cleanup(func() {
		if stop, err := engine.New(cfg); err != nil {
			t.Error(err)
		} else if err := stop.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	eng, err := engine.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := eng.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(eng.Release)
	e.addr = eng.Addresses()
	e.openStores(ctx)
	e.openBases(ctx)
	return e
}

func engineDir(t *testing.T) string {
	dir := os.Getenv("SLIPWAY_ENGINE")
	if dir == "" {
		dir = "../bin/engine"
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func (e *env) openStores(ctx context.Context) {
	sealer := seal.New(filepath.Join(e.dir, "secret.key"))
	s, err := store.Open(ctx, "sqlite:"+filepath.Join(e.dir, "slipway.db"), sealer)
	e.must(err)
	e.t.Cleanup(func() { s.Close() })
	e.store = s
	b, err := blob.New(blob.Options{Endpoint: e.addr.S3Endpoint, AccessKey: e.addr.S3AccessKey, SecretKey: e.addr.S3SecretKey, Bucket: "slipway"})
	e.must(err)
	e.must(b.EnsureBucket(ctx))
	e.blobs = b
	e.logs = &builder.Logs{Dir: e.logDir(), Store: e.store, Blobs: e.blobs}
}

func (e *env) logDir() string { return filepath.Join(e.dir, "logs", "builds") }

// openBases keeps base tars outside the test's folder: making them takes a minute.
func (e *env) openBases(ctx context.Context) {
	c, err := containerd.New(e.addr.Containerd, containerd.WithDefaultNamespace(e.addr.Namespace))
	e.must(err)
	e.t.Cleanup(func() { c.Close() })
	e.client = c
	dir := os.Getenv("SLIPWAY_TEST_BASES")
	if dir == "" {
		cache, err := os.UserCacheDir()
		e.must(err)
		dir = filepath.Join(cache, "slipway-test", "bases")
	}
	e.bases, err = base.New(base.Options{Dir: dir, Containerd: c, Registry: base.HostRegistry(ctx)})
	e.must(err)
	bundle, err := os.ReadFile("/etc/ssl/certs/ca-certificates.crt")
	e.must(err)
	e.canary = fmt.Sprintf("canary-%d-%s", os.Getpid(), filepath.Base(e.dir))
	e.caFile = filepath.Join(e.dir, "ca.pem")
	e.must(os.WriteFile(e.caFile, append([]byte("# "+e.canary+"\n"), bundle...), 0o600))
}

func (e *env) must(err error) {
	e.t.Helper()
	if err != nil {
		e.t.Fatal(err)
	}
}

// work runs a worker until the test ends.
func (e *env) work(t *testing.T, change func(*builder.Options)) {
	t.Helper()
	o := builder.Options{
		Store: e.store, Blobs: e.blobs, Bases: e.bases, Solver: llb.New(e.addr.Buildkit),
		LogDir: e.logDir(), Name: t.Name(), Registry: base.HostRegistry(t.Context()), CAFile: e.caFile,
		CgroupParent: e.addr.BuildCgroup, Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&o)
	}
	w, err := builder.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Add(1)
	go func() {
		defer done.Done()
		if err := w.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		cancel()
		done.Wait()
	})
}

type files map[string]string

func zipOf(t *testing.T, f files) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	names := make([]string, 0, len(f))
	for n := range f {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		w, err := z.Create(n)
		if err == nil {
			_, err = w.Write([]byte(f[n]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// deploy accepts an archive and returns its deployment.
func (e *env) deploy(t *testing.T, app string, archive []byte) paas.Deployment {
	t.Helper()
	a, err := e.blobs.PutArchive(t.Context(), bytes.NewReader(archive), int64(len(archive)), 1<<30, "")
	if err != nil {
		t.Fatal(err)
	}
	d, _, err := e.store.AcceptDeploy(t.Context(), paas.NewDeploy{App: app, CreateApp: true, Archive: a, Origin: paas.OriginAPI, By: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// finished waits for the end of a deployment's build.
func (e *env) finished(t *testing.T, d paas.Deployment, within time.Duration) paas.Build {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		changed := e.store.Changed()
		b, err := e.store.Build(t.Context(), d.BuildID)
		if err != nil {
			t.Fatal(err)
		}
		if b.State.Final() {
			return b
		}
		select {
		case <-changed:
		case <-time.After(time.Until(deadline)):
			t.Fatalf("build %d of %s is %s after %s; its log:\n%s", b.ID, b.AppName, b.State, within, e.log(t, b))
		}
	}
}

func (e *env) built(t *testing.T, app string, archive []byte) paas.Build {
	t.Helper()
	b := e.finished(t, e.deploy(t, app, archive), 90*time.Second)
	if b.State != paas.BuildSucceeded {
		t.Fatalf("build of %s is %s: %+v; its log:\n%s", app, b.State, b.Failure, e.log(t, b))
	}
	return b
}

func (e *env) log(t *testing.T, b paas.Build) string {
	var out strings.Builder
	err := e.logs.Read(context.WithoutCancel(t.Context()), b, 0, false, func(l paas.BuildLine) error {
		fmt.Fprintf(&out, "%s: %s\n", l.Step, l.Text)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return out.String()
}

// inImage calls look with the image's file system.
func (e *env) inImage(t *testing.T, b paas.Build, look func(root string)) {
	t.Helper()
	ctx := t.Context()
	img, err := e.client.GetImage(ctx, b.Result.ImageRef)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := img.RootFS(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ctx, release, err := e.client.WithLease(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer release(context.WithoutCancel(ctx))
	sn := e.client.SnapshotService("overlayfs")
	key := fmt.Sprintf("look-%d-%d", b.ID, time.Now().UnixNano())
	mounts, err := sn.View(ctx, key, identity.ChainID(layers).String())
	if err != nil {
		t.Fatal(err)
	}
	defer sn.Remove(context.WithoutCancel(ctx), key)
	err = mount.WithTempMount(ctx, mounts, func(root string) error {
		look(root)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func ledger(t *testing.T, b paas.Build, step string) paas.LedgerEntry {
	t.Helper()
	for _, l := range b.Result.Ledger {
		if l.Step == step {
			return l
		}
	}
	text, _ := json.Marshal(b.Result.Ledger)
	t.Fatalf("no step %q in the ledger %s", step, text)
	return paas.LedgerEntry{}
}
