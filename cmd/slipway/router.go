package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/internal/supervise"
	"github.com/slipway-paas/slipway/router"
)

// newRouterCmd is the data plane, a process of its own that `slipway server`
// starts and that outlives it.
func newRouterCmd() *cobra.Command {
	opt := router.Options{ReusePort: true, Build: version}
	var level string
	cmd := &cobra.Command{
		Use: "router", Short: "Run one router process (slipway server does it for you)", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opt.Log = newLogger(level)
			router.TuneProcess(opt.Log)
			r, err := router.New(opt)
			if err != nil {
				return usageError{err}
			}
			return r.Run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&opt.Name, "name", "router-1", "name, stable over restarts")
	f.StringVar(&opt.Listen, "listen", "127.0.0.1:8780", "address at which apps answer")
	f.StringVar(&opt.Control, "control", "", "control socket of the server, or http://host:port")
	f.StringVar(&opt.StateDir, "state", "", "folder for the last good table")
	f.DurationVar(&opt.DrainTimeout, "drain", 30*time.Second, "how long requests may go on after a stop")
	f.StringVar(&level, "log-level", "info", "debug, info, warn or error")
	return cmd
}

// routers are the supervised router processes of this machine.
type routers struct {
	names []string
	list  []*supervise.Supervisor // beside names
}

func routerNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("router-%d", i+1)
	}
	return names
}

// routerGrace is more than a router's own --drain.
const routerGrace = 35 * time.Second

func routerMarker(c *config, name string) string { return c.id() + "/" + name }

func routerPID(c *config, name string) string { return c.path("run", name+".pid") }

func newRouters(c *config, names []string, log *slog.Logger) (*routers, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	r := &routers{names: names}
	for _, name := range names {
		state := c.path("router", name)
		s, err := supervise.New(supervise.Process{
			Name: name, Path: exe,
			Args: []string{"router", "--name", name, "--listen", c.RouterListen, "--control", c.controlSocket(), "--state", state, "--log-level", c.LogLevel},
			// The router's heap is small: collect seldom, but stay below a bound.
			Env:    []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "GOMEMLIMIT=256MiB", "HOME=" + c.Data},
			Config: []byte(version), Marker: routerMarker(c, name), PIDFile: routerPID(c, name), LogFile: c.path("logs", name+".log"),
			Ready: adminAnswers(state), StartTimeout: 20 * time.Second, StopGrace: routerGrace,
			// A killed router has to be back before its clients have noticed.
			BackoffMin: 50 * time.Millisecond,
		}, log)
		if err != nil {
			return nil, err
		}
		r.list = append(r.list, s)
	}
	return r, nil
}

// adminAnswers asks a router's admin socket. A router without a table answers 503
// there and is alive: the first table comes from the server that is starting.
func adminAnswers(state string) func(context.Context) error {
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", state+"/admin.sock")
	}}}
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://router/healthz", nil)
		if err != nil {
			return err
		}
		resp, err := c.Do(req)
		if err != nil {
			return err
		}
		return resp.Body.Close()
	}
}

func (r *routers) start(ctx context.Context) error {
	for _, s := range r.list {
		if err := s.Start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// release leaves the routers running for the next server.
func (r *routers) release() {
	for _, s := range r.list {
		s.Release()
	}
}

func (r *routers) stop(ctx context.Context) error {
	var first error
	for _, s := range r.list {
		if err := s.Stop(ctx); err != nil && first == nil {
			first = err
		}
	}
	return first
}

func (r *routers) status() []paas.ComponentStatus {
	var out []paas.ComponentStatus
	for i, s := range r.list {
		st := s.Status()
		out = append(out, paas.ComponentStatus{
			Name: r.names[i], State: string(st.State), Version: version, PID: st.PID, Since: st.Since,
			Restarts: st.Restarts, Why: st.LastExit, LastLines: st.Lines,
		})
	}
	return out
}
