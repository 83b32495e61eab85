package reconcile

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

func TestProbe(t *testing.T) {
	tests := []struct {
		name    string
		check   paas.HealthCheck
		handler http.HandlerFunc // nil: nothing listens
		ok      bool
		text    string // what the sentence begins with
	}{
		{"200", paas.HealthCheck{}, status(200), true, "GET / answered 200 in "},
		{"404 is an answer", paas.HealthCheck{}, status(404), true, "GET / answered 404 in "},
		{"redirects are not followed", paas.HealthCheck{}, status(302), true, "GET / answered 302 in "},
		{"500", paas.HealthCheck{}, status(500), false, "GET / answered 500 in "},
		{"strict 204", paas.HealthCheck{Path: "/up", Strict: true}, status(204), false, "GET /up answered 204 in "},
		{"strict 200", paas.HealthCheck{Path: "/up?x=1", Strict: true}, status(200), true, "GET /up?x=1 answered 200 in "},
		{"refused", paas.HealthCheck{}, nil, false, "port not open on 127.0.0.1:"},
		{"no answer", paas.HealthCheck{Timeout: 50 * time.Millisecond}, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, false, "GET / had no answer within 0.1 s"},
		{"closed", paas.HealthCheck{}, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, false, "GET /: the connection was closed without an answer"},
		{"host", paas.HealthCheck{}, func(w http.ResponseWriter, r *http.Request) {
			if r.Host != "hello.localhost" {
				w.WriteHeader(500)
			}
		}, true, "GET / answered 200"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := probe(t.Context(), target{addr: listen(t, tt.handler), host: "hello.localhost", check: tt.check})
			if a.ok != tt.ok || !strings.HasPrefix(a.text, tt.text) || a.ok != (a.bad == "") || a.connected != (tt.handler != nil) {
				t.Errorf("got %+v, want ok=%v and %q", a, tt.ok, tt.text)
			}
		})
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func listen(t *testing.T, h http.HandlerFunc) string {
	if h == nil {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		return l.Addr().String()
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func TestHealth_ThreeBadAnswersInARow_TurnSick(t *testing.T) {
	good, bad := answer{ok: true, connected: true, text: "ok"}, answer{connected: true, text: "500 in 3 ms", bad: "500"}
	h := Health{}.after(good)
	for _, a := range []answer{bad, bad, good, bad, bad} {
		h = h.after(a)
		if !h.Healthy {
			t.Fatalf("sick before three in a row: %+v", h)
		}
	}
	if h = h.after(bad); h.Healthy || h.BadCount != 3 || h.Failures != 3 {
		t.Fatalf("after the third: %+v", h)
	}
	if h = h.after(good); !h.Healthy {
		t.Fatal("one good answer must bring it back")
	}
}

func TestProber_ProbesUntilTargetIsGone(t *testing.T) {
	answers := make(chan string, 100)
	p := newProber(func(id string, a answer) { answers <- id })
	p.ask = func(context.Context, target) answer { return answer{} }
	ctx, cancel := context.WithCancel(t.Context())
	p.set(ctx, map[string]target{"x": {addr: "a"}})
	for range 3 {
		if id := <-answers; id != "x" {
			t.Fatalf("probed %s", id)
		}
	}
	p.set(ctx, nil)
	cancel()
	p.wait()
}
