// Package e2e drives a whole Slipway as its users do: the built binary, its CLI
// and HTTP, with real containerd, BuildKit, runc, S3 and npm behind it. It
// imports nothing of the product. Start reading at runAll.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	slipway "github.com/slipway-paas/slipway/e2e/platform"
)

// platform is the running Slipway with the helpers of tests.
type platform struct{ *slipway.Platform }

// shared is the one Slipway that all tests of a run use: the base images are
// made once. Tests use apps of their own.
var shared *platform

func TestMain(m *testing.M) { os.Exit(runAll(m)) }

func runAll(m *testing.M) int {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "e2e needs root (containers): sudo make e2e")
		return 1
	}
	dir, err := os.MkdirTemp("", "slipway-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	root, err := filepath.Abs("..")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	p, err := slipway.Start(root, filepath.Join(dir, "data"))
	if p != nil {
		defer p.Down()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	shared = &platform{p}
	code := m.Run()
	if keep := os.Getenv("SLIPWAY_E2E_LOG"); code != 0 && keep != "" {
		_ = os.WriteFile(keep, p.ServerLog(), 0o644)
	}
	return code
}

// result is how a CLI call ended.
type result struct {
	out, err string
	code     int
}

func (p *platform) cli(t testing.TB, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	cmd := p.Command(ctx, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil && cmd.ProcessState == nil {
		t.Fatalf("slipway %s: %v", strings.Join(args, " "), err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// must runs a CLI verb that has to succeed and returns its output.
func (p *platform) must(t testing.TB, args ...string) string {
	t.Helper()
	r := p.cli(t, args...)
	if r.code != 0 {
		t.Fatalf("slipway %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.out, r.err)
	}
	return r.out
}

// mustJSON runs a verb with --json and decodes what it prints.
func (p *platform) mustJSON(t testing.TB, into any, args ...string) {
	t.Helper()
	out := p.must(t, append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), into); err != nil {
		t.Fatalf("slipway %s --json: %v in %s", strings.Join(args, " "), err, out)
	}
}

// wantBody waits until the app answers 200 with the text.
func (p *platform) wantBody(t testing.TB, app, path, want string) {
	t.Helper()
	err := slipway.Until(20*time.Second, func() error {
		status, body, err := p.Get(app, path)
		if err != nil {
			return err
		}
		if status != 200 || !strings.Contains(body, want) {
			return fmt.Errorf("%s%s answered %d %q, want 200 with %q", app, path, status, body, want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// destroyed removes an app at the end of a test.
func (p *platform) destroyed(t testing.TB, app string) string {
	t.Helper()
	t.Cleanup(func() {
		cmd := p.Command(context.Background(), "destroy", app, "--yes")
		if out, err := cmd.CombinedOutput(); err != nil && !strings.Contains(string(out), "not_found") && !strings.Contains(string(out), "no app") {
			t.Errorf("destroy %s: %v\n%s", app, err, out)
		}
	})
	return app
}

// component is what `slipway status --json` says of one.
type component struct {
	Name, State, Version string
	PID                  int
}

func (p *platform) components(t testing.TB) map[string]component {
	t.Helper()
	var s struct{ Components []component }
	p.mustJSON(t, &s, "status")
	out := map[string]component{}
	for _, c := range s.Components {
		out[c.Name] = c
	}
	return out
}

func decode(b []byte, into any) error {
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("%w in %s", err, b)
	}
	return nil
}
