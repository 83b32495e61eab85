// Package builder is the build worker: it claims queued builds, opens the archive
// in place, asks buildpacks for a plan, has builder/llb solve it and records the
// image, the log and the cache ledger. Every step can be repeated: a worker that
// is killed leaves a build whose lease ends, and the next claim does it again.
//
// It imports buildpacks and internal/paas, never api, router, runtime,
// internal/store or internal/blob. Start with Worker.Run; build.go is the way of
// one build, outcome.go tells users' mistakes from our trouble, logs.go reads
// build logs.
package builder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/slipway-paas/slipway/builder/archive"
	"github.com/slipway-paas/slipway/builder/base"
	"github.com/slipway-paas/slipway/builder/llb"
	"github.com/slipway-paas/slipway/buildpacks/plan"
	"github.com/slipway-paas/slipway/buildpacks/source"
	"github.com/slipway-paas/slipway/internal/paas"
)

// Defaults of Options.
const (
	defaultConcurrency = 2
	defaultDeadline    = 15 * time.Minute
	defaultLease       = 30 * time.Second
	defaultInterval    = 5 * time.Second
	defaultMemory      = 2 << 30
	maxRetryWait       = 20 * time.Second
)

// Solver makes an image; *llb.Builder implements it.
type Solver interface {
	Build(ctx context.Context, r llb.Request) (*llb.Result, error)
}

// Bases provides base images and versions; *base.Bases implements it.
type Bases interface {
	Catalog(ctx context.Context) (source.Catalog, error)
	Base(ctx context.Context, say func(string)) (base.Image, error)
	Toolchain(ctx context.Context, say func(string)) (base.Image, error)
	Runtime(ctx context.Context, p plan.Package, say func(string)) (base.Image, error)
	Headers(ctx context.Context, p plan.Package, say func(string)) (base.Image, error)
	Tool(ctx context.Context, p plan.Package, say func(string)) (base.Image, error)
	// Tag reports false when there is no such image any more.
	Tag(ctx context.Context, from, wantDigest, to string) (bool, error)
}

var (
	_ Solver = (*llb.Builder)(nil)
	_ Bases  = (*base.Bases)(nil)
)

// Options configure a Worker. Zero fields mean the default.
type Options struct {
	Store  paas.Store // required
	Blobs  paas.Blobs // required
	Bases  Bases      // required
	Solver Solver     // required
	LogDir string     // DATA/logs/builds; required
	Name   string     // of this worker in leases; required

	Concurrency  int           // builds at a time; default 2
	Deadline     time.Duration // of one build; default 15 min
	Lease        time.Duration // default 30 s; renewed at a third of it
	Interval     time.Duration // look for work without a hint; default 5 s
	Registry     string        // npm registry for the steps
	CAFile       string        // PEM bundle for the steps; "" = SSL_CERT_FILE or Debian's bundle
	Proxy        llb.Proxy
	Limits       llb.Limits // of one step; default 2 GiB and all cores
	CgroupParent string     // of all steps, e.g. /slipway-1a2b3c/builds; "" = not ours to limit
	Archive      archive.Limits
	Log          *slog.Logger
}

