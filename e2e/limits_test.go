package e2e

import (
	"archive/zip"
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	slipway "github.com/slipway-paas/slipway/e2e/platform"
)

// small starts a Slipway whose object store has 40 MiB of disk and whose largest
// archive is 16 MiB. It builds nothing, so it is up at once.
func small(t *testing.T) (p *platform, store string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "sls-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	store = filepath.Join(dir, "data", "s3")
	if err := os.MkdirAll(store, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", store, "tmpfs", 0, "size=40m,mode=711"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(store, 0); err != nil {
			t.Errorf("unmount %s: %v", store, err)
		}
	})
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	started, err := slipway.Start(root, filepath.Join(dir, "data"), "--max-archive", "16", "--routers", "0")
	if started != nil {
		t.Cleanup(started.Down)
	}
	if err != nil {
		t.Fatal(err)
	}
	return &platform{started}, store
}

// noise is a zip with one file that does not compress.
func noise(t testing.TB, bytesInside int64) []byte {
	t.Helper()
	var buf bytes.Buffer
	zw := zip.NewWriter(&buf)
	w, err := zw.Create("server.js")
	if err == nil {
		_, err = io.CopyN(w, rand.Reader, bytesInside)
	}
	if err == nil {
		err = zw.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestUpload_DiskFull_Is507LeavesNothingAndTheNextOneWorks(t *testing.T) {
	p, store := small(t)
	filler := filepath.Join(store, "filler")
	if err := os.WriteFile(filler, make([]byte, 36<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, length := range []string{"known", "unknown"} {
		var body io.Reader = bytes.NewReader(noise(t, 8<<20))
		if length == "unknown" {
			body = struct{ io.Reader }{body} // chunked
		}
		status, e := p.upload(t, "full", body, nil)
		if status != http.StatusInsufficientStorage || e.Code != "insufficient_storage" {
			t.Errorf("length %s: status %d %+v, want 507", length, status, e)
		}
		if left := objects(t, store); len(left) > 0 {
			t.Errorf("length %s: left behind %q", length, left)
		}
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if status, e := p.upload(t, "full", bytes.NewReader(noise(t, 8<<20)), nil); status != http.StatusAccepted {
		t.Errorf("with space again: status %d %+v, want 202", status, e)
	}
}

func TestUpload_ChunkedOverTheLimit_Is413AndLeavesNothing(t *testing.T) {
	p, store := small(t)
	body := struct{ io.Reader }{io.LimitReader(zeros{}, 40<<20)}
	status, e := p.upload(t, "toolarge", body, nil)
	if status != http.StatusRequestEntityTooLarge || !strings.Contains(e.Message+e.Hint, "16") {
		t.Errorf("status %d %+v, want 413 that names the limit of %s", status, e, fmt.Sprint(16<<20))
	}
	if left := objects(t, store); len(left) > 0 {
		t.Errorf("left behind %q", left)
	}
}
