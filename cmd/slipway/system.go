package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"time"

	containerdclient "github.com/containerd/containerd/v2/client"

	"github.com/slipway-paas/slipway/api"
	"github.com/slipway-paas/slipway/builder"
	"github.com/slipway-paas/slipway/builder/base"
	"github.com/slipway-paas/slipway/internal/blob"
	"github.com/slipway-paas/slipway/internal/engine"
	"github.com/slipway-paas/slipway/internal/logfile"
	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/internal/seal"
	"github.com/slipway-paas/slipway/internal/store"
	"github.com/slipway-paas/slipway/router/feed"
	"github.com/slipway-paas/slipway/runtime/containerd"
	"github.com/slipway-paas/slipway/runtime/reconcile"
)

// engineStart bounds the start of all daemons; a cold machine needs seconds.
const engineStart = 90 * time.Second

// maxAppLogBytes is what one app's logs may take on disk.
const maxAppLogBytes = logfile.DefaultMaxAppBytes

// system is all parts of a server, joined.
type system struct {
	config *config
	log    *slog.Logger
	engine *engine.Engine
	// listener is the API's: open while the parts start, so that clients wait
	// instead of failing.
	listener net.Listener
	routers  *routers
	store    *store.Store
	blobs    *blob.Store
	logs     *logfile.Dir
	feed     *feed.Feed
	control  *http.Server
	driver   *containerd.Driver
	loop     *reconcile.Loop
	images   *containerdclient.Client // for base images
	bases    *base.Bases
	builder  *builder.Worker
	api      *api.Server
}

// newSystem starts the engine and joins the parts. After an error everything
// that it opened is closed; what it started goes on.
func newSystem(ctx context.Context, c *config, log *slog.Logger) (*system, error) {
	s := &system{config: c, log: log}
	for _, step := range []struct {
		name string
		run  func(context.Context) error
	}{
		// What another process on this machine may have is looked at before anything runs.
		{"listen for the API", s.listenAPI},
		{"check addresses", s.checkAddresses},
		{"open store", s.openStore},
		{"start engine", s.startEngine},
		{"open object storage", s.openBlobs},
		{"listen for routers", s.listenControl},
		{"start routers", s.startRouters},
		{"open runtime", s.openRuntime},
		{"open builder", s.openBuilder},
		{"open API", s.openAPI},
	} {
		began := time.Now()
		if err := step.run(ctx); err != nil {
			s.close()
			return nil, fmt.Errorf("%s: %w", step.name, err)
		}
		log.Info(step.name, "duration", time.Since(began).Round(time.Millisecond).String())
	}
	return s, nil
}

func (s *system) openStore(ctx context.Context) (err error) {
	s.store, err = openStore(ctx, s.config)
	return err
}

func openStore(ctx context.Context, c *config) (*store.Store, error) {
	return store.Open(ctx, c.Database, seal.New(c.path("secret.key")))
}

func engineConfig(c *config, log *slog.Logger) engine.Config {
	return engine.Config{
		DataDir: c.Data, EngineDir: c.Engine, ID: c.id(),
		ContainerdAddress: c.Containerd, BuildkitAddress: c.BuildKit,
		S3Endpoint: c.S3Endpoint, S3AccessKey: c.S3Access, S3SecretKey: c.S3Secret,
		BuildSubnet: c.BuildSubnet, BuildAllowed: mirrors(), Env: networkEnv(), Log: log,
	}
}

func (s *system) startEngine(ctx context.Context) (err error) {
	if s.engine, err = engine.New(engineConfig(s.config, s.log)); err != nil {
		return err
	}
	// Now something is started: `slipway down` must find it. A start that was refused
	// before says nothing about what runs.
	if err := s.config.remember(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, engineStart)
	defer cancel()
	return s.engine.Start(ctx)
}

func (s *system) openBlobs(ctx context.Context) (err error) {
	a := s.engine.Addresses()
	s.blobs, err = blob.New(blob.Options{
		Endpoint: a.S3Endpoint, AccessKey: a.S3AccessKey, SecretKey: a.S3SecretKey, Bucket: s.config.S3Bucket, Secure: a.S3Secure || s.config.S3TLS,
	})
	if err != nil {
		return err
	}
	return s.blobs.EnsureBucket(ctx)
}

// listenControl opens the socket on which routers get their tables. A socket
// that a killed server left is replaced; the data folder is ours alone.
func (s *system) listenControl(context.Context) error {
	s.logs = logfile.NewDir(s.config.path("logs", "apps"))
	s.feed = feed.New(feed.Options{Expect: routerNames(s.config.Routers), Log: s.log})
	path := s.config.controlSocket()
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return err
	}
	s.control = &http.Server{Handler: s.feed.Handler(), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = s.control.Serve(l) }() // ends with close; nothing is lost by it
	return nil
}

func (s *system) startRouters(ctx context.Context) (err error) {
	names := routerNames(s.config.Routers)
	if s.routers, err = newRouters(s.config, names, s.log); err != nil {
		return err
	}
	go endSurplusRouters(s.config, names, s.log)
	return s.routers.start(ctx)
}

func (s *system) openAPI(context.Context) (err error) {
	_, port, err := net.SplitHostPort(s.config.RouterListen)
	if err != nil {
		return fmt.Errorf("router-listen %q: %w", s.config.RouterListen, err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return fmt.Errorf("router-listen %q: %w", s.config.RouterListen, err)
	}
	s.api, err = api.New(api.Deps{
		Store: s.store, Blobs: s.blobs, Runtime: s.loop, Logs: s.logs, BuildLogs: &builder.Logs{Dir: s.config.path("logs", "builds"), Store: s.store, Blobs: s.blobs}, Router: s.feed, Components: s,
		CheckArchive: s.checkArchive, CheckManifest: checkManifest, Version: version, Log: s.log,
		Config: api.Config{
			Domains: s.config.Domains, RouterPort: n, PublicURL: s.config.PublicURL, DataDir: s.config.Data,
			MaxArchiveBytes: s.config.MaxArchiveMiB << 20,
		},
	})
	return err
}

var _ paas.Components = (*system)(nil)

// Components implements paas.Components: the server itself, its store, the
// daemons, the routers.
func (s *system) Components(ctx context.Context) []paas.ComponentStatus {
	out := []paas.ComponentStatus{{Name: "server", State: "ready", Version: version, PID: os.Getpid(), Since: processStart}, s.storeStatus(ctx)}
	out = append(out, s.engine.Components(ctx)...)
	return append(out, s.routers.status()...)
}

var processStart = time.Now()

func (s *system) storeStatus(ctx context.Context) paas.ComponentStatus {
	st := paas.ComponentStatus{Name: "store", State: "ready", Since: processStart}
	v, err := s.store.Version(ctx)
	if err != nil {
		st.State, st.Why = "unreachable", err.Error()
	}
	st.Version = v
	return st
}

// close lets go of everything and stops nothing that serves.
func (s *system) close() {
	if s.routers != nil {
		s.routers.release()
	}
	if s.driver != nil {
		_ = s.driver.Close()
	}
	if s.images != nil {
		_ = s.images.Close()
	}
	if s.engine != nil {
		s.engine.Release()
	}
	if s.control != nil {
		_ = s.control.Close()
	}
	if s.listener != nil {
		_ = s.listener.Close() // the API's server closed it, if there was one
	}
	if s.store != nil {
		if err := s.store.Close(); err != nil {
			s.log.Warn("close store", "err", err)
		}
	}
}

func stack() string { return string(debug.Stack()) }
