package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	slipway "github.com/slipway-paas/slipway/e2e/platform"
)

// locked is a buffer for a process's output that a test reads meanwhile.
type locked struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// TestMakeRun_DeploysTheSampleAndCtrlCStopsEverything is the first of the
// README's two commands, as a user types it; the second is what runs this test.
func TestMakeRun_DeploysTheSampleAndCtrlCStopsEverything(t *testing.T) {
	dir, err := os.MkdirTemp("", "slr-") // t.TempDir's names are too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	data := filepath.Join(dir, "d")
	apiPort, routerPort, err := slipway.TwoPorts()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "make", "run", "DATA="+data, fmt.Sprintf("PORT=%d", apiPort), fmt.Sprintf("ROUTER_PORT=%d", routerPort))
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "SLIPWAY_INSTANCE_SUBNET=10.228.0.0/16", "SLIPWAY_BUILD_SUBNET=10.229.0.0/16",
		"GOMODCACHE="+goEnv(t, "GOMODCACHE"), "GOCACHE="+goEnv(t, "GOCACHE"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's Ctrl-C goes to the whole group
	var out locked
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = exec.Command(shared.Bin, "down", "--data", data).Run() // in case the test failed half-way
	})
	url := fmt.Sprintf("http://node-hello.localhost:%d", routerPort)
	err = slipway.Until(7*time.Minute, func() error {
		select {
		case err := <-ended:
			ended <- err
			return nil // it is over: what it printed tells
		default:
		}
		if !strings.Contains(out.String(), "Ready after") {
			return fmt.Errorf("make run is not ready:\n%s", out.String())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{url, fmt.Sprintf("http://127.0.0.1:%d", apiPort), "slp_"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("make run did not print %s:\n%s", want, out.String())
		}
	}
	hello := &platform{&slipway.Platform{RouterPort: routerPort}}
	if status, body, err := hello.Get("node-hello", "/"); err != nil || status != 200 || !strings.HasPrefix(body, "Hello from node-hello-") {
		t.Errorf("the sample answers %d %q %v", status, body, err)
	}
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(90 * time.Second):
		t.Fatalf("make run does not end after Ctrl-C:\n%s", out.String())
	}
	if left := processesOf(t, data); len(left) > 0 {
		t.Errorf("after Ctrl-C these still run:\n%s", strings.Join(left, "\n"))
	}
	if left := mountsBelow(t, data); len(left) > 0 {
		t.Errorf("after Ctrl-C these are still mounted:\n%s", strings.Join(left, "\n"))
	}
}

func goEnv(t testing.TB, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// processesOf lists processes with the data folder in their command line.
func processesOf(t testing.TB, data string) []string {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, l := range lines {
		if b, err := os.ReadFile(l); err == nil && strings.Contains(string(b), data) {
			out = append(out, l+" "+strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
	return out
}