func (o *Options) defaults() {
	if o.Concurrency < 1 {
		o.Concurrency = defaultConcurrency
	}
	if o.Deadline <= 0 {
		o.Deadline = defaultDeadline
	}
	if o.Lease <= 0 {
		o.Lease = defaultLease
	}
	if o.Interval <= 0 {
		o.Interval = defaultInterval
	}
	if o.Limits.MemoryBytes <= 0 {
		o.Limits.MemoryBytes = defaultMemory
	}
	if o.CAFile == "" {
		o.CAFile = os.Getenv("SSL_CERT_FILE")
	}
	if o.CAFile == "" {
		o.CAFile = "/etc/ssl/certs/ca-certificates.crt"
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
}

// Worker runs builds.
type Worker struct {
	o      Options
	active atomic.Int32
}

// New returns a Worker; Run starts it.
func New(o Options) (*Worker, error) {
	o.defaults()
	if err := os.MkdirAll(o.LogDir, 0o755); err != nil {
		return nil, err
	}
	return &Worker{o: o}, nil
}

// Run works until ctx ends, gives unfinished builds back to the queue and returns
// when all of that is done.
func (w *Worker) Run(ctx context.Context) error {
	if w.o.CgroupParent != "" {
		if err := w.limitSteps(); err != nil {
			w.o.Log.Warn("build steps have no common limit", "cgroup", w.o.CgroupParent, "err", err)
		}
		w.killSteps()
	}
	w.removeUploadedLogs(ctx)
	var slots sync.WaitGroup
	for i := range w.o.Concurrency {
		slots.Add(1)
		go func() {
			defer slots.Done()
			w.slot(ctx, fmt.Sprintf("%s-%d", w.o.Name, i+1))
		}()
	}
	slots.Wait()
	return nil
}

// slot does one build after the other.
func (w *Worker) slot(ctx context.Context, name string) {
	for ctx.Err() == nil {
		changed := w.o.Store.Changed() // before looking, or a build queued meanwhile is missed
		b, err := w.o.Store.ClaimBuild(ctx, name, w.o.Lease)
		if err != nil && ctx.Err() == nil {
			w.o.Log.Warn("claim build", "err", err)
		}
		if err == nil && b != nil {
			w.work(ctx, b)
			continue
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-time.After(w.o.Interval):
		}
	}
}

// Causes of a build's end from outside.
var (
	errCanceled = errors.New("canceled")
	errDeadline = errors.New("deadline")
	errFenced   = errors.New("another worker has the build")
)

// work runs one claimed build to its record.
func (w *Worker) work(ctx context.Context, b *paas.Build) {
	w.active.Add(1)
	defer w.active.Add(-1)
	log := w.o.Log.With("build", b.ID, "app", b.AppName, "attempt", b.Attempt)
	log.Info("build started")
	started := time.Now()
	bctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	bctx, stopTimer := context.WithTimeoutCause(bctx, w.o.Deadline, errDeadline)
	defer stopTimer()
	var keeper sync.WaitGroup
	keeperCtx, stopKeeper := context.WithCancel(context.WithoutCancel(ctx))
	keeper.Add(1)
	go func() {
		defer keeper.Done()
		w.keepLease(keeperCtx, b, cancel)
	}()
	defer func() {
		stopKeeper()
		keeper.Wait()
	}()
	state, err := w.run(bctx, ctx, b)
	log.Info("build ended", "state", state, "duration", time.Since(started), "err", err)
}

// keepLease renews the lease, and cancels the build when asked to or when the
// lease is somebody else's.
func (w *Worker) keepLease(ctx context.Context, b *paas.Build, cancel context.CancelCauseFunc) {
	renew := time.NewTicker(w.o.Lease / 3)
	defer renew.Stop()
	look := time.NewTicker(time.Second)
	defer look.Stop()
	good := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C: // only reads: a write each second would wake everybody
			if now, err := w.o.Store.Build(ctx, b.ID); err == nil && now.Canceled {
				cancel(errCanceled)
			}
		case <-renew.C:
			asked := time.Now()
			canceled, err := w.o.Store.RenewBuild(ctx, b.ID, b.Attempt, w.o.Lease)
			switch {
			case err == nil:
				good = asked
				if canceled {
					cancel(errCanceled)
				}
			case paas.CodeOf(err) == paas.CodeConflict, paas.CodeOf(err) == paas.CodeNotFound, time.Since(good) > w.o.Lease:
				cancel(errFenced)
			default:
				w.o.Log.Warn("renew lease", "build", b.ID, "err", err)
			}
		}
	}
}

// removeUploadedLogs deletes local logs that a killed worker had uploaded.
func (w *Worker) removeUploadedLogs(ctx context.Context) {
	files, err := filepath.Glob(filepath.Join(w.o.LogDir, "*.log"))
	if err != nil {
		return
	}
	for _, f := range files {
		id, err := strconv.ParseInt(strings.TrimSuffix(filepath.Base(f), ".log"), 10, 64)
		if err != nil {
			continue
		}
		b, err := w.o.Store.Build(ctx, id)
		if paas.CodeOf(err) == paas.CodeNotFound || err == nil && b.State.Final() && b.LogKey != "" {
			if err := os.Remove(f); err != nil {
				w.o.Log.Warn("remove build log", "err", err)
			}
		}
	}
}
