package main

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	v1 "github.com/slipway-paas/slipway/api/v1"
	"github.com/slipway-paas/slipway/internal/paas"
)

// appVerbs are the verbs about apps.
func appVerbs() []*cobra.Command {
	return []*cobra.Command{
		newDeployCmd(), newAppsCmd(), newCreateCmd(), newInfoCmd(), newPsCmd(), newLogsCmd(), newScaleCmd(),
		newReleasesCmd(), newRollbackCmd(), newDeploymentsCmd(), newCancelCmd(), newEnvCmd(),
		newActCmd("restart", "Restart an app, one instance after the other"),
		newActCmd("stop", "Stop an app; its releases, configuration and logs stay"),
		newActCmd("start", "Start a stopped app"),
		newExecCmd(), newOpenCmd(), newEventsCmd(), newDestroyCmd(),
	}
}

func newAppsCmd() *cobra.Command {
	return remote(&cobra.Command{
		Use: "apps", Short: "List apps with their state", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := open(cmd)
			if err != nil {
				return err
			}
			apps, err := s.Apps(cmd.Context())
			if err != nil {
				return err
			}
			if len(apps) == 0 && !s.out.json {
				s.out.say("no apps yet; deploy one:  slipway deploy DIR")
				return nil
			}
			rows := [][]string{}
			for _, a := range apps {
				rows = append(rows, []string{a.Name, a.State, fmt.Sprintf("%d/%d", a.Observed.Healthy, a.Instances), release(a.LiveRelease), strings.Join(a.URLs, " ")})
			}
			return s.out.table(v1.Apps{Apps: apps}, []string{"APP", "STATE", "HEALTHY", "RELEASE", "URL"}, rows)
		},
	})
}

func release(n int) string {
	if n == 0 {
		return "-"
	}
	return "v" + strconv.Itoa(n)
}

func newCreateCmd() *cobra.Command {
	cmd := remote(&cobra.Command{
		Use: "create APP", Short: "Make an app without deploying anything", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := open(cmd)
			if err != nil {
				return err
			}
			kind, _ := cmd.Flags().GetString("type")
			app, err := s.CreateApp(cmd.Context(), v1.CreateApp{Name: args[0], Type: kind})
			if err != nil {
				return err
			}
			return s.out.result(app, func(w io.Writer) {
				if s.out.quiet {
					fmt.Fprintln(w, app.Name)
					return
				}
				fmt.Fprintf(w, "made %s; deploy to it:  slipway deploy DIR --app %s\n", app.Name, app.Name)
			})
		},
	})
	cmd.Flags().String("type", "web", "web or worker")
	return cmd
}

func newInfoCmd() *cobra.Command {
	return ofApp(&cobra.Command{
		Use: "info", Short: "Show an app: wanted, observed, where it answers", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := openApp(cmd, ".")
			if err != nil {
				return err
			}
			a, err := s.App(cmd.Context(), s.app)
			if err != nil {
				return err
			}
			return s.out.result(a, func(w io.Writer) { printApp(s.out, w, a) })
		},
	})
}

func printApp(o *output, w io.Writer, a v1.App) {
	fmt.Fprintf(w, "app        %s (%s)\nstate      %s\n", a.Name, a.Type, a.State)
	fmt.Fprintf(w, "release    %s, live for %s\n", release(a.LiveRelease), ago(a.LiveSince))
	fmt.Fprintf(w, "instances  %d wanted; observed %d healthy, %d starting, %d unhealthy, %d crashed (seen %s ago)\n",
		a.Instances, a.Observed.Healthy, a.Observed.Starting, a.Observed.Unhealthy, a.Observed.Crashed, ago(a.Observed.SeenAt))
	if a.Observed.Unknown != "" {
		fmt.Fprintf(w, "           unknown: %s\n", o.safe(a.Observed.Unknown))
	}
	for _, u := range a.URLs {
		fmt.Fprintf(w, "url        %s\n", u)
	}
	if d := a.Deployment; d != nil {
		fmt.Fprintf(w, "deployment %d is %s: %s\n", d.ID, d.State, o.safe(orDash(d.Waiting)))
	}
}

