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

	"github.com/slipway-paas/slipway/api/client"
	"github.com/slipway-paas/slipway/internal/paas"
)

// output prints results: text for people, JSON for programs.
type output struct {
	stdout, stderr io.Writer
	json, quiet    bool
	terminal       bool // stdout is one
	errTerminal    bool // stderr is one
}

func newOutput(cmd *cobra.Command) *output {
	o := &output{stdout: cmd.OutOrStdout(), stderr: cmd.ErrOrStderr()}
	o.json, _ = cmd.Flags().GetBool("json")
	o.quiet, _ = cmd.Flags().GetBool("quiet")
	o.terminal, o.errTerminal = isTerminal(o.stdout), isTerminal(o.stderr)
	return o
}

// isTerminal reports whether a stream of a command is a terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
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

// lastOutput shows what a failure left, under a heading.
func (o *output) lastOutput(heading string, lines []string) {
	if len(lines) == 0 || o.json || o.quiet {
		return
	}
	fmt.Fprintln(o.stderr, heading)
	for _, l := range lines {
		if o.errTerminal {
			l = visible(l)
		}
		fmt.Fprintln(o.stderr, "  "+l)
	}
}

// done prints v as JSON with --json, else a sentence that says no more than the
// exit code does: nothing with --quiet.
func (o *output) done(v any, format string, args ...any) error {
	if o.json {
		return o.result(v, nil)
	}
	o.say(format, args...)
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
			for i, cell := range r {
				r[i] = o.safe(oneLine.Replace(cell))
			}
			fmt.Fprintln(tw, strings.Join(r, "\t"))
		}
		tw.Flush() // a closed pipe ends us by signal
	})
}

// oneLine keeps a cell in its row and column.
var oneLine = strings.NewReplacer("\r\n", " ", "\n", " ", "\r", " ", "\t", " ", "\v", " ", "\f", " ")

// safe is a tenant's text for standard output, see visible; a pipe gets it as it is.
func (o *output) safe(s string) string {
	if !o.terminal {
		return s
	}
	return visible(s)
}

// visible shows a text without what could steer a terminal: control characters
// but tab become visible, so that a log line cannot hide another.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return r
		case r < 0x20:
			return r + 0x2400 // the symbol for the control character
		case unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp) || r >= 0x7f && r < 0xa0:
			return '·'
		}
		return r
	}, s)
}

// report prints an error and returns the exit code for it.
func (o *output) report(err error) int {
	code := exitCode(err)
	var exit exitError
	if errors.As(err, &exit) {
		return code
	}
	e := told(err)
	if o.json {
		doc := map[string]string{"code": string(e.Code), "message": e.Message}
		if e.Hint != "" {
			doc["hint"] = e.Hint
		}
		if id := client.RequestID(err); id != "" {
			doc["requestId"] = id
		}
		_ = json.NewEncoder(o.stderr).Encode(map[string]any{"error": doc}) // nowhere else to say it
		return code
	}
	text := "Error: " + e.Message
	if e.Code == paas.CodeInternal && client.RequestID(err) != "" {
		text += " (request " + client.RequestID(err) + ")"
	}
	lines := []string{text}
	if e.Hint != "" {
		lines = append(lines, "  Next: "+e.Hint)
	}
	for _, l := range lines {
		if o.errTerminal {
			l = strings.ReplaceAll(visible(l), "\u240a", "\n") // messages of ours may have lines
		}
		fmt.Fprintln(o.stderr, l)
	}
	return code
}

// codeUsage is the code of wrong command lines in JSON.
const codeUsage paas.Code = "usage"

// told is err as its reader gets it: one sentence and the next step.
func told(err error) *paas.Error {
	e := &paas.Error{Code: paas.CodeOf(err), Message: err.Error()}
	var known *paas.Error
	if errors.As(err, &known) {
		e.Message, e.Hint = known.Message, known.Hint
		if known.Err != nil {
			e.Message += ": " + known.Err.Error() // of this process: the server tells no causes
		}
	}
	switch exitCode(err) {
	case exitUsage:
		e.Code = codeUsage
		if e.Hint == "" {
			e.Hint = "slipway --help, or slipway VERB --help"
		}
	case exitInterrupted:
		e.Code = "interrupted"
	}
	return e
}

// ago is how long since, in the largest unit.
func ago(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := max(time.Since(t), 0) // the server's clock may be ahead
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
