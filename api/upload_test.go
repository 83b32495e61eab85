package api_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway-paas/slipway/api"
	"github.com/slipway-paas/slipway/api/apitest"
	"github.com/slipway-paas/slipway/api/v1"
	"github.com/slipway-paas/slipway/internal/paas"
)

const deployPath = "/v1/apps/shop/deployments?create=true"

func form(parts ...string) (body, contentType string) {
	var b bytes.Buffer
	m := multipart.NewWriter(&b)
	for i := 0; i < len(parts); i += 2 {
		m.WriteField(parts[i], parts[i+1])
	}
	m.Close()
	return b.String(), m.FormDataContentType()
}

func TestUpload_BadInput(t *testing.T) {
	p := newPlatform(t, func(d *api.Deps) { d.Config.MaxArchiveBytes = 1000 })
	noArchive, noArchiveType := form("manifest", "{}")
	twice, twiceType := form("archive", "PK", "archive", "PK")
	strange, strangeType := form("archive", "PK", "evil", "x")
	badManifest, badManifestType := form("archive", "PK", "manifest", "nonsense")
	bigManifest, bigManifestType := form("manifest", strings.Repeat("x", 300<<10), "archive", "PK")
	big, bigType := form("archive", "PK"+strings.Repeat("x", 1000))
	badMessage, badMessageType := form("archive", "PK", "message", "\xff")
	for name, c := range map[string]struct {
		path, body string
		header     []string
		status     int
	}{
		"not an archive":         {deployPath, "hello", []string{"Content-Type", "application/zip"}, 400},
		"empty":                  {deployPath, "", []string{"Content-Type", "application/zip"}, 400},
		"over the limit":         {deployPath, "PK" + strings.Repeat("x", 1000), []string{"Content-Type", "application/zip"}, 413},
		"form over the limit":    {deployPath, big, []string{"Content-Type", bigType}, 413},
		"wrong digest":           {deployPath, "PK", []string{"Content-Type", "application/zip", "X-Content-SHA256", strings.Repeat("0", 64)}, 400},
		"bad digest":             {deployPath, "PK", []string{"Content-Type", "application/zip", "X-Content-SHA256", "xyz"}, 400},
		"bad Repr-Digest":        {deployPath, "PK", []string{"Content-Type", "application/zip", "Repr-Digest", "sha-256=:AAAA:"}, 400},
		"json":                   {deployPath, "{}", []string{"Content-Type", "application/json"}, 400},
		"curl without a type":    {deployPath, "PK", []string{"Content-Type", "application/x-www-form-urlencoded"}, 400},
		"malformed type":         {deployPath, "PK", []string{"Content-Type", ";;;"}, 400},
		"encoded":                {deployPath, "PK", []string{"Content-Type", "application/zip", "Content-Encoding", "gzip"}, 400},
		"form without archive":   {deployPath, noArchive, []string{"Content-Type", noArchiveType}, 400},
		"form with two archives": {deployPath, twice, []string{"Content-Type", twiceType}, 400},
		"form with more":         {deployPath, strange, []string{"Content-Type", strangeType}, 400},
		"form cut off":           {deployPath, twice[:60], []string{"Content-Type", twiceType}, 400},
		"form without boundary":  {deployPath, twice, []string{"Content-Type", "multipart/form-data"}, 400},
		"bad manifest":           {deployPath, badManifest, []string{"Content-Type", badManifestType}, 400},
		"big manifest":           {deployPath, bigManifest, []string{"Content-Type", bigManifestType}, 413},
		"bad message":            {deployPath, badMessage, []string{"Content-Type", badMessageType}, 400},
		"long message":           {deployPath + "&message=" + strings.Repeat("m", 501), "PK", []string{"Content-Type", "application/zip"}, 400},
		"long key":               {deployPath, "PK", []string{"Content-Type", "application/zip", "Idempotency-Key", strings.Repeat("k", 256)}, 400},
		"key beyond ASCII":       {deployPath, "PK", []string{"Content-Type", "application/zip", "Idempotency-Key", "ü"}, 400},
		"unknown origin":         {deployPath + "&origin=mars", "PK", []string{"Content-Type", "application/zip"}, 400},
		"unknown parameter":      {deployPath + "&force=1", "PK", []string{"Content-Type", "application/zip"}, 400},
		"parameter twice":        {deployPath + "&create=true", "PK", []string{"Content-Type", "application/zip"}, 400},
		"unknown app":            {"/v1/apps/shop/deployments", "PK", []string{"Content-Type", "application/zip"}, 404},
		"invalid name":           {"/v1/apps/Shop!/deployments?create=true", "PK", []string{"Content-Type", "application/zip"}, 400},
	} {
		t.Run(name, func(t *testing.T) {
			a := ask(t, p, "POST", c.path, c.body, c.header...)
			if a.status != c.status {
				t.Fatalf("status %d, want %d: %s", a.status, c.status, a.body)
			}
			a.error(t)
			if keys := p.Blobs.Keys(); len(keys) > 0 {
				t.Errorf("left behind: %v", keys)
			}
			if apps, err := p.Store.Apps(t.Context()); err != nil || len(apps) > 0 {
				t.Errorf("left behind: %v, %v", apps, err)
			}
		})
	}
}

