package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway-paas/slipway/api/client"
	v1 "github.com/slipway-paas/slipway/api/v1"
)

func newLogsCmd() *cobra.Command {
	cmd := ofApp(&cobra.Command{
		Use: "logs", Short: "Show what instances wrote, also those that are gone", Args: cobra.NoArgs,
		Example: `  slipway logs -a shop -f                        # go on with new lines
  slipway logs -a shop -n 50 --instance web.2    # the last lines of one instance
  slipway logs -a shop --since 10m --json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f := cmd.Flags()
			var q client.LogOptions
			q.Follow, _ = f.GetBool("follow")
			q.Tail, _ = f.GetInt("tail")
			if q.Tail < 0 {
				return usageError{fmt.Errorf("--tail is %d, expected 0 (all) or more", q.Tail)}
			}
			s, err := openApp(cmd, ".")
			if err != nil {
				return err
			}
			q.Instance, _ = f.GetString("instance")
			if q.Tail == 0 {
				q.Tail = -1 // the client's word for all
			}
			if since, _ := f.GetDuration("since"); since > 0 {
				q.Since = time.Now().Add(-since)
			}
			err = s.Logs(cmd.Context(), s.app, q, s.printLog)
			if cmd.Context().Err() != nil {
				return nil // Ctrl-C is how a followed log ends
			}
			return err
		},
	})
	f := cmd.Flags()
	f.BoolP("follow", "f", false, "go on with new lines")
	f.IntP("tail", "n", 200, "last lines; 0 = all that are kept")
	f.String("instance", "", "one instance, e.g. web.1")
	f.Duration("since", 0, "only lines younger than this, e.g. 10m")
	return cmd
}

func (s *session) printLog(l v1.LogLine) {
	if s.out.json {
		_ = json.NewEncoder(s.out.stdout).Encode(l) // a closed pipe ends us by signal
		return
	}
	if s.out.quiet {
		fmt.Fprintln(s.out.stdout, s.out.safe(l.Text))
		return
	}
	fmt.Fprintf(s.out.stdout, "%s %s v%d  %s\n", l.At.Local().Format("15:04:05.000"), l.Instance, l.Release, s.out.safe(l.Text))
}

func newEventsCmd() *cobra.Command {
	return ofApp(&cobra.Command{
		Use: "events", Short: "Show what happened to an app, and who did it", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := openApp(cmd, ".")
			if err != nil {
				return err
			}
			list, err := s.Events(cmd.Context(), s.app, 0, 200)
			if err != nil {
				return err
			}
			rows := [][]string{}
			for _, e := range list.Events {
				rows = append(rows, []string{e.At.Local().Format("2006-01-02 15:04:05"), e.Kind, e.By, e.Message})
			}
			return s.out.table(list, []string{"AT", "WHAT", "WHO", "MESSAGE"}, rows)
		},
	})
}

func newExecCmd() *cobra.Command {
	cmd := ofApp(&cobra.Command{
		Use: "exec [--instance web.1] -- COMMAND...", Short: "Run a command inside an instance; its exit code becomes ours", Args: cobra.MinimumNArgs(1),
		Example: `  slipway exec -a shop -- sh                          # a shell in web.1
  slipway exec -a shop --instance web.2 -- node -v
  echo 'console.log(1)' | slipway exec -a shop -- node -`,
		RunE: runExec,
	})
	cmd.Flags().String("instance", "web.1", "which instance")
	cmd.Flags().BoolP("tty", "t", false, "with a terminal (default: when standard input is one)")
	return cmd
}

func runExec(cmd *cobra.Command, args []string) error {
	s, err := openApp(cmd, ".")
	if err != nil {
		return err
	}
	instance, _ := cmd.Flags().GetString("instance")
	tty, _ := cmd.Flags().GetBool("tty")
	stdin := cmd.InOrStdin()
	if !cmd.Flags().Changed("tty") {
		tty = isTerminal(stdin) && s.out.terminal
	}
	if tty && !isTerminal(stdin) {
		return usageError{fmt.Errorf("--tty needs a terminal as standard input")}
	}
	req := client.ExecOptions{Args: args, TTY: tty, Stdin: stdin, Stdout: s.out.stdout, Stderr: s.out.stderr}
	if tty {
		restore, resize, err := rawTerminal(cmd.Context(), int(os.Stdin.Fd()))
		if err != nil {
			return err
		}
		defer restore()
		req.Resize = resize
	}
	code, err := s.Exec(cmd.Context(), s.app, instance, req)
	if err != nil {
		return err
	}
	if code != 0 {
		return exitError{code}
	}
	return nil
}

func newStatusCmd() *cobra.Command {
	return remote(&cobra.Command{
		Use: "status", Short: "Show every component with version, state and last lines", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := open(cmd)
			if err != nil {
				return err
			}
			st, err := s.Status(cmd.Context())
			if err != nil {
				return err
			}
			return s.out.result(st, func(w io.Writer) { printStatus(s.out, w, st) })
		},
	})
}

func printStatus(o *output, w io.Writer, st v1.Status) {
	if !o.quiet {
		printSummary(w, st)
	}
	rows := [][]string{}
	for _, c := range st.Components {
		rows = append(rows, []string{c.Name, c.State, c.Version, fmt.Sprint(c.PID), ago(c.Since), fmt.Sprint(c.Restarts), orDash(c.Why)})
	}
	_ = o.table(nil, []string{"COMPONENT", "STATE", "VERSION", "PID", "UP", "RESTARTS", "WHY"}, rows)
	if o.quiet {
		return
	}
	for _, c := range st.Components {
		if len(c.LastLines) == 0 {
			continue
		}
		fmt.Fprintf(w, "\n%s, last lines:\n", c.Name)
		for _, l := range c.LastLines[max(0, len(c.LastLines)-3):] {
			fmt.Fprintln(w, "  "+o.safe(strings.TrimSpace(l)))
		}
	}
}

func printSummary(w io.Writer, st v1.Status) {
	fmt.Fprintf(w, "Slipway %s at %s: %d apps, builds %d running and %d queued, disk %s free of %s\n\n", st.Version, st.PublicURL, st.Apps,
		st.Builds.Building, st.Builds.Queued, size(int64(st.Disk.FreeBytes)), size(int64(st.Disk.TotalBytes)))
}
