package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/slipway-paas/slipway/internal/paas"
)

// output prints results: text for people, JSON for programs.
type output struct {
	stdout, stderr io.Writer
	json, quiet    bool
	terminal       bool // stdout is one
}

func newOutput(cmd *cobra.Command) *output {
	o := &output{stdout: cmd.OutOrStdout(), stderr: cmd.ErrOrStderr()}
	o.json, _ = cmd.Flags().GetBool("json")
	o.quiet, _ = cmd.Flags().GetBool("quiet")
	o.terminal = o.stdout == os.Stdout && term.IsTerminal(int(os.Stdout.Fd()))
	return o
}

// say prints a sentence about progress; nothing with --quiet or --json.
func (o *output) say(format string, args ...any) {
	if !o.quiet && !o.json {
		fmt.Fprintf(o.stdout, format+"\n", args...)
	}
}

// result prints v as JSON with --json, else calls text.
func (o *output) result(v any, text func(w io.Writer)) error {
	if o.json {
		enc := json.NewEncoder(o.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	}
	text(o.stdout)
	return nil
}

// table prints rows under headings; with --quiet the first column alone.
func (o *output) table(v any, head []string, rows [][]string) error {
	return o.result(v, func(w io.Writer) {
		if o.quiet {
			for _, r := range rows {
				fmt.Fprintln(w, r[0])
			}
			return
		}
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(tw, strings.Join(head, "\t"))
		for _, r := range rows {
			fmt.Fprintln(tw, strings.Join(r, "\t"))
		}
		tw.Flush()
	})
}

// safe shows a tenant's text without what could steer a terminal: control
// characters but tab become visible, so that a log line cannot hide another.
func (o *output) safe(s string) string {
	if !o.terminal {
		return s
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return r
		case r < 0x20:
			return r + 0x2400 // the symbol for the control character
		case unicode.Is(unicode.Cf, r) || r >= 0x7f && r < 0xa0:
			return '·'
		}
		return r
	}, s)
}

// report prints an error and returns the exit code for it.
func report(w io.Writer, err error, asJSON bool) int {
	code := exitCode(err)
	var exit exitError
	if errors.As(err, &exit) {
		return code
	}
	var e *paas.Error
	known := errors.As(err, &e)
	if asJSON {
		doc := map[string]string{"code": string(paas.CodeOf(err)), "message": err.Error()}
		if known {
			doc["message"], doc["hint"] = e.Message, e.Hint
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"error": doc})
		return code
	}
	switch {
	case known && e.Hint != "":
		fmt.Fprintf(w, "Error: %s\n  Next: %s\n", e.Message, e.Hint)
	case known:
		fmt.Fprintf(w, "Error: %s\n", e.Message)
	default:
		fmt.Fprintf(w, "Error: %v\n", err)
	}
	if code == exitUsage {
		fmt.Fprintln(w, "  Next: slipway --help, or slipway VERB --help")
	}
	return code
}

func jsonOutput(root *cobra.Command) bool {
	v, _ := root.PersistentFlags().GetBool("json")
	return v
}

// ago is how long since, in the largest unit.
func ago(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := time.Since(t)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func shortDigest(d string) string {
	d = strings.TrimPrefix(d, "sha256:")
	return d[:min(12, len(d))]
}
