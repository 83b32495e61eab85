package router

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

func TestRouter_SwapDuringRequest_KeepsRequestAndCountsIt(t *testing.T) {
	begun, finish := make(chan struct{}), make(chan struct{})
	old := backend(t, func(w http.ResponseWriter, req *http.Request) {
		close(begun)
		<-finish
		fmt.Fprint(w, "old")
	})
	r, c := newTestRouter(t, testApp("a", old))
	client := newClient(t, r)
	answer := make(chan string, 1)
	req := request(t, http.MethodGet, "http://a.test/", nil)
	go func() {
		resp, err := client.Do(req)
		if err != nil {
			answer <- err.Error()
			return
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		answer <- string(b)
	}()
	<-begun
	c.publishAcked(t, testApp("a", backend(t, func(w http.ResponseWriter, req *http.Request) { fmt.Fprint(w, "new") })))
	if n := c.report("router-1").InFlight["a-"+old]; n != 1 {
		t.Errorf("in flight at the old instance, with the confirmation: %d, want 1", n)
	}
	if _, body := get(t, client, "http://a.test/"); body != "new" {
		t.Errorf("after the confirmation: %q, want the new instance", body)
	}
	close(finish)
	if got := <-answer; got != "old" {
		t.Errorf("the request in flight got %q", got)
	}
	eventually(t, "drained", func() bool { return c.report("router-1").InFlight["a-"+old] == 0 })
	r.instances.mu.Lock()
	defer r.instances.mu.Unlock()
	if len(r.instances.all) != 1 {
		t.Errorf("%d instances known, want only the new one", len(r.instances.all))
	}
}

// fleet runs one app like reconcile does: start, publish, wait for the
// confirmation and the drain, stop.
type fleet struct{ running []*fleetInstance }

type fleetInstance struct {
	*httptest.Server
	addr    string
	stopped atomic.Bool
}

func (f *fleet) start(late *atomic.Int64) *fleetInstance {
	in := &fleetInstance{}
	in.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if in.stopped.Load() {
			late.Add(1)
		}
		if strings.HasPrefix(req.URL.Path, "/slow") {
			time.Sleep(2 * time.Second) // the work of a slow request, not a wait of the test
		}
		b, _ := io.ReadAll(req.Body)
		fmt.Fprintf(w, "%s", b)
	}))
	in.addr = in.Listener.Addr().String()
	return in
}

func (f *fleet) app() paas.RouteTable {
	var addrs []string
	for _, in := range f.running {
		addrs = append(addrs, in.addr)
	}
	return testApp("a", addrs...)
}

// load sends requests until stop, over kept and fresh connections, and counts failures.
func load(ctx context.Context, wg *sync.WaitGroup, c *http.Client, fresh bool, path string, sent *atomic.Int64, failed func(string)) {
	wg.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			want := fmt.Sprintf("%s %d", path, i)
			req, _ := http.NewRequest(http.MethodPost, "http://a.test"+path, bytes.NewReader([]byte(want)))
			req.Close = fresh
			resp, err := c.Do(req)
			if err != nil {
				failed(err.Error())
				continue
			}
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != 200 || string(b) != want {
				failed(fmt.Sprintf("%d %v %.200s", resp.StatusCode, err, b))
			}
			sent.Add(1)
		}
	})
}

func TestRouter_ThousandSwapsUnderLoad_NoFailedRequest(t *testing.T) {
	c := newTestControl(t)
	var late, sent atomic.Int64
	f := &fleet{}
	for range 2 {
		f.running = append(f.running, f.start(&late))
	}
	c.publish(f.app())
	r, _ := startRouter(t, testOptions(t, c))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	failed := func(s string) { t.Errorf("request failed: %s", s) }
	client := newClient(t, r)
	for i := range 6 {
		load(ctx, &wg, client, i%2 == 0, "/fast", &sent, failed)
	}
	for range 4 {
		load(ctx, &wg, client, false, "/slow", &sent, failed)
	}
	// Drains of 2 s happen beside 1,000 swaps that change something else.
	rolls := make(chan struct{})
	var mu sync.Mutex
	extra := testApp("b", deadAddr(t))
	publish := func() {
		mu.Lock()
		defer mu.Unlock()
		c.publish(f.app(), extra)
	}
	go func() {
		defer close(rolls)
		for range 5 {
			old := f.running[0]
			fresh := f.start(&late)
			mu.Lock()
			f.running = append(f.running[1:len(f.running):len(f.running)], fresh)
			mu.Unlock()
			publish()
			v := c.newest()
			eventually(t, "confirmed", func() bool { return c.report("router-1").Version >= v })
			eventually(t, "drained", func() bool { return c.report("router-1").InFlight["a-"+old.addr] == 0 })
			old.stopped.Store(true)
			old.CloseClientConnections()
			old.Close()
		}
	}()
	for i := range 1000 {
		extra.NoInstance = fmt.Sprint(i)
		publish()
		v := c.newest()
		eventually(t, "confirmed", func() bool { return c.report("router-1").Version >= v })
	}
	<-rolls
	cancel()
	wg.Wait()
	for _, in := range f.running {
		in.Close()
	}
	if late.Load() != 0 {
		t.Errorf("%d requests reached an instance after it was drained", late.Load())
	}
	t.Logf("%d requests, %d retries", sent.Load(), r.metrics.retries.Load())
}

func (c *fakeControl) newest() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.table.Version
}

