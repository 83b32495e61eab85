package router

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/slipway-paas/slipway/internal/paas"
)

func TestMain(m *testing.M) {
	if os.Getenv("ROUTER_CHILD") != "" {
		os.Exit(runChild())
	}
	goleak.VerifyTestMain(m)
}

// fakeControl is the control plane's end of the stream.
type fakeControl struct {
	path string
	srv  *http.Server

	mu      sync.Mutex
	table   paas.Table
	changed chan struct{}
	reports map[string]paas.RouterReport
	streams int
}

func newTestControl(t *testing.T) *fakeControl {
	c := &fakeControl{path: filepath.Join(t.TempDir(), "control.sock"), changed: make(chan struct{}), reports: map[string]paas.RouterReport{}}
	c.table.Epoch = "e1"
	c.start(t)
	return c
}

func (c *fakeControl) start(t *testing.T) {
	t.Helper()
	ln, err := listenUnix(c.path)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /router/report", c.serveReport)
	mux.HandleFunc("POST /router/stream", c.serveStream)
	ctx, cancel := context.WithCancel(context.Background())
	c.srv = &http.Server{Handler: mux, BaseContext: func(net.Listener) context.Context { return ctx }}
	done := make(chan struct{})
	srv := c.srv
	go func() { defer close(done); _ = srv.Serve(ln) }()
	srv.RegisterOnShutdown(cancel)
	t.Cleanup(func() { cancel(); _ = srv.Close(); <-done })
}

func (c *fakeControl) serveReport(w http.ResponseWriter, r *http.Request) {
	var rep paas.RouterReport
	_ = json.NewDecoder(r.Body).Decode(&rep)
	c.mu.Lock()
	c.reports[rep.Router] = rep
	c.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

func (c *fakeControl) serveStream(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	c.mu.Lock()
	c.streams++
	c.mu.Unlock()
	var sent uint64
	beat := time.NewTicker(time.Second)
	defer beat.Stop()
	_ = http.NewResponseController(w).Flush()
	for {
		c.mu.Lock()
		tab, changed := c.table, c.changed
		c.mu.Unlock()
		if tab.Version != sent {
			_ = json.NewEncoder(w).Encode(message{Table: &tab})
			_ = http.NewResponseController(w).Flush()
			sent = tab.Version
		}
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		case <-beat.C:
			_ = json.NewEncoder(w).Encode(message{Heartbeat: true})
			_ = http.NewResponseController(w).Flush()
		}
	}
}

func (c *fakeControl) publish(apps ...paas.RouteTable) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.table.Version++
	c.table.Apps = apps
	close(c.changed)
	c.changed = make(chan struct{})
	return c.table.Version
}

func (c *fakeControl) report(name string) paas.RouterReport {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reports[name]
}

// publishAcked publishes and waits for the confirmation of router-1.
func (c *fakeControl) publishAcked(t *testing.T, apps ...paas.RouteTable) {
	t.Helper()
	v := c.publish(apps...)
	eventually(t, fmt.Sprintf("version %d confirmed", v), func() bool { return c.report("router-1").Version >= v })
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 15 s: %s", what)
		}
	}
}

// testApp makes an app's record; its host is app.NAME.test.
func testApp(name string, addrs ...string) paas.RouteTable {
	a := paas.RouteTable{AppID: "id-" + name, App: name, Hosts: []string{name + ".test"}}
	for _, addr := range addrs {
		a.Endpoints = append(a.Endpoints, paas.Endpoint{Instance: name + "-" + addr, Addr: addr})
	}
	return a
}

func testOptions(t *testing.T, c *fakeControl) Options {
	o := Options{Name: "router-1", Listen: "127.0.0.1:0", Control: c.path, StateDir: t.TempDir(), DrainTimeout: 5 * time.Second,
		FirstTableWait: 10 * time.Second}
	if os.Getenv("ROUTER_LOG") != "" {
		o.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return o
}

// startRouter runs a router until stop is called, at the latest when the test ends.
func startRouter(t *testing.T, o Options) (r *Router, stop func()) {
	t.Helper()
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	select {
	case <-r.Listening():
	case err := <-ended:
		t.Fatalf("Run ended early: %v", err)
	case <-time.After(15 * time.Second):
		t.Fatal("not listening within 15 s")
	}
	return r, stop
}

// newTestRouter starts a control plane with these apps and a router.
func newTestRouter(t *testing.T, apps ...paas.RouteTable) (*Router, *fakeControl) {
	t.Helper()
	c := newTestControl(t)
	c.publish(apps...)
	r, _ := startRouter(t, testOptions(t, c))
	eventually(t, "first table confirmed", func() bool { rep := c.report("router-1"); return rep.Version == 1 && rep.Addr != "" })
	return r, c
}

// backend starts an instance.
func backend(t *testing.T, h http.HandlerFunc) (addr string) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// newClient makes a client that reaches every host through the router.
func newClient(t *testing.T, r *Router) *http.Client {
	tr := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", r.Addr())
		},
		DisableCompression: true, ExpectContinueTimeout: 5 * time.Second, MaxIdleConnsPerHost: 64,
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}
}

func do(t *testing.T, c *http.Client, req *http.Request) (*http.Response, string) {
	t.Helper()
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

func request(t *testing.T, method, url string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

func get(t *testing.T, c *http.Client, url string) (*http.Response, string) {
	t.Helper()
	return do(t, c, request(t, http.MethodGet, url, nil))
}

// sendRaw writes bytes on a fresh connection and returns all that comes back.
func sendRaw(t *testing.T, addr, bytes string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	go func() { _, _ = io.WriteString(c, bytes) }()
	b, _ := io.ReadAll(c)
	return string(b)
}

// rawBackend starts an instance that speaks bytes: serve gets each connection.
func rawBackend(t *testing.T, serve func(n int, c net.Conn, br *bufio.Reader)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 0; ; n++ {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { defer c.Close(); serve(n, c, bufio.NewReader(c)) })
		}
	})
	t.Cleanup(func() { _ = ln.Close(); wg.Wait() })
	return ln.Addr().String()
}

// readHead reads a request's head.
func readHead(br *bufio.Reader) string {
	var b strings.Builder
	for {
		line, err := br.ReadString('\n')
		b.WriteString(line)
		if err != nil || line == "\r\n" {
			return b.String()
		}
	}
}

// deadAddr gives an address where nobody listens.
func deadAddr(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}
