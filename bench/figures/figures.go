// Package figures prints what a benchmark measured, one line per figure, and
// writes the same as JSON under bench/out. It knows no benchmark and imports the
// standard library only. Start reading at Report.
package figures

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Figure is one measured value against its mark.
type Figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"` // "s", "ratio", "MB", "%"
	// Mark is the largest value that is ok; 0 means none was set.
	Mark float64 `json:"mark"`
	OK   bool    `json:"ok"`
	// Note says against what it was measured, or where the time goes.
	Note string `json:"note,omitempty"`
}

// Report collects the figures of one benchmark. It is not safe for concurrent use.
type Report struct {
	Bench   string    `json:"bench"`
	At      time.Time `json:"at"`
	Figures []Figure  `json:"figures"`
}

// Add records one figure. A smaller value is better.
func (r *Report) Add(name string, value float64, unit string, mark float64, note string, args ...any) {
	r.Figures = append(r.Figures, Figure{
		Name: name, Value: value, Unit: unit, Mark: mark, OK: mark == 0 || value <= mark, Note: fmt.Sprintf(note, args...),
	})
}

// Finish prints the notes as a table, then one line per figure, and writes
// dir/<bench>.json.
func (r *Report) Finish(w io.Writer, dir string) error {
	for _, f := range r.Figures {
		fmt.Fprintf(w, "%-34s %10.3f %-6s %s\n", f.Name, f.Value, f.Unit, f.Note)
	}
	fmt.Fprintln(w)
	for _, f := range r.Figures {
		mark, verdict := "-", "ok"
		if f.Mark != 0 {
			mark = fmt.Sprintf("%g", f.Mark)
		}
		if !f.OK {
			verdict = "short"
		}
		fmt.Fprintf(w, "figure %s %.3f %s mark %s %s\n", f.Name, f.Value, f.Unit, mark, verdict)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, r.Bench+".json"), append(b, '\n'), 0o644)
}

// Median of the durations, in seconds; it panics on none.
func Median(d []time.Duration) float64 {
	s := slices.Sorted(slices.Values(d))
	return s[len(s)/2].Seconds()
}
