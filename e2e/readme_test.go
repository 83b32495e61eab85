package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestReadme_EveryCommandWorks runs the README's `sh` blocks line by line, in
// order, in the repository's root.
func TestReadme_EveryCommandWorks(t *testing.T) {
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	shared.destroyed(t, "tour")
	commands := shellLines(t, filepath.Join(root, "README.md"))
	if len(commands) < 15 {
		t.Fatalf("found %d commands in the README", len(commands))
	}
	for _, line := range commands {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		args := strings.Fields(line)
		if args[0] != "slipway" {
			t.Fatalf("the README's sh blocks hold slipway commands, not %q", line)
		}
		cmd := shared.Command(ctx, args[1:]...)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
		cancel()
	}
}

// shellLines returns the lines of a page's ```sh blocks.
func shellLines(t testing.TB, page string) []string {
	t.Helper()
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	in := false
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		switch {
		case line == "```sh":
			in = true
		case strings.HasPrefix(line, "```"):
			in = false
		case in && line != "" && !strings.HasPrefix(line, "#"):
			out = append(out, line)
		}
	}
	return out
}
