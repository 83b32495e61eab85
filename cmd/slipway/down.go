package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway-paas/slipway/internal/engine"
	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/runtime/containerd"
)

// newDownCmd stops everything of an installation, with or without its server.
func newDownCmd() *cobra.Command {
	var c config
	cmd := &cobra.Command{
		Use: "down", Short: "Stop everything on this machine; data stays and comes back with the next start", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.load(cmd); err != nil {
				return err
			}
			if err := c.recall(cmd); err != nil {
				return err
			}
			if os.Geteuid() != 0 {
				return paas.Errorf(paas.CodeForbidden, "slipway down stops containers, which needs root").WithHint("sudo %s", joinArgs(os.Args))
			}
			if _, err := os.Stat(c.path("run")); os.IsNotExist(err) {
				newOutput(cmd).say("nothing runs on %s", c.Data)
				return nil
			}
			return down(cmd.Context(), &c, newOutput(cmd))
		},
	}
	c.register(cmd.Flags())
	cmd.Flags().String("config", "", "YAML file of the server")
	return cmd
}

// down goes from the top to the bottom: the server first, so that nobody starts
// again what is being stopped; containerd last, since only it can stop instances.
func down(ctx context.Context, c *config, out *output) error {
	log := slog.New(slog.DiscardHandler)
	unlock, err := stopServer(c)
	if err != nil {
		return err
	}
	defer unlock() // until the end: a server that starts meanwhile would start again what is being stopped
	out.say("server stopped")
	var errs []error
	r, err := newRouters(c, knownRouters(c), log)
	if err == nil {
		err = r.stop(ctx)
	}
	if err != nil {
		errs = append(errs, fmt.Errorf("stop routers: %w", err))
	} else {
		out.say("routers stopped")
	}
	e, err := engine.New(engineConfig(c, log))
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	n, err := stopInstances(ctx, c, e)
	if err != nil {
		errs = append(errs, fmt.Errorf("stop instances: %w", err))
	} else {
		out.say("%d instances stopped", n)
	}
	if err := e.Stop(ctx); err != nil {
		errs = append(errs, fmt.Errorf("stop engine: %w", err))
	} else {
		out.say("engine stopped")
	}
	if c.Containerd == "" { // an own one is stopped by now: what it left unfinished goes, too
		if err := containerd.EndShims(ctx, e.Addresses().Containerd, c.path("containerd", "state")); err != nil {
			errs = append(errs, fmt.Errorf("end shims: %w", err))
		}
	}
	if err := containerd.Down(ctx, c.id(), c.Data); err != nil {
		errs = append(errs, fmt.Errorf("take the network down: %w", err))
	}
	return errors.Join(errs...)
}

// stopServer ends the server that holds the data folder's lock, if there is one,
// and holds the lock instead.
func stopServer(c *config) (unlock func(), err error) {
	unlock, err = claimData(c)
	if err == nil || paas.CodeOf(err) != paas.CodeConflict {
		return unlock, err
	}
	b, err := os.ReadFile(c.path("run", "server.lock"))
	if err != nil {
		return nil, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid < 2 { // 0 and less would signal groups of processes
		return nil, fmt.Errorf("server.lock holds %q, which is no server's process number; find who has the file open (fuser %s)", b, c.path("run", "server.lock"))
	}
	deadline := time.Now().Add(2 * shutdownGrace)
	sig := syscall.SIGTERM
	for {
		_ = syscall.Kill(pid, sig) // gone already is fine: the lock tells
		if unlock, err := claimData(c); err == nil {
			return unlock, nil
		}
		if time.Now().After(deadline) {
			if sig == syscall.SIGKILL {
				return nil, fmt.Errorf("server (pid %d) does not end", pid)
			}
			sig, deadline = syscall.SIGKILL, time.Now().Add(5*time.Second)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// knownRouters are those of the configuration, whose server may have been killed
// before it wrote down their process numbers, and all that ever ran here.
func knownRouters(c *config) []string {
	names := routerNames(c.Routers)
	files, _ := filepath.Glob(c.path("run", "router-*.pid")) // the pattern is well-formed
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".pid")
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