func TestUpload_Forms(t *testing.T) {
	p := newPlatform(t)
	sum := sha256.Sum256([]byte("PK"))
	hexSum, b64 := hex.EncodeToString(sum[:]), base64.StdEncoding.EncodeToString(sum[:])
	first, firstType := form("archive", "PK", "manifest", "{}", "message", "hello")
	last, lastType := form("deployment", "{}", "manifest", "{}", "archive", "PK")
	for name, c := range map[string]struct {
		body   string
		header []string
	}{
		"zip":           {"PK", []string{"Content-Type", "application/zip", "X-Content-SHA256", hexSum}},
		"no type":       {"PK", []string{"Content-Type", ""}},
		"repr digest":   {"PK", []string{"Content-Type", "application/octet-stream", "Repr-Digest", "sha-512=:eA==:, sha-256=:" + b64 + ":"}},
		"old digest":    {"PK", []string{"Content-Type", "application/gzip", "Digest", "SHA-256=" + b64}},
		"archive first": {first, []string{"Content-Type", firstType, "X-Content-SHA256", hexSum}},
		"archive last":  {last, []string{"Content-Type", lastType}},
	} {
		t.Run(name, func(t *testing.T) {
			a := ask(t, p, "POST", deployPath+"&origin=cli", c.body, c.header...)
			want(t, a, 202, "")
			var d v1.Deployment
			if err := json.Unmarshal(a.body, &d); err != nil || d.State != "pending" || d.Origin != "cli" || d.By != "admin" {
				t.Fatalf("deployment %+v, %v", d, err)
			}
			if loc := a.header.Get("Location"); loc != fmt.Sprintf("/v1/apps/shop/deployments/%d", d.ID) {
				t.Errorf("Location %q", loc)
			}
			b, err := p.Store.Build(t.Context(), d.Build)
			if err != nil || strings.Contains(c.body, "manifest") != (string(b.Manifest) == "{}") {
				t.Errorf("build %+v, %v", b, err)
			}
		})
	}
	if keys := p.Blobs.Keys(); len(keys) != 1 {
		t.Errorf("the same content is stored %d times", len(keys))
	}
}

func TestUpload_IdempotencyKey(t *testing.T) {
	p := newPlatform(t)
	send := func(body string) answer {
		return ask(t, p, "POST", deployPath, body, "Content-Type", "application/zip", "Idempotency-Key", "k1")
	}
	one, two := send("PK one"), send("PK one")
	want(t, one, 202, "")
	want(t, two, 202, "")
	if one.header.Get("Location") != two.header.Get("Location") || two.header.Get("Idempotency-Replayed") != "true" || one.header.Get("Idempotency-Replayed") != "" {
		t.Errorf("the same key made another deployment: %s, %s", one.header, two.header)
	}
	want(t, send("PK two"), 409, paas.CodeConflict)
	if keys := p.Blobs.Keys(); len(keys) != 1 {
		t.Errorf("a refused upload left its archive: %v", keys)
	}
}

