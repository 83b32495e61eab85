package router

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/router/feed"
)

// The real other end of the stream: a rolling deployment as reconcile does it.
func TestRouter_WithTheRealFeed_BarrierAndDrain(t *testing.T) {
	f := feed.New(feed.Options{Expect: []string{"router-1"}})
	path := filepath.Join(t.TempDir(), "control.sock")
	ln, err := listenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	srv := &http.Server{Handler: f.Handler(), BaseContext: func(net.Listener) context.Context { return ctx }}
	served := make(chan struct{})
	go func() { defer close(served); _ = srv.Serve(ln) }()
	t.Cleanup(func() { cancel(); _ = srv.Close(); <-served })

	publish := func(apps ...paas.RouteTable) uint64 {
		v, err := f.Publish(t.Context(), apps)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	begun, finish := make(chan struct{}), make(chan struct{})
	old := testApp("a", backend(t, func(w http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-finish
		fmt.Fprint(w, "old")
	}))
	publish(old)
	o := testOptions(t, &fakeControl{path: path})
	r, _ := startRouter(t, o)
	client := newClient(t, r)
	answered := make(chan int, 1)
	req := request(t, http.MethodGet, "http://a.test/", nil)
	go func() {
		resp, err := client.Do(req)
		if err != nil {
			answered <- 0
			return
		}
		resp.Body.Close()
		answered <- resp.StatusCode
	}()
	<-begun
	v := publish(testApp("a", backend(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "new") })))
	eventually(t, "acknowledged", func() bool { return f.Acked(v) })
	if n := f.InFlight(old.Endpoints[0].Instance); n != 1 {
		t.Errorf("the feed knows of %d requests at the old instance, want 1", n)
	}
	if _, body := get(t, client, "http://a.test/"); body != "new" {
		t.Errorf("after the acknowledgement: %q", body)
	}
	close(finish)
	if code := <-answered; code != 200 {
		t.Errorf("the request in flight got %d", code)
	}
	eventually(t, "drained", func() bool { return f.InFlight(old.Endpoints[0].Instance) == 0 })
}
