package feed

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/slipway-paas/slipway/internal/paas"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.t }
func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func newTestFeed(expect ...string) (*Feed, *clock) {
	c := &clock{t: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)}
	return New(Options{Now: c.now, Expect: expect, Heartbeat: 20 * time.Millisecond}), c
}

func apps(endpoints ...string) []paas.RouteTable {
	t := paas.RouteTable{AppID: "a1", App: "hello", Hosts: []string{"hello.localhost"}}
	for _, e := range endpoints {
		t.Endpoints = append(t.Endpoints, paas.Endpoint{Instance: e, Addr: "10.0.0.1:8080"})
	}
	return []paas.RouteTable{t}
}

func publish(t *testing.T, f *Feed, list []paas.RouteTable) uint64 {
	t.Helper()
	v, err := f.Publish(t.Context(), list)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func report(f *Feed, name, boot string, version uint64, inFlight map[string]int) {
	f.record(paas.RouterReport{Router: name, Boot: boot, Epoch: f.epoch, Version: version, InFlight: inFlight})
}

func TestFeed_PublishSameContent_KeepsVersion(t *testing.T) {
	f, _ := newTestFeed()
	if v := publish(t, f, nil); v != 1 {
		t.Fatalf("first version = %d, want 1", v)
	}
	v := publish(t, f, apps("x"))
	if again := publish(t, f, apps("x")); v != 2 || again != v {
		t.Fatalf("versions = %d, %d, want 2, 2", v, again)
	}
	if v := publish(t, f, apps("y")); v != 3 {
		t.Fatalf("version after a change = %d, want 3", v)
	}
}

func TestFeed_PublishedTable_IsDetachedFromCaller(t *testing.T) {
	f, _ := newTestFeed()
	mine := apps("x")
	publish(t, f, mine)
	mine[0].Endpoints[0].Instance = "changed"
	if got := f.Table().Apps[0].Endpoints[0].Instance; got != "x" {
		t.Fatalf("instance = %q, want x", got)
	}
}

func TestFeed_Acked(t *testing.T) {
	tests := []struct {
		name   string
		expect []string
		do     func(f *Feed, c *clock)
		want   bool
	}{
		{"no router just after start: one may be silent", nil, func(*Feed, *clock) {}, false},
		{"no router for GoneAfter", nil, func(_ *Feed, c *clock) { c.advance(10 * time.Second) }, true},
		{"the only router applied it", nil, func(f *Feed, _ *clock) { report(f, "r1", "b", 1, nil) }, true},
		{"router is behind", nil, func(f *Feed, _ *clock) { report(f, "r1", "b", 0, nil) }, false},
		{"one of two is behind", nil, func(f *Feed, _ *clock) {
			report(f, "r1", "b", 1, nil)
			report(f, "r2", "b", 0, nil)
		}, false},
		{"older epoch with a high version is not it", nil, func(f *Feed, c *clock) {
			c.advance(time.Minute)
			f.record(paas.RouterReport{Router: "r1", Boot: "b", Epoch: "older", Version: 99})
		}, false},
		{"a silent router loses its lease", nil, func(f *Feed, c *clock) {
			report(f, "r1", "b", 0, nil)
			c.advance(9999 * time.Millisecond)
			if f.Acked(1) {
				panic("acknowledged before the lease ended")
			}
			c.advance(time.Millisecond)
		}, true},
		{"expected router has not come back", []string{"r1", "r2"}, func(f *Feed, _ *clock) { report(f, "r1", "b", 1, nil) }, false},
		{"expected router stays away", []string{"r1", "r2"}, func(f *Feed, c *clock) {
			c.advance(10 * time.Second)
			report(f, "r1", "b", 1, nil)
		}, true},
		{"a new boot replaces the killed one", nil, func(f *Feed, _ *clock) {
			report(f, "r1", "b1", 0, nil)
			report(f, "r1", "b2", 1, nil)
		}, true},
		{"the older boot lives on and is behind", nil, func(f *Feed, _ *clock) {
			report(f, "r1", "b1", 0, nil)
			report(f, "r1", "b2", 1, nil)
			report(f, "r1", "b1", 0, nil)
		}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, c := newTestFeed(tt.expect...)
			v := publish(t, f, apps("x"))
			tt.do(f, c)
			if got := f.Acked(v); got != tt.want {
				t.Fatalf("Acked(%d) = %v, want %v; routers %+v", v, got, tt.want, f.Reports())
			}
			if f.Acked(v + 1) {
				t.Fatal("a version that was never published is acknowledged")
			}
		})
	}
}

