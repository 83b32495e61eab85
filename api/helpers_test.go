package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"go.uber.org/goleak"

	"github.com/slipway-paas/slipway/api"
	"github.com/slipway-paas/slipway/api/apitest"
	"github.com/slipway-paas/slipway/api/v1"
	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/internal/seal"
	"github.com/slipway-paas/slipway/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newPlatform is a server over a real store in a file.
func newPlatform(t *testing.T, change ...func(*api.Deps)) *apitest.Platform {
	t.Helper()
	dir := t.TempDir()
	st, err := store.Open(t.Context(), "sqlite:"+filepath.Join(dir, "db"), seal.New(filepath.Join(dir, "key")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return apitest.New(t, st, change...)
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) error(t *testing.T) v1.Error {
	t.Helper()
	var e v1.Error
	if err := json.Unmarshal(a.body, &e); err != nil {
		t.Fatalf("status %d, body %q is no error: %v", a.status, a.body, err)
	}
	return e
}

// ask is one request with the token; header is name, value, name, value …
func ask(t *testing.T, p *apitest.Platform, method, path, body string, header ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, p.HTTP.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+p.Token)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
		if header[i+1] == "" {
			req.Header.Del(header[i])
		}
	}
	resp, err := p.HTTP.Client().Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{resp.StatusCode, resp.Header, text}
	checkAgainstSpec(t, req, a)
	return a
}

var spec, specRoutes = loadSpec()

func loadSpec() (*openapi3.T, routers.Router) {
	doc, err := openapi3.NewLoader().LoadFromFile("openapi.yaml")
	if err != nil {
		panic(err)
	}
	r, err := legacy.NewRouter(doc)
	if err != nil {
		panic(err)
	}
	return doc, r
}

// checkAgainstSpec holds every answer that a test sees to openapi.yaml.
func checkAgainstSpec(t *testing.T, req *http.Request, a answer) {
	t.Helper()
	rel := req.Clone(context.Background())
	rel.URL.Scheme, rel.URL.Host, rel.Host = "", "", ""
	route, params, err := specRoutes.FindRoute(rel)
	if err != nil || !strings.HasPrefix(a.header.Get("Content-Type"), "application/json") {
		return
	}
	err = openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: rel, PathParams: params, Route: route},
		Status:                 a.status, Header: a.header, Body: io.NopCloser(bytes.NewReader(a.body)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	})
	if err != nil {
		t.Errorf("%s %s answers what openapi.yaml does not say: %v", req.Method, req.URL.Path, err)
	}
}

// want checks status and code, and that an error is one for people.
func want(t *testing.T, a answer, status int, code paas.Code) v1.Error {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d; body %s", a.status, status, a.body)
	}
	if status < 400 {
		return v1.Error{}
	}
	e := a.error(t)
	if e.Code != string(code) || e.Message == "" || e.RequestID == "" || e.RequestID != a.header.Get("X-Request-Id") {
		t.Fatalf("error %+v, want code %s with message and request ID", e, code)
	}
	return e
}

// eventually waits for a condition, with a bound.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("still not after 10 s: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
