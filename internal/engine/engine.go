// Package engine runs the daemons that Slipway stands on, containerd, buildkitd
// and the S3 gateway, under one data folder, or checks those at configured
// addresses. It knows their configuration files, their readiness and what a
// killed one leaves behind.
//
// It must not import api, builder, router, runtime or internal/store: only
// cmd/slipway starts an engine and hands its addresses on. Start reading at
// Config and Engine.
package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/internal/supervise"
)

// maxSocketPath is what fits into sockaddr_un with its end, unix(7): 108 bytes,
// 104 on the smallest system that containerd's clients allow for.
const maxSocketPath = 103

// Config says where the engine lives and what is used from elsewhere instead.
type Config struct {
	DataDir   string // absolute
	EngineDir string // folder of build.sh's binaries, absolute
	ID        string // IDFor(DataDir) if empty; in the names of cgroups, interfaces and tables

	// An address that is set means: use that one, do not run ours.
	ContainerdAddress string // socket path
	BuildkitAddress   string // e.g. unix:///run/buildkit/buildkitd.sock
	S3Endpoint        string // host:port or URL
	S3AccessKey       string // with S3Endpoint only
	S3SecretKey       string // with S3Endpoint only

	BuildSubnet     string   // "" means a free /24 in 10.209.0.0/16, chosen once
	BuildResolvers  []string // addresses; empty means those of /etc/resolv.conf
	BuildAllowed    []string // host:port that builds may reach although it is in a denied range: mirrors
	BuildCacheBytes int64    // 0 means 20 GiB
	BuildParallel   int      // steps at a time; 0 means the number of cores

	// Env is added to buildkitd's environment: proxies and CA bundle.
	Env []string
	Log *slog.Logger // nil means slog.Default()
}

// IDFor derives the six hexadecimal digits that tell the engines of one machine
// apart.
func IDFor(dataDir string) string {
	sum := sha256.Sum256([]byte(filepath.Clean(dataDir)))
	return hex.EncodeToString(sum[:3])
}

// Addresses is how to reach the engine. It does not change while it runs.
type Addresses struct {
	Containerd  string // socket path
	Namespace   string // containerd namespace of images and instances
	Snapshotter string
	Buildkit    string // unix:///… or as configured
	S3Endpoint  string // host:port
	S3Secure    bool   // https
	S3AccessKey string
	S3SecretKey string `json:"-"`
	BuildCgroup string // parent of all build steps, e.g. /slipway-1a2b3c/builds
	BuildBridge string // interface of the builds' network
	BuildSubnet string
}

// Namespace is the containerd namespace that builder and runtime share: a built
// image is runnable at once.
const Namespace = "slipway"

// component is one daemon, ours or another's.
type component struct {
	name    string
	sup     *supervise.Supervisor // nil: at a configured address
	program string                // for Version; "" if not ours
	address string
	ready   func(context.Context) error
	marker  string
	pidFile string
}

// Engine is the set of daemons. Make it with New; its methods may be called by
// several goroutines.
type Engine struct {
	cfg        Config
	addr       Addresses
	components []*component // in order of start
	closers    []func()     // the probes' clients

	mu       sync.Mutex
	versions map[string]string // guarded by mu

	stopUpkeepLoop context.CancelFunc // guarded by mu; nil: not running
	upkeep         sync.WaitGroup
}

// New writes the daemons' configuration below DataDir and prepares them; it
// starts nothing.
func New(cfg Config) (*Engine, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	e := &Engine{cfg: cfg, versions: map[string]string{}}
	e.addr = Addresses{Namespace: Namespace, Snapshotter: "overlayfs"}
	for _, add := range []func() error{e.addContainerd, e.addS3, e.addBuildkit} {
		if err := add(); err != nil {
			return nil, err
		}
	}
	return e, nil
}

