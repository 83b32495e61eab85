package router

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestRouter_DeadEndpoint_RetriedThenEjected(t *testing.T) {
	dead := deadAddr(t)
	r, c := newTestRouter(t, testApp("a", dead, backend(t, func(w http.ResponseWriter, req *http.Request) {
		b, _ := io.ReadAll(req.Body)
		fmt.Fprint(w, string(b))
	})))
	client := newClient(t, r)
	for i := range 30 {
		if resp, body := do(t, client, request(t, http.MethodPost, "http://a.test/", strings.NewReader("posted"))); resp.StatusCode != 200 || body != "posted" {
			t.Fatalf("request %d: %d %q", i, resp.StatusCode, body)
		}
	}
	eventually(t, "ejection reported", func() bool { return strings.Contains(c.report("router-1").Unhealthy["a-"+dead], "refused") })
	before := r.metrics.retries.Load()
	for range 20 {
		get(t, client, "http://a.test/")
	}
	if n := r.metrics.retries.Load() - before; n != 0 {
		t.Errorf("%d retries with the dead instance ejected, want 0", n)
	}
}

func TestHealth_EjectsAfterThree_ReturnsAfterFiveSeconds(t *testing.T) {
	var h health
	now := time.Unix(1000, 0)
	err := errors.New("refused")
	for range 2 {
		if h.connectFailed(now, err) || h.isEjected(now) {
			t.Fatal("ejected before the third failure")
		}
	}
	if !h.connectFailed(now, err) || !h.isEjected(now) || h.ejected(now) == "" {
		t.Fatal("not ejected by the third failure")
	}
	later := now.Add(ejectFor)
	if h.isEjected(later) {
		t.Fatal("still ejected after 5 s")
	}
	if !h.connectFailed(later, err) || !h.isEjected(later) {
		t.Fatal("not ejected again by one more failure")
	}
	h.connected()
	if h.isEjected(later) || h.connectFailed(later, err) {
		t.Fatal("a connection did not clear the count")
	}
}

func TestPick(t *testing.T) {
	now := time.Now()
	a, b, c := &instance{id: "a"}, &instance{id: "b"}, &instance{id: "c"}
	all := []*instance{a, b, c}
	b.inFlight.Store(5)
	counts := map[string]int{}
	for range 1000 {
		counts[pick(all, nil, now).id]++
	}
	if counts["b"] != 0 || counts["a"] < 300 || counts["c"] < 300 {
		t.Errorf("with b loaded: %v", counts)
	}
	eject := func(in *instance) {
		for range ejectAfter {
			in.health.connectFailed(now, errors.New("x"))
		}
	}
	eject(a)
	for range 100 {
		if pick(all, nil, now) == a {
			t.Fatal("an ejected instance was picked")
		}
	}
	eject(b)
	eject(c)
	if pick(all, nil, now) == nil {
		t.Error("with all ejected, none was picked")
	}
	if got := pick(all, []*instance{a, c}, now); got != b {
		t.Errorf("with a and c tried: %v", got)
	}
	if pick(all, all, now) != nil || pick(nil, nil, now) != nil {
		t.Error("picked one where there is none")
	}
}

// dyingBackend answers the first request of its first connection, and closes that
// connection in the way given when the second request comes.
func dyingBackend(t *testing.T, seen *atomic.Int64) string {
	return rawBackend(t, func(n int, c net.Conn, br *bufio.Reader) {
		for i := 0; ; i++ {
			head := readHead(br)
			if !strings.Contains(head, "\r\n\r\n") {
				return
			}
			seen.Add(1)
			if n == 0 && i == 1 {
				return // no byte of an answer
			}
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
}

func TestRouter_ReusedConnectionDies_OnlySafeOnesRepeated(t *testing.T) {
	for _, tc := range []struct {
		method string
		body   string
		code   int
		seen   int64
	}{
		{"GET", "", 200, 3},
		{"DELETE", "", 200, 3},
		{"POST", "", 502, 2},
		{"PATCH", "", 502, 2},
		{"PUT", "body", 502, 2},
	} {
		t.Run(tc.method, func(t *testing.T) {
			var seen atomic.Int64
			r, _ := newTestRouter(t, testApp("a", dyingBackend(t, &seen)))
			c := newClient(t, r)
			get(t, c, "http://a.test/")
			resp, body := do(t, c, request(t, tc.method, "http://a.test/", strings.NewReader(tc.body)))
			if resp.StatusCode != tc.code || seen.Load() != tc.seen {
				t.Errorf("got %d %q, the instance saw %d requests; want %d and %d", resp.StatusCode, body, seen.Load(), tc.code, tc.seen)
			}
		})
	}
}

// A connection that the instance closed while idle is noticed before a request is
// put on it, so that not even a POST is lost.
func TestRouter_InstanceClosesIdleConnections_NothingLost(t *testing.T) {
	closed := make(chan struct{}, 1)
	r, _ := newTestRouter(t, testApp("a", rawBackend(t, func(_ int, c net.Conn, br *bufio.Reader) {
		readHead(br)
		fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		c.Close()
		closed <- struct{}{}
	})))
	c := newClient(t, r)
	for i := range 50 {
		resp, body := do(t, c, request(t, http.MethodPost, "http://a.test/", nil))
		if resp.StatusCode != 200 {
			t.Fatalf("request %d: %d %q", i, resp.StatusCode, body)
		}
		<-closed
	}
}

func TestPool_OldConnectionsAreNotReused(t *testing.T) {
	addr := backend(t, func(http.ResponseWriter, *http.Request) {})
	in := &instance{addr: addr}
	now := time.Now()
	put := func() {
		c, err := in.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		in.pool.put(c, now)
	}
	put()
	if c := in.pool.take(now.Add(unrepeatableLimit), unrepeatableLimit); c != nil {
		t.Error("a POST got a connection idle for 1 s")
	}
	c := in.pool.take(now.Add(unrepeatableLimit), maxIdleLimit)
	if c == nil {
		t.Fatal("a GET did not get a connection idle for 1 s")
	}
	in.pool.put(c, now)
	if in.pool.take(now.Add(defaultIdleLimit), maxIdleLimit) != nil {
		t.Error("a connection past its limit was reused")
	}
	put()
	in.pool.sweep(now.Add(defaultIdleLimit))
	if len(in.pool.idle) != 0 {
		t.Error("the sweep left an old connection")
	}
	put()
	in.pool.close()
	put()
	if len(in.pool.idle) != 0 {
		t.Error("a closed pool holds a connection")
	}
}

func TestResponse_KeepAliveTimeout_IsBelieved(t *testing.T) {
	for value, want := range map[string]time.Duration{"timeout=5": 4 * time.Second, "max=3, timeout=10": 9 * time.Second, "timeout=1": 0, "timeout=999": maxIdleLimit, "x": defaultIdleLimit} {
		c := &conn{idleLimit: defaultIdleLimit}
		(&response{header: http.Header{"Keep-Alive": {value}}}).noteIdleLimit(c)
		if c.idleLimit != want {
			t.Errorf("Keep-Alive %q: %v, want %v", value, c.idleLimit, want)
		}
	}
}
