package reconcile

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/runtime/driver"
)

// Store is what reconcile needs of paas.Store.
type Store interface {
	Work(ctx context.Context) ([]paas.AppWork, error)
	Deployments(ctx context.Context, app string, limit int) ([]paas.Deployment, error)
	MoveDeployment(ctx context.Context, id int64, from, to paas.DeploymentState, watchUntil time.Time, f *paas.Failure) (moved bool, err error)
	SetWaiting(ctx context.Context, id int64, waiting string) error
	RemoveApp(ctx context.Context, appID string) (orphanKeys []string, err error)
	ImagesInUse(ctx context.Context) (map[string]bool, error)
	PruneReleases(ctx context.Context, keep int) (orphanKeys []string, err error)
	AddEvent(ctx context.Context, e paas.Event) error
	Changed() <-chan struct{}
	Leader(ctx context.Context, name, holder string, ttl time.Duration) (bool, error)
}

// Blobs is what reconcile needs of paas.Blobs.
type Blobs interface {
	Delete(ctx context.Context, key string) error
	Sweep(ctx context.Context, before time.Time) error
}

// Logs is what reconcile needs of paas.Logs.
type Logs interface {
	Remove(ctx context.Context, app string) error
}

var (
	_ Store = paas.Store(nil)
	_ Blobs = paas.Blobs(nil)
	_ Logs  = paas.Logs(nil)
)

// Options of a Loop.
type Options struct {
	Store  Store         // required
	Driver driver.Driver // required
	Router paas.Router   // required
	Blobs  Blobs         // required
	Logs   Logs          // required
	// Tail returns the last lines (at most n) that an instance wrote; nil = none.
	Tail func(ctx context.Context, app, instance string, n int) []string
	// Holder names this installation's server in the lease. It must be the same
	// after a restart, or the restarted server waits for its own lease to end.
	Holder string // required
	Policy Policy
	// ConfirmUnknown allows to stop instances though the store has no app at all.
	ConfirmUnknown bool
	Interval       time.Duration // looks at least so often; 0 means 2 s
	StatsEvery     time.Duration // 0 means 5 s
	SweepEvery     time.Duration // 0 means 30 s
	KeepReleases   int           // per app; 0 means 10
	Log            *slog.Logger  // nil discards
}

func (o Options) validate() error {
	switch {
	case o.Store == nil, o.Driver == nil, o.Router == nil, o.Blobs == nil, o.Logs == nil:
		return errors.New("reconcile: store, driver, router, blobs and logs must be given")
	case o.Holder == "":
		return errors.New("reconcile: holder must be given")
	}
	return nil
}

func (o Options) withDefaults() Options {
	if o.Tail == nil {
		o.Tail = func(context.Context, string, string, int) []string { return nil }
	}
	if o.Interval == 0 {
		o.Interval = 2 * time.Second
	}
	if o.StatsEvery == 0 {
		o.StatsEvery = 5 * time.Second
	}
	if o.SweepEvery == 0 {
		o.SweepEvery = 30 * time.Second
	}
	if o.KeepReleases == 0 {
		o.KeepReleases = 10
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}
