package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/slipway-paas/slipway/bench/figures"
	slipway "github.com/slipway-paas/slipway/e2e/platform"
)

// warmBases has the base images made: they belong to the installation, not to a build.
func (b *bench) warmBases() error {
	dir := filepath.Join(b.dir, "warm")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	files := map[string]string{
		"package.json":      `{"name": "warm", "version": "1.0.0", "scripts": {"start": "node server.js"}, "engines": {"node": ">=20"}}`,
		"package-lock.json": `{"name": "warm", "version": "1.0.0", "lockfileVersion": 3, "packages": {"": {"name": "warm", "version": "1.0.0", "engines": {"node": ">=20"}}}}`,
		"server.js":         `require("http").createServer((q, r) => r.end("warm")).listen(process.env.PORT)`,
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	if _, err := b.cli("deploy", dir, "--app", "warm"); err != nil {
		return err
	}
	if _, err := b.cli("destroy", "warm", "--yes"); err != nil {
		return err
	}
	// The image with compilers is made in the background two minutes after the
	// start; it would take a core from whatever is measured meanwhile.
	return slipway.UntilEvery(time.Second, 10*time.Minute, func() error {
		out, err := b.ctr("images", "ls", "-q")
		if err == nil && !strings.Contains(string(out), ":debian-build") {
			err = fmt.Errorf("no image with compilers yet in %s", out)
		}
		return err
	})
}

// answer polls an app until it answers with text; a connection per try.
func (b *bench) answer(app, text string) error {
	return slipway.Until(time.Minute, func() error {
		status, body, err := b.p.Get(app, "/")
		if err == nil && (status != 200 || !strings.HasPrefix(body, text)) {
			err = fmt.Errorf("%s answers %d %q, want %q", app, status, body, text)
		}
		return err
	})
}

// timed runs a verb and returns the time until the app answers with text, which
// may be before the verb ends.
func (b *bench) timed(app, text string, args ...string) (time.Duration, error) {
	began := time.Now()
	done := make(chan error, 1)
	go func() { _, err := b.cli(args...); done <- err }()
	if err := b.answer(app, text); err != nil {
		return 0, err
	}
	took := time.Since(began)
	return took, <-done
}

func (b *bench) firstBuild() error {
	dir, err := b.sample("app", "v0")
	if err != nil {
		return err
	}
	bare, err := b.bareNpm()
	if err != nil {
		return fmt.Errorf("bare npm ci: %w", err)
	}
	took, err := b.timed("app", "v0", "deploy", dir, "--app", "app")
	if err != nil {
		return err
	}
	b.report.Add("first-build", took.Seconds()/bare.Seconds(), "ratio", 1.3, "%.1f s to the first answer, bare npm ci + start %.1f s", took.Seconds(), bare.Seconds())
	return nil
}

// bareNpm is what a developer does by hand: npm ci with an empty cache, node
// server.js, first answer.
func (b *bench) bareNpm() (time.Duration, error) {
	dir, err := b.sample("bare", "bare")
	if err != nil {
		return 0, err
	}
	const port = "18431"
	began := time.Now()
	npm := exec.Command("npm", "ci", "--cache", filepath.Join(b.dir, "npm-cache"))
	npm.Dir = dir
	if out, err := npm.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%w\n%s", err, out)
	}
	node := exec.Command("node", "server.js")
	node.Dir, node.Env = dir, append(os.Environ(), "PORT="+port)
	if err := node.Start(); err != nil {
		return 0, err
	}
	defer func() { _ = node.Process.Signal(syscall.SIGTERM); _ = node.Wait() }()
	err = listening("127.0.0.1:" + port)
	return time.Since(began), err
}

// listening waits until a server at addr answers.
func listening(addr string) error {
	return slipway.Until(20*time.Second, func() error {
		resp, err := http.Get("http://" + addr + "/")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	})
}

func (b *bench) redeploy() error {
	dir := filepath.Join(b.dir, "app")
	var all []time.Duration
	for i := range rounds {
		text := fmt.Sprintf("v%d ", i+1)
		if err := b.change(dir, text); err != nil {
			return err
		}
		took, err := b.timed("app", text, "deploy", dir, "--app", "app")
		if err != nil {
			return err
		}
		all = append(all, took)
	}
	b.report.Add("code-redeploy-p50", figures.Median(all), "s", 1.5, "slipway deploy to the first answer of the new version, %d rounds", rounds)
	return nil
}

func (b *bench) unchanged() error {
	dir := filepath.Join(b.dir, "app")
	var all []time.Duration
	for range rounds {
		took, err := b.cli("deploy", dir, "--app", "app")
		if err != nil {
			return err
		}
		all = append(all, took)
	}
	b.report.Add("unchanged-redeploy-p50", figures.Median(all), "s", 0.7, "slipway deploy of an unchanged folder until live, %d rounds", rounds)
	return nil
}

