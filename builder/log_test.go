package builder

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipway-paas/slipway/internal/paas"
)

func readAll(t *testing.T, path string, skip int) []string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []string
	r := &lineReader{skip: skip, emit: func(l paas.BuildLine) error {
		out = append(out, l.Text)
		return nil
	}}
	if err := r.drain(f); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestLogWriter_ContinuesAfterAKill(t *testing.T) {
	dir := t.TempDir()
	l, err := openLog(dir, 7)
	if err != nil {
		t.Fatal(err)
	}
	l.say("a", "one")
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(l.path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString(`{"at":"20`) // cut off
	f.Close()
	if l, err = openLog(dir, 7); err != nil {
		t.Fatal(err)
	}
	l.say("a", "two")
	l.close()
	if got := strings.Join(readAll(t, filepath.Join(dir, "7.log"), 0), ","); got != "one,two" {
		t.Errorf("lines = %s, want one,two", got)
	}
	if got := strings.Join(readAll(t, filepath.Join(dir, "7.log"), 1), ","); got != "two" {
		t.Errorf("lines after the first = %s, want two", got)
	}
}

func TestLogWriter_CutsVisiblyAndKeepsTheEnd(t *testing.T) {
	l, err := openLog(t.TempDir(), 1)
	if err != nil {
		t.Fatal(err)
	}
	line := strings.Repeat("x", 1<<20)
	for range 20 {
		l.say("build", line)
	}
	l.say(logSlipway, "failed: because")
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	lines := readAll(t, l.path, 0)
	if n := len(lines); n < 3 || !strings.Contains(lines[n-2], "cut here") || lines[n-1] != "failed: because" {
		t.Errorf("%d lines, ending in %.60q; want the mark and the end", n, lines[max(0, n-2):])
	}
}
