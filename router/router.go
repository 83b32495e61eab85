package router

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

const (
	headTimeout   = 10 * time.Second // for a client to send a request's head
	clientIdle    = 75 * time.Second
	lingerMax     = 2 * time.Second
	drainInterval = 20 * time.Millisecond
)

// Router is one router process. Make it with New, run it once with Run. Its other
// methods are safe for concurrent use.
type Router struct {
	opt  Options
	log  *slog.Logger
	boot string

	table     atomic.Pointer[table] // nil before the first one
	instances *instances
	metrics   *metrics
	tunnels   tunnels
	open      atomic.Int64 // requests and tunnels being served
	conns     atomic.Int64 // client connections
	draining  atomic.Bool

	control   *control
	saver     *saver
	listening chan struct{} // closed when addr is set
	addr      atomic.Pointer[string]

	applyMu sync.Mutex // one table at a time
}

// New checks the options, makes the state folder and reads the saved table. It
// opens no port yet.
func New(opt Options) (*Router, error) {
	if err := opt.Validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(opt.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("router: state folder: %w", err)
	}
	var boot [8]byte
	_, _ = rand.Read(boot[:]) // never fails, as of Go 1.24
	r := &Router{
		opt: opt, log: opt.Log.With("router", opt.Name), boot: hex.EncodeToString(boot[:]),
		metrics: newMetrics(), listening: make(chan struct{}),
	}
	r.tunnels.all = map[*tunnel]struct{}{}
	r.control = newControl(r)
	r.instances = &instances{onIdle: r.control.wake, all: map[paas.Endpoint]*instance{}}
	r.saver = newSaver(opt.StateDir)
	r.loadSaved()
	return r, nil
}

// Addr is the address listened on; "" before Run listens.
func (r *Router) Addr() string {
	if a := r.addr.Load(); a != nil {
		return *a
	}
	return ""
}

// Listening is closed when the router takes connections.
func (r *Router) Listening() <-chan struct{} { return r.listening }

// Run serves until ctx ends; then it takes no more connections, lets what is in
// flight end within DrainTimeout and returns nil. It returns early with an error
// when it cannot listen.
func (r *Router) Run(ctx context.Context) error {
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	admin, err := r.startAdmin()
	if err != nil {
		return err
	}
	defer admin.close()
	wg.Go(func() { r.control.run(background) })
	wg.Go(func() { r.saver.run(background, r.log) })
	wg.Go(func() { r.sweep(background) })
	r.awaitTable(ctx)
	ln, err := listen(ctx, r.opt.Listen, r.opt.ReusePort)
	if err != nil {
		return err
	}
	addr := ln.Addr().String()
	r.addr.Store(&addr)
	close(r.listening)
	r.control.wake()
	r.log.Info("router listening", "addr", addr, "boot", r.boot)
	err = r.serve(ctx, ln)
	r.instances.each(func(in *instance) { in.pool.close() })
	return err
}

// awaitTable holds the port back while other routers may know better where
// requests go than one without a table.
func (r *Router) awaitTable(ctx context.Context) {
	t := time.NewTimer(r.opt.FirstTableWait)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-r.control.first:
	case <-t.C:
		r.log.Warn("no table yet, listening without one", "waited", r.opt.FirstTableWait, "control", r.opt.Control)
	}
}

func (r *Router) serve(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{
		Handler:           r,
		ReadHeaderTimeout: headTimeout,
		IdleTimeout:       clientIdle,
		MaxHeaderBytes:    maxHeadBytes,
		ConnContext:       withGuard,
		ErrorLog:          slog.NewLogLogger(r.log.Handler(), slog.LevelDebug),
		ConnState: func(_ net.Conn, s http.ConnState) {
			switch s {
			case http.StateNew:
				r.conns.Add(1)
			case http.StateClosed, http.StateHijacked:
				r.conns.Add(-1)
			}
		},
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(&guardListener{Listener: ln, r: r}) }()
	select {
	case err := <-failed:
		_ = srv.Close()
		return fmt.Errorf("router: accept: %w", err)
	case <-ctx.Done():
	}
	r.drain(srv, ln)
	<-failed // Serve has returned: its listener is closed
	return nil
}

// drain ends the service. Idle keep-alive connections stay open for a moment: a
// request that is on its way to us is answered, with "Connection: close".
func (r *Router) drain(srv *http.Server, ln net.Listener) {
	start := time.Now()
	r.draining.Store(true)
	_ = ln.Close() // nothing to do about an error: the process ends
	r.log.Info("router draining", "inFlight", r.open.Load(), "connections", r.conns.Load(), "timeout", r.opt.DrainTimeout)
	await(time.Now().Add(min(lingerMax, r.opt.DrainTimeout/4)), func() bool { return r.conns.Load() == 0 && r.open.Load() == 0 })
	deadline := start.Add(r.opt.DrainTimeout)
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	if err := srv.Shutdown(ctx); err != nil && !errors.Is(err, net.ErrClosed) {
		r.log.Warn("requests cut at the end of the drain", "inFlight", r.open.Load(), "err", err)
		_ = srv.Close()
	}
	await(deadline, func() bool { return r.open.Load() == 0 })
	r.tunnels.closeAll()
	await(time.Now().Add(time.Second), func() bool { return r.open.Load() == 0 })
	r.log.Info("router stopped", "duration", time.Since(start), "cut", r.open.Load())
}

// await polls until done or the deadline.
func await(deadline time.Time, done func() bool) {
	for !done() && time.Now().Before(deadline) {
		time.Sleep(drainInterval)
	}
}

func (r *Router) sweep(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			r.instances.each(func(in *instance) { in.pool.sweep(now) })
		}
	}
}

// tunnels are the connections that net/http no longer knows of.
type tunnels struct {
	mu     sync.Mutex
	all    map[*tunnel]struct{}
	closed bool
}

func (s *tunnels) add(t *tunnel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		t.close()
		return
	}
	s.all[t] = struct{}{}
}

func (s *tunnels) remove(t *tunnel) {
	s.mu.Lock()
	delete(s.all, t)
	s.mu.Unlock()
}

func (s *tunnels) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for t := range s.all {
		t.close()
	}
}
