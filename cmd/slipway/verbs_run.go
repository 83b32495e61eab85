package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/slipway-paas/slipway/api/client"
	v1 "github.com/slipway-paas/slipway/api/v1"
)

func newLogsCmd() *cobra.Command {
	cmd := ofApp(&cobra.Command{
		Use: "logs", Short: "Show what instances wrote, also those that are gone", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := open(cmd)
			if err != nil {
				return err
			}
			f := cmd.Flags()
			var q client.LogOptions
			q.Follow, _ = f.GetBool("follow")
			q.Tail, _ = f.GetInt("tail")
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
	fmt.Fprintf(s.out.stdout, "%s %s v%d  %s\n", l.At.Local().Format("15:04:05.000"), l.Instance, l.Release, s.out.safe(l.Text))
}

func newEventsCmd() *cobra.Command {
	return ofApp(&cobra.Command{
		Use: "events", Short: "Show what happened to an app, and who did it", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := open(cmd)
			if err != nil {
				return err
			}
			list, err := s.Events(cmd.Context(), s.app, 0, 200)
			if err != nil {
				return err
			}
			rows := [][]string{}
			for _, e := range list.Events {
				rows = append(rows, []string{e.At.Local().Format("2006-01-02 15:04:05"), e.Kind, e.By, s.out.safe(e.Message)})
			}
			return s.out.table(list, []string{"AT", "WHAT", "WHO", "MESSAGE"}, rows)
		},
	})
}

func newExecCmd() *cobra.Command {
	cmd := ofApp(&cobra.Command{
		Use: "exec [--instance web.1] -- COMMAND...", Short: "Run a command inside an instance; its exit code becomes ours", Args: cobra.MinimumNArgs(1),
		RunE: runExec,
	})
	cmd.Flags().String("instance", "web.1", "which instance")
	cmd.Flags().BoolP("tty", "t", false, "with a terminal (default: when standard input is one)")
	return cmd
}

func runExec(cmd *cobra.Command, args []string) error {
	s, err := open(cmd)
	if err != nil {
		return err
	}
	instance, _ := cmd.Flags().GetString("instance")
	tty, _ := cmd.Flags().GetBool("tty")
	fd := int(os.Stdin.Fd())
	if !cmd.Flags().Changed("tty") {
		tty = term.IsTerminal(fd) && s.out.terminal
	}
	req := client.ExecOptions{Args: args, TTY: tty, Stdin: os.Stdin, Stdout: s.out.stdout, Stderr: s.out.stderr}
	if tty {
		restore, resize, err := rawTerminal(cmd.Context(), fd)
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
	fmt.Fprintf(w, "Slipway %s at %s: %d apps, builds %d running and %d queued, disk %s free of %s\n\n", st.Version, st.PublicURL, st.Apps,
		st.Builds.Building, st.Builds.Queued, size(int64(st.Disk.FreeBytes)), size(int64(st.Disk.TotalBytes)))
	rows := [][]string{}
	for _, c := range st.Components {
		rows = append(rows, []string{c.Name, c.State, c.Version, fmt.Sprint(c.PID), ago(c.Since), fmt.Sprint(c.Restarts), o.safe(orDash(c.Why))})
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
