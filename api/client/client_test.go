package client_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/slipway-paas/slipway/api/apitest"
	"github.com/slipway-paas/slipway/api/client"
	"github.com/slipway-paas/slipway/api/v1"
	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/internal/seal"
	"github.com/slipway-paas/slipway/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newPlatform(t *testing.T) *apitest.Platform {
	t.Helper()
	dir := t.TempDir()
	st, err := store.Open(t.Context(), "sqlite:"+filepath.Join(dir, "db"), seal.New(filepath.Join(dir, "key")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return apitest.New(t, st)
}

// between puts a handler in front of the platform.
func between(t *testing.T, p *apitest.Platform, h func(w http.ResponseWriter, r *http.Request, next http.Handler)) *client.Client {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h(w, r, p.API) }))
	c, err := client.New(srv.URL, p.Token)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); srv.Close() })
	return c
}

func TestNew_RefusesWhatIsNoURL(t *testing.T) {
	for _, s := range []string{"", "localhost", "localhost:8000", "ftp://x", "http://", "://"} {
		if _, err := client.New(s, ""); paas.CodeOf(err) != paas.CodeInvalid {
			t.Errorf("New(%q): %v", s, err)
		}
	}
}

func TestErrors_CarryCodeHintAndRequestID(t *testing.T) {
	p := newPlatform(t)
	_, err := p.Client.App(t.Context(), "nobody")
	var e *paas.Error
	if !errors.As(err, &e) || e.Code != paas.CodeNotFound || e.Hint == "" || client.RequestID(err) == "" {
		t.Errorf("error %v, request ID %q", err, client.RequestID(err))
	}
	c := between(t, p, func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		http.Error(w, "<html>", http.StatusTeapot)
	})
	if _, err := c.Apps(t.Context()); paas.CodeOf(err) != paas.CodeInvalid || !strings.Contains(err.Error(), "418") {
		t.Errorf("a stranger's answer: %v", err)
	}
}

func TestRetry_WaitsForTheServerWithinItsPatience(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	c, err := client.New("http://"+addr, "", client.WithPatience(200*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Healthy(t.Context()); paas.CodeOf(err) != paas.CodeUnavailable {
		t.Errorf("nobody listens: %v", err)
	}

	p := newPlatform(t)
	var calls atomic.Int64
	c = between(t, p, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if calls.Add(1) < 3 {
			panic(http.ErrAbortHandler)
		}
		next.ServeHTTP(w, r)
	})
	if _, err := c.Apps(t.Context()); err != nil || calls.Load() != 3 {
		t.Errorf("a read is repeated: %d calls, %v", calls.Load(), err)
	}
	calls.Store(0)
	if _, err := c.CreateApp(t.Context(), v1.CreateApp{Name: "shop"}); paas.CodeOf(err) != paas.CodeUnavailable || calls.Load() > 2 {
		// The transport itself repeats at most once, on a connection that was idle.
		t.Errorf("a change is not repeated: %d calls, %v", calls.Load(), err)
	}
}

// The answer to an accepted upload is lost: the repetition gives the same
// deployment and not a second one.
func TestDeploy_LostAnswerIsHarmless(t *testing.T) {
	p := newPlatform(t)
	var calls atomic.Int64
	c := between(t, p, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if calls.Add(1) == 1 {
			next.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		}
		next.ServeHTTP(w, r)
	})
	var sent atomic.Int64
	content := "PK" + strings.Repeat("x", 100_000)
	d, err := c.Deploy(t.Context(), client.DeployRequest{App: "shop", Create: true, Origin: "cli", Message: "hello",
		Open: apitest.Content(content), Size: int64(len(content)), Progress: sent.Store})
	if err != nil || d.Message != "hello" || calls.Load() != 2 || sent.Load() != int64(len(content)) {
		t.Fatalf("deployment %+v after %d calls, %d bytes, %v", d, calls.Load(), sent.Load(), err)
	}
	if list, err := c.Deployments(t.Context(), "shop", 0); err != nil || len(list) != 1 {
		t.Errorf("%d deployments, want 1, %v", len(list), err)
	}
}

func TestDeploy_SendsManifestsBeside(t *testing.T) {
	p := newPlatform(t)
	d, err := p.Client.Deploy(t.Context(), client.DeployRequest{App: "shop", Create: true, Open: apitest.Content("PK"),
		Manifest: []byte(`{"command":"x"}`), Deployment: []byte(`{"memory":"1G"}`)})
	if err != nil {
		t.Fatal(err)
	}
	b, err := p.Store.Build(t.Context(), d.Build)
	if err != nil || !bytes.Contains(b.Manifest, []byte("command")) || !bytes.Contains(b.Deployment, []byte("memory")) {
		t.Errorf("build %+v, %v", b, err)
	}
}

func TestDeploy_RefusalComesBeforeTheArchiveGoes(t *testing.T) {
	p := newPlatform(t)
	var sent atomic.Int64
	_, err := p.Client.Deploy(t.Context(), client.DeployRequest{App: "nobody", Size: 8 << 20, Progress: sent.Store,
		Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(make([]byte, 8<<20))), nil }})
	if paas.CodeOf(err) != paas.CodeNotFound || sent.Load() > 0 {
		t.Errorf("%d bytes were sent, %v", sent.Load(), err)
	}
}

func TestDeploy_OpenThatFailsIsTheError(t *testing.T) {
	p := newPlatform(t)
	broken := errors.New("no such file")
	_, err := p.Client.Deploy(t.Context(), client.DeployRequest{App: "shop", Open: func() (io.ReadCloser, error) { return nil, broken }})
	if !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
}

func TestFollow_GivesUpWithinItsPatience(t *testing.T) {
	p := newPlatform(t)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Error(w, "", http.StatusBadGateway) }))
	defer srv.Close()
	c, err := client.New(srv.URL, p.Token, client.WithStreamPatience(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.FollowDeployment(t.Context(), "shop", 1, nil); paas.CodeOf(err) != paas.CodeUnavailable {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.FollowDeployment(ctx, "shop", 1, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if _, err := p.Client.FollowDeployment(t.Context(), "shop", 1, nil); paas.CodeOf(err) != paas.CodeNotFound {
		t.Errorf("unknown app: %v", err)
	}
}

func TestWaitGone_EndsWithItsContext(t *testing.T) {
	p := newPlatform(t)
	if _, err := p.Client.CreateApp(t.Context(), v1.CreateApp{Name: "shop"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := p.Client.WaitGone(ctx, "shop"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}