func newPsCmd() *cobra.Command {
	return ofApp(&cobra.Command{
		Use: "ps", Short: "List an app's instances as observed", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := openApp(cmd, ".")
			if err != nil {
				return err
			}
			list, err := s.Instances(cmd.Context(), s.app)
			if err != nil {
				return err
			}
			rows := [][]string{}
			for _, i := range list {
				detail := i.Probe
				if i.ExitReason != "" {
					detail = i.ExitReason
				}
				rows = append(rows, []string{i.Name, release(i.Release), i.State, ago(i.StartedAt), strconv.Itoa(i.Restarts),
					fmt.Sprintf("%.0f MiB", i.MemoryMiB), orDash(detail), i.ID})
			}
			return s.out.table(v1.Instances{Instances: list}, []string{"INSTANCE", "RELEASE", "STATE", "UP", "RESTARTS", "MEMORY", "WHY", "ID"}, rows)
		},
	})
}

// newActCmd is a verb that does one thing to an app and follows it.
func newActCmd(verb, short string) *cobra.Command {
	cmd := ofApp(&cobra.Command{
		Use: verb, Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runAct(cmd, verb) },
	})
	cmd.Flags().Bool("async", false, "do not wait")
	return cmd
}

func runAct(cmd *cobra.Command, verb string) error {
	s, err := openApp(cmd, ".")
	if err != nil {
		return err
	}
	async, _ := cmd.Flags().GetBool("async")
	switch verb {
	case "restart":
		d, err := s.Restart(cmd.Context(), s.app)
		if err != nil {
			return err
		}
		return s.follow(cmd, d, async)
	case "stop":
		app, err := s.Stop(cmd.Context(), s.app)
		if err != nil {
			return err
		}
		return s.out.done(app, "%s is stopped", app.Name)
	}
	app, err := s.Start(cmd.Context(), s.app)
	if err == nil && !async && app.LiveRelease > 0 {
		app, err = s.waitInstances(cmd.Context(), app.Instances)
	}
	if err != nil {
		return err
	}
	return s.out.done(app, "%s is started", app.Name)
}

func newDestroyCmd() *cobra.Command {
	cmd := ofApp(&cobra.Command{
		Use: "destroy [APP]", Short: "Remove an app with its instances, releases, archives and logs", Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: completeApps,
		RunE:              runDestroy,
	})
	cmd.Flags().BoolP("yes", "y", false, "do not ask")
	return cmd
}

func runDestroy(cmd *cobra.Command, args []string) error {
	if len(args) == 1 {
		if a, _ := cmd.Flags().GetString("app"); a != "" && a != args[0] {
			return usageError{fmt.Errorf("which app: %s or %s?", args[0], a)}
		}
		if err := cmd.Flags().Set("app", args[0]); err != nil {
			return usageError{err}
		}
	}
	s, err := openApp(cmd, ".")
	if err != nil {
		return err
	}
	if yes, _ := cmd.Flags().GetBool("yes"); !yes {
		fmt.Fprintf(cmd.ErrOrStderr(), "This removes %s for good. Type its name to go on: ", s.app)
		line, err := readLine(cmd)
		if err != nil {
			return err
		}
		if line = strings.TrimSpace(line); line != s.app {
			return usageError{paas.Errorf(paas.CodeInvalid, "%s was not removed: %q is not its name", s.app, line).WithHint("--yes does not ask")}
		}
	}
	if err := s.DeleteApp(cmd.Context(), s.app); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Minute)
	defer cancel()
	if err := s.WaitGone(ctx, s.app); err != nil {
		return err
	}
	return s.out.done(map[string]string{"destroyed": s.app}, "%s is gone", s.app)
}

func newOpenCmd() *cobra.Command {
	cmd := ofApp(&cobra.Command{
		Use: "open", Short: "Open the app in a browser", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := openApp(cmd, ".")
			if err != nil {
				return err
			}
			a, err := s.App(cmd.Context(), s.app)
			if err != nil {
				return err
			}
			if len(a.URLs) == 0 {
				return paas.Errorf(paas.CodeNotFound, "%s has no URL: its type is %s", a.Name, a.Type)
			}
			if only, _ := cmd.Flags().GetBool("print"); !only && !s.out.json && strings.HasPrefix(a.URLs[0], "http") {
				_ = exec.Command("xdg-open", a.URLs[0]).Start() // the URL is printed anyway; the browser outlives us
			}
			return s.out.result(a.URLs, func(w io.Writer) { fmt.Fprintln(w, a.URLs[0]) })
		},
	})
	cmd.Flags().Bool("print", false, "print the URL and open nothing")
	return cmd
}