func (b *bench) rollback() error {
	dir := filepath.Join(b.dir, "app")
	var all []time.Duration
	for i := range rounds {
		for _, text := range []string{fmt.Sprintf("old%d ", i), fmt.Sprintf("new%d ", i)} {
			if err := b.change(dir, text); err != nil {
				return err
			}
			if _, err := b.timed("app", text, "deploy", dir, "--app", "app"); err != nil {
				return err
			}
		}
		took, err := b.timed("app", fmt.Sprintf("old%d ", i), "rollback", "-a", "app")
		if err != nil {
			return err
		}
		all = append(all, took)
	}
	b.report.Add("rollback-p50", figures.Median(all), "s", 0.7, "slipway rollback to the first answer of the old version, %d rounds", rounds)
	return nil
}

func (b *bench) scaleOut() error {
	if _, err := b.cli("scale", "web=1", "-a", "app"); err != nil {
		return err
	}
	began := time.Now()
	if _, err := b.cli("scale", "web=10", "-a", "app"); err != nil {
		return err
	}
	hosts := map[string]bool{}
	err := slipway.Until(time.Minute, func() error {
		for range 5 {
			if _, body, err := b.p.Get("app", "/"); err == nil {
				hosts[body] = true
			}
		}
		if len(hosts) < 10 {
			return fmt.Errorf("%d instances answer", len(hosts))
		}
		return nil
	})
	if err != nil {
		return err
	}
	b.report.Add("scale-1-to-10", time.Since(began).Seconds(), "s", 3, "slipway scale web=10 until 10 host names have answered")
	_, err = b.cli("scale", "web=1", "-a", "app")
	return err
}

// oneInstance compares a start by Slipway (stop → start, until it answers) with
// ctr run of the same image until its port answers. Both start from nothing.
func (b *bench) oneInstance() error {
	var ours, bare []time.Duration
	image, err := b.image()
	if err != nil {
		return err
	}
	for i := range rounds {
		if err := b.stopped(); err != nil {
			return err
		}
		began := time.Now()
		if _, err := b.timed("app", "", "start", "-a", "app"); err != nil {
			return err
		}
		ours = append(ours, time.Since(began))
		took, err := b.ctrRun(image, i)
		if err != nil {
			return err
		}
		bare = append(bare, took)
	}
	o, c := figures.Median(ours), figures.Median(bare)
	b.report.Add("one-instance", o/c, "ratio", 2, "slipway start to the first answer %.2f s, ctr run to the first answer %.2f s", o, c)
	return nil
}

// stopped stops the app and waits until its instance is gone.
func (b *bench) stopped() error {
	if _, err := b.cli("stop", "-a", "app"); err != nil {
		return err
	}
	return slipway.Until(time.Minute, func() error {
		out, err := b.p.Command(context.Background(), "ps", "-a", "app", "-q").Output()
		if err == nil && strings.TrimSpace(string(out)) != "" {
			err = fmt.Errorf("instances are left: %s", out)
		}
		return err
	})
}

func (b *bench) ctr(args ...string) ([]byte, error) {
	args = append([]string{"--address", filepath.Join(b.p.Data, "containerd", "containerd.sock"), "-n", "slipway"}, args...)
	return exec.Command(filepath.Join(b.root, "bin", "engine", "ctr"), args...).CombinedOutput()
}

// image finds the app's newest image.
func (b *bench) image() (string, error) {
	out, err := b.ctr("images", "ls", "-q")
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	newest := ""
	for _, ref := range strings.Fields(string(out)) {
		if strings.Contains(ref, ":b") {
			newest = ref
		}
	}
	if newest == "" {
		return "", fmt.Errorf("no app image in %s", out)
	}
	return newest, nil
}

func (b *bench) ctrRun(image string, i int) (time.Duration, error) {
	id, port := fmt.Sprintf("bench-%d", i), fmt.Sprint(18500+i)
	began := time.Now()
	// The runc of the engine is not in PATH: name it, as Slipway does.
	out, err := b.ctr("run", "-d", "--net-host", "--runc-binary", filepath.Join(b.root, "bin", "engine", "runc"),
		"--env", "PORT="+port, "--cwd", "/u01/app", image, id, "node", "server.js")
	if err != nil {
		return 0, fmt.Errorf("ctr run: %w\n%s", err, out)
	}
	defer func() {
		_, _ = b.ctr("tasks", "kill", "-s", "SIGKILL", id)
		_ = slipway.Until(10*time.Second, func() error { out, err := b.ctr("tasks", "rm", id); return wrap(err, out) })
		_, _ = b.ctr("containers", "rm", id)
	}()
	err = listening("127.0.0.1:" + port)
	return time.Since(began), err
}

func wrap(err error, out []byte) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w\n%s", err, out)
}
