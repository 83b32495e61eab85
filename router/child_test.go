package router

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// runChild is a router process: the test binary run again.
func runChild() int {
	var o Options
	if err := json.Unmarshal([]byte(os.Getenv("ROUTER_CHILD")), &o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	r, err := New(o)
	if err == nil {
		TuneProcess(r.log)
		err = r.Run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func startChild(t *testing.T, o Options) *exec.Cmd {
	t.Helper()
	b, _ := json.Marshal(o)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "ROUTER_CHILD="+string(b))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

// startPair starts two router processes on one port.
func startPair(t *testing.T, c *fakeControl) (addr string, pair [2]*exec.Cmd) {
	t.Helper()
	const sysctl = "/proc/sys/net/ipv4/tcp_migrate_req" // TuneProcess sets it
	before, _ := os.ReadFile(sysctl)
	t.Cleanup(func() { _ = os.WriteFile(sysctl, before, 0) })
	addr = "127.0.0.1:0"
	for i := range pair {
		name := fmt.Sprintf("router-%d", i+1)
		pair[i] = startChild(t, Options{Name: name, Listen: addr, Control: c.path, StateDir: filepath.Join(t.TempDir(), name), ReusePort: true,
			DrainTimeout: 4 * time.Second})
		eventually(t, name+" listening", func() bool { return c.report(name).Addr != "" })
		addr = c.report(name).Addr
	}
	return addr, pair
}

// hammer sends requests from workers of both kinds until stop; each failure is
// noted with its worker.
func hammer(t *testing.T, addr string) (requests *atomic.Int64, stop func() (failures map[int][]string)) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	failures := map[int][]string{}
	requests = new(atomic.Int64)
	ctx, cancel := context.WithCancel(context.Background())
	for worker := range 8 {
		wg.Go(func() {
			tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", addr)
			}}
			defer tr.CloseIdleConnections()
			client := &http.Client{Transport: tr, Timeout: 10 * time.Second}
			for ctx.Err() == nil {
				req, _ := http.NewRequest(http.MethodGet, "http://a.test/", nil)
				req.Close = worker%2 == 0
				resp, err := client.Do(req)
				if err == nil {
					_, err = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					if err == nil && resp.StatusCode != 200 {
						err = fmt.Errorf("status %s", resp.Status)
					}
				}
				requests.Add(1)
				if err != nil {
					mu.Lock()
					failures[worker] = append(failures[worker], err.Error())
					mu.Unlock()
				}
			}
		})
	}
	stop = func() map[int][]string { cancel(); wg.Wait(); return failures }
	t.Cleanup(func() { stop() })
	return requests, stop
}

func (c *fakeControl) served(name string) uint64 { return c.report(name).Requests }

func newPairControl(t *testing.T) *fakeControl {
	c := newTestControl(t)
	c.publish(testApp("a", backend(t, func(w http.ResponseWriter, req *http.Request) { fmt.Fprint(w, "hi") })))
	return c
}

func TestTwoRouters_OneKilled_OnlyItsRequestsInFlightFail(t *testing.T) {
	c := newPairControl(t)
	addr, pair := startPair(t, c)
	requests, stop := hammer(t, addr)
	eventually(t, "both serve", func() bool { return c.served("router-1") > 100 && c.served("router-2") > 100 })
	_ = pair[0].Process.Kill()
	_ = pair[0].Wait()
	n := requests.Load()
	eventually(t, "1,000 requests after the kill", func() bool { return requests.Load() > n+1000 })
	failures := stop()
	total := 0
	for worker, errs := range failures {
		total += len(errs)
		if len(errs) > 1 {
			t.Errorf("worker %d failed %d times, want at most the one request in flight: %q", worker, len(errs), errs)
		}
	}
	t.Logf("%d requests, %d failed with the killed router", requests.Load(), total)
}

func TestTwoRouters_OneStopped_NothingFails(t *testing.T) {
	c := newPairControl(t)
	addr, pair := startPair(t, c)
	requests, stop := hammer(t, addr)
	eventually(t, "both serve", func() bool { return c.served("router-1") > 100 && c.served("router-2") > 100 })
	_ = pair[0].Process.Signal(syscall.SIGTERM)
	if err := pair[0].Wait(); err != nil {
		t.Errorf("the stopped router: %v", err)
	}
	n := requests.Load()
	eventually(t, "1,000 requests after the stop", func() bool { return requests.Load() > n+1000 })
	if failures := stop(); len(failures) != 0 {
		t.Errorf("failed: %v", failures)
	}
}

func TestRouter_AdminSocket(t *testing.T) {
	r, c := newTestRouter(t, testApp("a", backend(t, func(http.ResponseWriter, *http.Request) {})))
	get(t, newClient(t, r), "http://a.test/")
	path := filepath.Join(r.opt.StateDir, "admin.sock")
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dialUnix(ctx, path) }}
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr}
	for page, want := range map[string]string{
		"/healthz": `"state":"ready"`, "/table": `"hosts":["a.test"]`, "/metrics": "slipway_router_requests_total{code=\"2xx\"} 1\n",
	} {
		if resp, body := get(t, client, "http://admin"+page); resp.StatusCode != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", page, resp.StatusCode, body)
		}
	}
	if got := c.report("router-1"); got.PID != os.Getpid() || got.Boot == "" {
		t.Errorf("report %+v", got)
	}
}
