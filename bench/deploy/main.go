// Command deploy measures what a user waits for (first build, redeploy, rollback,
// scaling) and what the platform costs, each against its yardstick in the same
// run, on a Slipway of its own. `make bench-deploy` runs it. Start reading at run.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/slipway-paas/slipway/bench/figures"
	slipway "github.com/slipway-paas/slipway/e2e/platform"
)

const rounds = 7 // of everything that is measured more than once; the median is reported

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench-deploy:", err)
		os.Exit(1)
	}
}

func run() error {
	root, err := filepath.Abs(".")
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "slipway-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	p, err := slipway.Start(root, filepath.Join(dir, "data"))
	if p != nil {
		defer p.Down()
	}
	if err != nil {
		return err
	}
	b := &bench{p: p, root: root, dir: dir, report: &figures.Report{Bench: "deploy", At: time.Now().UTC()}}
	for _, s := range []struct {
		name string
		run  func() error
	}{
		{"base images (not counted)", b.warmBases},
		{"first build, cold package cache", b.firstBuild},
		{"code-only redeploy", b.redeploy},
		{"unchanged redeploy", b.unchanged},
		{"rollback", b.rollback},
		{"1 to 10 instances", b.scaleOut},
		{"one instance against ctr run", b.oneInstance},
		{"memory and idle CPU", b.footprint},
	} {
		began := time.Now()
		fmt.Fprintf(os.Stderr, "%-34s ", s.name)
		if err := s.run(); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		fmt.Fprintf(os.Stderr, "%5.1f s\n", time.Since(began).Seconds())
	}
	return b.report.Finish(os.Stdout, filepath.Join(root, "bench", "out"))
}

// bench is one run.
type bench struct {
	p         *slipway.Platform
	root, dir string
	report    *figures.Report
}

// cli runs a verb that has to succeed and says how long it took.
func (b *bench) cli(args ...string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	began := time.Now()
	out, err := b.p.Command(ctx, args...).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("slipway %v: %w\n%s", args, err, out)
	}
	return time.Since(began), nil
}

// sample writes the sample app with its lock file, answering with text.
func (b *bench) sample(name, text string) (string, error) {
	dir := filepath.Join(b.dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	for _, f := range []string{"package.json", "package-lock.json"} {
		content, err := os.ReadFile(filepath.Join(b.root, "examples", "node-hello", f))
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(dir, f), content, 0o644); err != nil {
			return "", err
		}
	}
	return dir, b.change(dir, text)
}

// change edits the code of a sample, and nothing else.
func (b *bench) change(dir, text string) error {
	return os.WriteFile(filepath.Join(dir, "server.js"), fmt.Appendf(nil, `
const app = require("express")(), os = require("os");
app.get("/", (q, r) => r.send(%q + " on " + os.hostname()));
const s = app.listen(process.env.PORT || 8080);
process.on("SIGTERM", () => s.close(() => process.exit(0)));
`, text), 0o644)
}