func TestFeed_InFlight_SumsLiveRouters(t *testing.T) {
	f, c := newTestFeed()
	report(f, "r1", "b", 1, map[string]int{"x": 2})
	c.advance(6 * time.Second)
	report(f, "r2", "b", 1, map[string]int{"x": 3, "y": 1})
	if n := f.InFlight("x"); n != 5 {
		t.Fatalf("in flight = %d, want 5", n)
	}
	c.advance(5 * time.Second)
	if n := f.InFlight("x"); n != 3 {
		t.Fatalf("in flight after r1 went silent = %d, want 3", n)
	}
	if r := f.Reports(); len(r) != 2 || r[0].Live || !r[1].Live {
		t.Fatalf("reports = %+v, want r1 gone and r2 live", r)
	}
}

func TestFeed_Changed_OnlyWhenSomethingDid(t *testing.T) {
	f, _ := newTestFeed()
	report(f, "r1", "b", 1, map[string]int{"x": 1})
	ch := f.Changed()
	report(f, "r1", "b", 1, map[string]int{"x": 1})
	select {
	case <-ch:
		t.Fatal("closed by a report that says nothing new")
	default:
	}
	report(f, "r1", "b", 1, nil)
	select {
	case <-ch:
	default:
		t.Fatal("not closed though a request ended")
	}
}

// serve mounts f on a unix socket, as the server does.
func serve(t *testing.T, f *Feed) *http.Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "control.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: f.Handler(), ReadHeaderTimeout: time.Second}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	t.Cleanup(func() { tr.CloseIdleConnections(); _ = s.Close(); <-done })
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

func post(t *testing.T, c *http.Client, path string, body any) *http.Response {
	t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Post("http://control"+path, "application/json", bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// nextTable reads lines until a table comes, counting heartbeats.
func nextTable(t *testing.T, in *bufio.Scanner) (paas.Table, int) {
	t.Helper()
	for beats := 0; in.Scan(); beats++ {
		var m message
		if err := json.Unmarshal(in.Bytes(), &m); err != nil {
			t.Fatalf("line of %d bytes, %.80q…: %v", len(in.Bytes()), in.Text(), err)
		}
		if m.Table != nil {
			return *m.Table, beats
		}
	}
	t.Fatalf("stream ended: %v", in.Err())
	return paas.Table{}, 0
}

func TestHandler_StreamAndReport(t *testing.T) {
	f := New(Options{Heartbeat: 5 * time.Millisecond})
	c := serve(t, f)
	hello := paas.RouterReport{Router: "r1", Boot: "b", Epoch: "saved", Version: 7}
	in := bufio.NewScanner(post(t, c, "/router/stream", hello).Body)
	if !in.Scan() || in.Text() != `{"heartbeat":true}` {
		t.Fatalf("line before the first table = %q, want a heartbeat", in.Text())
	}

	v := publish(t, f, apps("x"))
	table, _ := nextTable(t, in)
	if table.Version != v || table.Apps[0].Endpoints[0].Instance != "x" || f.Acked(v) {
		t.Fatalf("table = %+v, acked = %v", table, f.Acked(v))
	}
	changed := f.Changed()
	ack := paas.RouterReport{Router: "r1", Boot: "b", Epoch: table.Epoch, Version: table.Version}
	if resp := post(t, c, "/router/report", ack); resp.StatusCode != http.StatusNoContent {
		t.Fatalf("report answered %d, want 204", resp.StatusCode)
	}
	<-changed
	if !f.Acked(v) {
		t.Fatalf("not acknowledged; routers %+v", f.Reports())
	}
}

func TestHandler_SlowRouter_GetsOnlyNewest(t *testing.T) {
	f := New(Options{})
	c := serve(t, f)
	body := post(t, c, "/router/stream", paas.RouterReport{Router: "r1", Boot: "b"}).Body
	// Far more than the buffers of a socket: what was not sent in time must be skipped.
	var last uint64
	for i := range 100 {
		list := apps()
		for j := range 1000 {
			list[0].Endpoints = append(list[0].Endpoints, paas.Endpoint{Instance: fmt.Sprintf("i-%d-%d", i, j), Addr: "10.0.0.1:8080"})
		}
		last = publish(t, f, list)
	}
	in := bufio.NewScanner(body)
	in.Buffer(nil, 16<<20)
	for got := 1; ; got++ {
		table, _ := nextTable(t, in)
		if table.Version == last {
			if got > 60 {
				t.Fatalf("%d of %d tables were sent to a router that did not read", got, last)
			}
			return
		}
	}
}

func TestHandler_BadReport_Is400(t *testing.T) {
	f := New(Options{})
	c := serve(t, f)
	for _, body := range []any{"text", map[string]any{"router": "r1"}, map[string]any{"boot": "b"}} {
		if resp := post(t, c, "/router/report", body); resp.StatusCode != http.StatusBadRequest {
			t.Fatalf("%v answered %d, want 400", body, resp.StatusCode)
		}
	}
	if len(f.Reports()) != 0 {
		t.Fatalf("reports = %+v, want none", f.Reports())
	}
}
