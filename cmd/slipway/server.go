package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway-paas/slipway/internal/paas"
)

// shutdownGrace bounds how long requests to the API may go on after a stop.
const shutdownGrace = 5 * time.Second

func newServerCmd() *cobra.Command {
	var c config
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Run the control plane: API, builder, reconcile; starts engine and routers",
		Long: `Runs the control plane. containerd, buildkitd, the S3 gateway and the routers are started as processes of their own and go on
when the server stops or is killed; the next start adopts them. "slipway down" stops everything.

Each flag can be given as environment variable (--router-listen is SLIPWAY_ROUTER_LISTEN) or in the YAML file of --config
(router-listen: …). Flag wins over environment over file.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.load(cmd); err != nil {
				return err
			}
			return serve(cmd.Context(), &c)
		},
	}
	c.register(cmd.Flags())
	cmd.Flags().String("config", "", "YAML file with the same names as the flags")
	return cmd
}

func newLogger(level string) *slog.Logger {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		l = slog.LevelInfo
	}
	return slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: l}))
}

// serve runs one server until ctx ends. What it started goes on.
func serve(ctx context.Context, c *config) error {
	log := newLogger(c.LogLevel)
	slog.SetDefault(log)
	if os.Geteuid() != 0 {
		return paas.Errorf(paas.CodeForbidden, "slipway server runs containers, which needs root").WithHint("sudo %s", joinArgs(os.Args))
	}
	unlock, err := claimData(c)
	if err != nil {
		return err
	}
	defer unlock()
	s, err := newSystem(ctx, c, log)
	if err != nil {
		return err
	}
	defer s.close()
	return s.run(ctx)
}

func joinArgs(args []string) string {
	out := ""
	for i, a := range args {
		if i > 0 {
			out += " "
		}
		out += a
	}
	return out
}

// claimData makes the data folder and makes sure that this server is the only
// one on it. The lock ends with the process, whatever ends it.
func claimData(c *config) (unlock func(), err error) {
	for _, d := range []string{c.Data, c.path("run"), c.path("logs"), c.path("router")} {
		// Traversable, not readable: containers' roots lie below it (design.md §9).
		if err := os.MkdirAll(d, 0o711); err != nil {
			return nil, fmt.Errorf("make data folder: %w", err)
		}
	}
	f, err := os.OpenFile(c.path("run", "server.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		pid, _ := os.ReadFile(c.path("run", "server.lock"))
		f.Close()
		return nil, paas.Errorf(paas.CodeConflict, "another server (pid %s) runs on %s", pid, c.Data).WithHint("stop it, or choose another --data")
	}
	if err := errors.Join(f.Truncate(0), writeAt(f, strconv.Itoa(os.Getpid()))); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

func writeAt(f *os.File, s string) error {
	_, err := f.WriteAt([]byte(s), 0)
	return err
}

// run starts the loops and the API and waits for the first that ends.
func (s *system) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	loops := map[string]func(context.Context) error{
		"reconcile": s.loop.Run, "builder": s.builder.Run, "bases": s.bases.Run, "log pruning": s.pruneLogs,
	}
	ended := make(chan struct{}, len(loops))
	for name, loop := range loops {
		go func() {
			defer func() { ended <- struct{}{} }()
			defer recoverTo(cancel, name)
			if err := loop(ctx); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("%s ended: %w", name, err))
			}
		}()
	}
	srv := s.api.HTTPServer(s.config.Listen)
	go func() {
		if err := srv.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
			cancel(fmt.Errorf("API ended: %w", err))
		}
	}()
	s.log.Info("serving", "api", s.config.PublicURL, "router", s.config.RouterListen, "data", s.config.Data, "version", version)
	<-ctx.Done()
	cause := context.Cause(ctx)
	s.log.Info("stopping; apps, routers and engine go on", "cause", cause)
	grace, stop := context.WithTimeout(context.Background(), shutdownGrace)
	defer stop()
	if err := srv.Shutdown(grace); err != nil {
		_ = srv.Close() // open requests have had their time
	}
	for range loops {
		select {
		case <-ended:
		case <-grace.Done():
		}
	}
	if errors.Is(cause, context.Canceled) {
		return nil
	}
	return cause
}

// recoverTo turns a panic of a loop into the server's end with its stack in the
// log: whatever runs goes on, and a service manager starts the server again.
func recoverTo(cancel context.CancelCauseFunc, name string) {
	if r := recover(); r != nil {
		cancel(fmt.Errorf("%s: panic: %v\n%s", name, r, stack()))
	}
}

// pruneLogs keeps each app's logs below their limit.
func (s *system) pruneLogs(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Minute):
		}
		if n, err := s.logs.Prune(ctx, maxAppLogBytes); err != nil && ctx.Err() == nil {
			s.log.Warn("prune logs", "err", err)
		} else if n > 0 {
			s.log.Info("pruned logs", "bytes", n)
		}
	}
}