// A refused upload of content that an accepted deployment needs must not take
// it away.
func TestUpload_RefusedLeavesWhatOthersUse(t *testing.T) {
	p := newPlatform(t)
	want(t, ask(t, p, "POST", deployPath, "PK", "Content-Type", "application/zip"), 202, "")
	body, contentType := form("archive", "PK", "manifest", "nonsense")
	want(t, ask(t, p, "POST", deployPath, body, "Content-Type", contentType), 400, paas.CodeInvalid)
	if keys := p.Blobs.Keys(); len(keys) != 1 {
		t.Errorf("the archive in use is gone: %v", keys)
	}
}

func TestUpload_GoodAndBadOfTheSameContentAtOnce(t *testing.T) {
	p := newPlatform(t)
	bad, contentType := form("archive", "PK", "manifest", "nonsense")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { ask(t, p, "POST", deployPath, bad, "Content-Type", contentType) })
		wg.Go(func() {
			a := ask(t, p, "POST", deployPath, "PK", "Content-Type", "application/zip")
			if a.status != 202 && a.status != 503 { // 503: met the removal, try again
				t.Errorf("status %d: %s", a.status, a.body)
			}
		})
	}
	wg.Wait()
	apps, err := p.Store.Apps(t.Context())
	if err != nil || len(apps) == 1 && len(p.Blobs.Keys()) != 1 {
		t.Errorf("an accepted archive is gone: apps %d, keys %v, %v", len(apps), p.Blobs.Keys(), err)
	}
}

// dial opens a connection and sends the head of an upload.
func dial(t *testing.T, p *apitest.Platform, length int, more string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", p.HTTP.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/zip\r\nContent-Length: %d\r\n%s\r\n", deployPath, p.Token, length, more)
	return conn
}

func TestUpload_AbortedLeavesNothing(t *testing.T) {
	p := newPlatform(t)
	conn := dial(t, p, 1000, "")
	io.WriteString(conn, "PK and no more")
	conn.Close()
	eventually(t, "the upload is over", func() bool { return strings.Contains(p.LogText.String(), `"status":4`) })
	if keys := p.Blobs.Keys(); len(keys) > 0 {
		t.Errorf("left behind: %v", keys)
	}
	if strings.Contains(p.LogText.String(), `"level":"ERROR"`) {
		t.Errorf("a client that left is logged as our error: %s", p.LogText)
	}
}

func TestUpload_QuietIsCut(t *testing.T) {
	p := newPlatform(t, func(d *api.Deps) { d.Config.UploadIdle = 50 * time.Millisecond })
	conn := dial(t, p, 1000, "")
	io.WriteString(conn, "PK")
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	text, _ := io.ReadAll(conn)
	if !strings.Contains(string(text), "400 Bad Request") || !strings.Contains(string(text), "no data came for 50ms") {
		t.Errorf("answer %q", text)
	}
}

func TestUpload_RefusesBeforeTheBodyIsAskedFor(t *testing.T) {
	p := newPlatform(t, func(d *api.Deps) { d.Config.MaxArchiveBytes = 1000; d.Config.MaxUploads = 1 })
	conn := dial(t, p, 5_000_000, "Expect: 100-continue\r\n")
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	head := make([]byte, 12)
	if _, err := io.ReadFull(conn, head); err != nil || string(head) != "HTTP/1.1 413" {
		t.Fatalf("answer %q, %v", head, err)
	}

	busy := dial(t, p, 1000, "")
	io.WriteString(busy, "PK")
	var last answer
	eventually(t, "the one place is taken", func() bool {
		last = ask(t, p, "POST", deployPath, "PK", "Content-Type", "application/zip")
		return last.status == http.StatusTooManyRequests
	})
	if want(t, last, 429, paas.CodeTooMany); last.header.Get("Retry-After") == "" {
		t.Error("429 without Retry-After")
	}
}
