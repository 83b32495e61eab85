// Package containerd is the driver for one machine: every instance is a
// containerd container with one runc task, a network of its own, process 1 of
// ours (cmd/slipway-init) and a log sink of ours (cmd/slipway-sink).
//
// What exists is read from containerd by labels; the only thing kept beside it is
// DATA/run/instances/<id>/state.json: that the instance ran, and how it ended if
// its task is gone. Instances need neither this process nor containerd to go on.
//
// It imports runtime/driver, runtime/network, internal/logfile and internal/paas.
// Start reading at New, then start.go, stop.go, list.go; spec.go holds every
// restriction.
package containerd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/dialer"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/slipway-paas/slipway/internal/logfile"
	"github.com/slipway-paas/slipway/runtime/driver"
	"github.com/slipway-paas/slipway/runtime/network"
)

const (
	namespace   = "slipway"
	snapshotter = "overlayfs"
	runtimeName = "io.containerd.runc.v2"

	// cleanup bounds the removal of a half-made instance after its own context ended.
	cleanup = 20 * time.Second
)

var _ driver.Driver = (*Driver)(nil)

// Config says where everything is. All paths are absolute.
type Config struct {
	ID      string // of the installation, 6 hex digits (docs/contracts.md)
	DataDir string // DATA; run/ and logs/apps/ below it are used
	Address string // containerd's socket
	// StateDir is the state folder of the installation's own containerd, so that
	// what a killed shim left there can be removed; "" when it is another's.
	StateDir string
	Runc     string // binary
	Init     string // cmd/slipway-init, static
	Sink     string // cmd/slipway-sink, static
	// Network: ID and RunDir are filled in.
	Network network.Config
	Log     *slog.Logger // nil means slog.Default()
}

// Driver implements driver.Driver. Safe for concurrent use.
type Driver struct {
	cfg     Config
	client  *client.Client
	net     *network.Network
	cgroups cgroups
	logs    *logfile.Dir
	runtime typeurl.Any // options of every task
	ids     locks
	marks   marks
	images  layers
	users   users
}

var installationID = regexp.MustCompile(`^[0-9a-f]{6}$`)

// New prepares folders, network and firewall. containerd need not answer yet;
// calls fail with driver.ErrUnavailable until it does.
func New(cfg Config) (*Driver, error) {
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("containerd driver: %w", err)
	}
	run := filepath.Join(cfg.DataDir, "run")
	for dir, mode := range map[string]os.FileMode{
		filepath.Join(run, "instances"): 0o711, filepath.Join(run, "fifo"): 0o700, filepath.Join(run, "runc"): 0o700,
		filepath.Join(cfg.DataDir, "logs", "apps"): 0o700,
	} {
		if err := os.MkdirAll(dir, mode); err != nil {
			return nil, fmt.Errorf("containerd driver: %w", err)
		}
	}
	cfg.Network.ID, cfg.Network.RunDir = cfg.ID, run
	cfg.Network.Hold = ""
	if err := canIsolateUsers(cfg); err != nil {
		cfg.Log.Warn("instances get no user namespaces of their own", "err", err)
	} else {
		cfg.Network.Hold = cfg.Init
	}
	d := &Driver{cfg: cfg, logs: logfile.NewDir(filepath.Join(cfg.DataDir, "logs", "apps"))}
	d.cgroups = newCgroups("/sys/fs/cgroup", "/slipway-"+cfg.ID+"/apps")
	d.marks.dir = filepath.Join(run, "instances")
	var err error
	// Root keeps runc's state in the data folder as well.
	if d.runtime, err = typeurl.MarshalAnyToProto(&options.Options{BinaryName: cfg.Runc, Root: filepath.Join(run, "runc")}); err != nil {
		return nil, fmt.Errorf("containerd driver: %w", err)
	}
	if d.client, err = connect(cfg.Address); err != nil {
		return nil, fmt.Errorf("containerd driver: %w", err)
	}
	if d.net, err = network.New(cfg.Network); err != nil {
		d.client.Close()
		return nil, fmt.Errorf("containerd driver: %w", err)
	}
	if len(d.net.Resolvers()) == 0 {
		cfg.Log.Warn("instances have no DNS: the host names no IPv4 server that they could reach")
	}
	return d, nil
}

// Close ends the connection; instances run on.
func (d *Driver) Close() error {
	d.net.Close()
	return d.client.Close()
}

func (c *Config) complete() error {
	if !installationID.MatchString(c.ID) {
		return fmt.Errorf("installation ID %q is not 6 hex digits", c.ID)
	}
	for name, p := range map[string]string{"data folder": c.DataDir, "containerd address": c.Address, "runc": c.Runc, "init": c.Init, "sink": c.Sink} {
		if !filepath.IsAbs(p) {
			return fmt.Errorf("%s %q is not an absolute path", name, p)
		}
	}
	for _, p := range []string{c.Runc, c.Init, c.Sink} {
		if _, err := os.Stat(p); err != nil {
			return fmt.Errorf("program is missing; run make engine: %w", err)
		}
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return nil
}

// connect dials lazily. The usual back-off of gRPC grows to minutes; after a
// restart of containerd the first call should find it.
func connect(address string) (*client.Client, error) {
	params := grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.5, Jitter: 0.2, MaxDelay: time.Second},
		MinConnectTimeout: 2 * time.Second,
	}
	return client.New(address, client.WithDefaultNamespace(namespace), client.WithDialOpts([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(params),
		grpc.WithContextDialer(dialer.ContextDialer),
	}))
}

func inNamespace(ctx context.Context) context.Context {
	return namespaces.WithNamespace(ctx, namespace)
}

// mapped turns containerd's errors into those of the contract.
func mapped(err error) error {
	switch {
	case err == nil, errors.Is(err, driver.ErrUnavailable):
		return err
	case errdefs.IsUnavailable(err), errdefs.IsDeadlineExceeded(err):
		return fmt.Errorf("%w: %w", driver.ErrUnavailable, err)
	}
	return err
}