func (c *Config) setDefaults() error {
	if !filepath.IsAbs(c.DataDir) || !filepath.IsAbs(c.EngineDir) {
		return fmt.Errorf("data folder %q and engine folder %q must be absolute", c.DataDir, c.EngineDir)
	}
	if c.ID == "" {
		c.ID = IDFor(c.DataDir)
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.BuildCacheBytes == 0 {
		c.BuildCacheBytes = 20 << 30
	}
	return os.MkdirAll(c.DataDir, 0o711)
}

// Addresses returns how to reach the daemons.
func (e *Engine) Addresses() Addresses { return e.addr }

// Start starts or adopts what is ours, in order, and checks what is not. It
// returns once everything answers; ctx bounds that. On an error what was
// started stays: call Stop or Release.
func (e *Engine) Start(ctx context.Context) error {
	for _, c := range e.components {
		if err := c.start(ctx); err != nil {
			return err
		}
	}
	e.startUpkeep()
	return nil
}

// StartContainerd starts or adopts containerd alone: `slipway down` stops the
// instances with it and has no use for the rest, which may not even start.
func (e *Engine) StartContainerd(ctx context.Context) error {
	for _, c := range e.components {
		if c.name == "containerd" {
			return c.start(ctx)
		}
	}
	return nil
}

func (c *component) start(ctx context.Context) error {
	if c.sup != nil {
		return c.sup.Start(ctx)
	}
	if err := c.ready(ctx); err != nil {
		return fmt.Errorf("%s at %s does not answer: %w; check the address in the configuration", c.name, c.address, err)
	}
	return nil
}

// Release ends the supervision and leaves the daemons running for the next
// server.
func (e *Engine) Release() {
	for i := len(e.components) - 1; i >= 0; i-- {
		if s := e.components[i].sup; s != nil {
			s.Release()
		}
	}
	e.closeAll()
}

// Stop ends the daemons in reverse order and removes what builds left. It also
// ends those of an earlier, killed server: `slipway down` calls it on an Engine
// that was not started. Stop the apps before: without containerd nobody can.
func (e *Engine) Stop(ctx context.Context) error {
	e.stopUpkeep()
	var errs []error
	for i := len(e.components) - 1; i >= 0; i-- {
		c := e.components[i]
		if c.sup == nil {
			continue
		}
		if err := c.sup.Stop(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", c.name, err))
		}
		if c.name == "buildkitd" {
			// containerd is still there and forgets the steps properly.
			errs = append(errs, e.sweepBuilds(ctx), e.removeBuildNetwork())
		}
		if c.name == "containerd" {
			errs = append(errs, unmountBelow(e.dir("containerd")))
			_ = os.RemoveAll(e.shimSocketDir()) // empty by now, or its shims are gone
		}
	}
	e.closeAll()
	return errors.Join(errs...)
}

func (e *Engine) closeAll() {
	e.stopUpkeep()
	for _, c := range e.closers {
		c()
	}
}

var _ paas.Components = (*Engine)(nil)

// Components reports on each daemon, in order of start.
func (e *Engine) Components(ctx context.Context) []paas.ComponentStatus {
	var list []paas.ComponentStatus
	for _, c := range e.components {
		list = append(list, e.status(ctx, c))
	}
	return list
}

func (e *Engine) status(ctx context.Context, c *component) paas.ComponentStatus {
	if c.sup == nil {
		st := paas.ComponentStatus{Name: c.name, State: "ready", Version: "at " + c.address, Since: time.Now()}
		if err := c.ready(ctx); err != nil {
			st.State, st.Why = "unreachable", err.Error()
		}
		return st
	}
	s := c.sup.Status()
	return paas.ComponentStatus{
		Name: c.name, State: string(s.State), Version: e.version(ctx, c), PID: s.PID, Since: s.Since,
		Restarts: s.Restarts, Why: s.LastExit, LastLines: s.Lines,
	}
}

func (e *Engine) dir(elem ...string) string {
	return filepath.Join(append([]string{e.cfg.DataDir}, elem...)...)
}

// newComponent makes the supervised child p: the same names, marker and files
// for each daemon.
func (e *Engine) newComponent(p supervise.Process) (*component, error) {
	p.Marker = e.cfg.ID + "/" + p.Name
	p.PIDFile = e.dir("run", p.Name+".pid")
	p.LogFile = e.dir("logs", p.Name+".log")
	// Three daemons are asked; more often would cost more of an idle machine than the daemons do.
	p.HealthInterval, p.HealthFailures = 4*time.Second, 3
	c := &component{name: p.Name, program: p.Path, ready: p.Ready, marker: p.Marker, pidFile: p.PIDFile}
	if _, err := os.Stat(p.Path); err != nil {
		return nil, fmt.Errorf("%s is not built: %w; run deploy/engine/build.sh or set its address in the configuration", p.Name, err)
	}
	sup, err := supervise.New(p, e.cfg.Log)
	if err != nil {
		return nil, err
	}
	c.sup = sup
	return c, nil
}

// path is the daemons' PATH: ours first, then where mount, nft and friends are.
func (e *Engine) path() string {
	return "PATH=" + e.cfg.EngineDir + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
}

func checkSocket(path string) error {
	if len(path) > maxSocketPath {
		return fmt.Errorf("socket path %s has %d bytes, at most %d work; choose a shorter data folder (--data)",
			path, len(path), maxSocketPath)
	}
	return nil
}