func TestRouter_ControlDown_ServesFromSavedTable(t *testing.T) {
	addr := backend(t, func(w http.ResponseWriter, req *http.Request) { fmt.Fprint(w, "hi") })
	c := newTestControl(t)
	c.publish(testApp("a", addr))
	o := testOptions(t, c)
	_, stop := startRouter(t, o)
	stop()
	_ = c.srv.Close()
	start := time.Now()
	r, _ := startRouter(t, o)
	if d := time.Since(start); d > 3*time.Second {
		t.Errorf("listening after %v with a saved table", d)
	}
	if _, body := get(t, newClient(t, r), "http://a.test/"); body != "hi" {
		t.Errorf("got %q", body)
	}
	if !r.table.Load().saved {
		t.Error("the table does not say that it is the saved one")
	}
	// The control plane returns with a new epoch and a lower version.
	c.mu.Lock()
	c.table.Epoch, c.table.Version = "e2", 0
	c.mu.Unlock()
	c.publish(testApp("b", addr))
	c.start(t)
	eventually(t, "new epoch confirmed", func() bool { return c.report("router-1").Epoch == "e2" })
	if resp, _ := get(t, newClient(t, r), "http://a.test/"); resp.StatusCode != 404 {
		t.Errorf("a left the table: got %d, want 404", resp.StatusCode)
	}
}

func TestRouter_NothingSavedAndControlDown_Answers503(t *testing.T) {
	o := testOptions(t, &fakeControl{path: filepath.Join(t.TempDir(), "none.sock")})
	o.FirstTableWait = 10 * time.Millisecond
	if err := os.WriteFile(filepath.Join(o.StateDir, "table.json"), []byte(`{"sha256":"00","table":{"version":7}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	r, _ := startRouter(t, o) // the spoiled table is left out
	if resp, _ := get(t, newClient(t, r), "http://a.test/"); resp.StatusCode != 503 || resp.Header.Get(headerError) != errNoTable {
		t.Errorf("got %d %v", resp.StatusCode, resp.Header)
	}
}

func TestRouter_OldVersion_Ignored(t *testing.T) {
	r, _ := newTestRouter(t, testApp("a", deadAddr(t)))
	for _, v := range []uint64{0, 1} {
		if r.apply(paas.Table{Epoch: "e1", Version: v}) {
			t.Errorf("version %d of the same epoch was applied over 1", v)
		}
	}
}

func TestRouter_StreamLost_Replaced(t *testing.T) {
	c := newTestControl(t)
	c.publish(testApp("a"))
	startRouter(t, testOptions(t, c))
	first := c.srv
	eventually(t, "stream", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.streams == 1 })
	_ = first.Close() // a control plane that ends and comes back
	c.start(t)
	c.publish(testApp("a"), testApp("b"))
	eventually(t, "second stream", func() bool { return c.report("router-1").Version == 2 })
}

func TestNewTable_BadRecords_RefusedAlone(t *testing.T) {
	good := testApp("good", "10.0.0.1:80")
	bad := paas.RouteTable{AppID: "id-bad", App: "bad", Hosts: []string{"BAD.test", "good.test", "ok.test"}, Endpoints: []paas.Endpoint{
		{Instance: "", Addr: "10.0.0.2:80"}, {Instance: "x", Addr: "host:80"}, {Instance: "y", Addr: "0.0.0.0:80"}, {Instance: "z", Addr: "10.0.0.3:0"},
		{Instance: good.Endpoints[0].Instance, Addr: "10.0.0.4:80"}, {Instance: "fine", Addr: "10.0.0.5:80"},
	}}
	tab, refused := newTable(paas.Table{Version: 1, Apps: []paas.RouteTable{good, bad, {App: "nameless"}}}, &instances{all: map[paas.Endpoint]*instance{}})
	if len(refused) != 8 {
		t.Errorf("refused %d records: %v", len(refused), errors.Join(refused...))
	}
	if len(tab.hosts) != 2 || tab.hosts["good.test"].App != "good" || len(tab.hosts["ok.test"].instances) != 1 {
		t.Errorf("hosts %v", tab.hosts)
	}
}

func TestSavedTable_RoundTripAndDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "table.json")
	want := paas.Table{Epoch: "e", Version: 9, Apps: []paas.RouteTable{testApp("a", "10.0.0.1:80")}}
	if err := writeSaved(path, &want, time.Now()); err != nil {
		t.Fatal(err)
	}
	got, _, err := readSaved(path)
	if err != nil || got.Version != 9 || len(got.Apps) != 1 {
		t.Fatalf("read back %+v, %v", got, err)
	}
	b, _ := os.ReadFile(path)
	for i := range b {
		damaged := bytes.Clone(b)
		damaged[i] ^= 0x01
		if got, _, err := decodeSaved(damaged); err == nil && (got.Version != 9 || got.Apps[0].Endpoints[0] != want.Apps[0].Endpoints[0]) {
			t.Errorf("byte %d turned: read as %+v", i, got)
		}
	}
	for n := range b {
		if _, _, err := decodeSaved(b[:n]); err == nil {
			t.Errorf("cut to %d bytes: no error", n)
		}
	}
}

func FuzzTable_Decode(f *testing.F) {
	f.Add([]byte(`{"epoch":"e","version":1,"apps":[{"appId":"a","app":"a","hosts":["a.test"],"endpoints":[{"instance":"i","addr":"10.0.0.1:80"}]}]}`))
	f.Add([]byte(`{"sha256":"","table":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _, _ = decodeSaved(b)
		var src paas.Table
		if json.Unmarshal(b, &src) != nil {
			return
		}
		tab, _ := newTable(src, &instances{all: map[paas.Endpoint]*instance{}})
		for host, a := range tab.hosts {
			if name, ok := NormalizeHost(host); !ok || name != host || a.AppID == "" {
				t.Errorf("host %q of app %q got in", host, a.App)
			}
		}
	})
}
