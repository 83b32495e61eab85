package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	v1 "github.com/slipway-paas/slipway/api/v1"
	"github.com/slipway-paas/slipway/internal/paas"
)

func newScaleCmd() *cobra.Command {
	cmd := ofApp(&cobra.Command{
		Use: "scale web=N", Short: "Set the number of instances and wait for them", Args: cobra.ExactArgs(1),
		Example: `  slipway scale web=3 -a shop
  slipway scale worker=0 -a mailer --async`,
		RunE: runScale,
	})
	cmd.Flags().Bool("async", false, "do not wait")
	return cmd
}

func runScale(cmd *cobra.Command, args []string) error {
	name, count, ok := strings.Cut(args[0], "=")
	n, err := strconv.Atoi(count)
	if !ok || err != nil || name != "web" && name != "worker" {
		return usageError{fmt.Errorf("%q is not like web=3", args[0])}
	}
	s, err := openApp(cmd, ".")
	if err != nil {
		return err
	}
	app, err := s.App(cmd.Context(), s.app)
	if err != nil {
		return err
	}
	if app.Type != name {
		return usageError{paas.Errorf(paas.CodeInvalid, "%s has %s instances, not %s", app.Name, app.Type, name).WithHint("slipway scale %s=%d -a %s", app.Type, n, app.Name)}
	}
	app, err = s.ChangeApp(cmd.Context(), s.app, v1.ChangeApp{Instances: &n})
	if err != nil {
		return err
	}
	if async, _ := cmd.Flags().GetBool("async"); !async && app.LiveRelease > 0 && !app.Stopped {
		if app, err = s.waitInstances(cmd.Context(), n); err != nil {
			return err
		}
	}
	return s.out.done(app, "%s runs %d of %d instances", app.Name, app.Observed.Healthy, n)
}

// waitInstances waits until the observed count is the wanted one.
func (s *session) waitInstances(ctx context.Context, n int) (v1.App, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		app, err := s.App(ctx, s.app)
		if err != nil {
			return app, err
		}
		if app.Observed.Healthy >= n && app.Observed.Total <= n || app.Instances != n || app.Stopped {
			return app, nil
		}
		select {
		case <-ctx.Done():
			return app, paas.Errorf(paas.CodeUnavailable, "%d of %d instances are healthy after 2 min", app.Observed.Healthy, n).WithHint("slipway ps -a %s", s.app)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
