package blob_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/slipway-paas/slipway/internal/blob"
	"github.com/slipway-paas/slipway/internal/blob/blobtest"
	"github.com/slipway-paas/slipway/internal/paas"
)

func TestStore_VersityGW(t *testing.T) { blobtest.Run(t, blobtest.VersityGW) }

func TestStore_MinIO(t *testing.T) { blobtest.Run(t, blobtest.MinIO) }

// A full disk is told as such, leaves nothing behind, and storing works again as
// soon as there is space.
func TestStore_DiskFull_SaysSoAndRecovers(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Fatalf("mount tmpfs: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	srv := blobtest.VersityGW(t, dir)
	s := blobtest.Open(t, srv)
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 20<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	small, large := blobtest.Content(1, 4<<20+5e5), blobtest.Content(2, 9<<20)
	for _, b := range [][]byte{small, large} {
		began := time.Now()
		_, err := s.PutArchive(t.Context(), bytes.NewReader(b), -1, 64<<20, "")
		if code := paas.CodeOf(err); code != paas.CodeStorageFull {
			t.Errorf("%d bytes on a full disk: got %s (%v), want insufficient_storage", len(b), code, err)
		}
		t.Logf("%d bytes refused after %v: %v", len(b), time.Since(began), err)
	}
	blobtest.NothingPending(t, s, srv)
	if list, err := s.List(t.Context(), ""); len(list) != 0 || err != nil {
		t.Errorf("left behind: %v, %v", list, err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	for _, b := range [][]byte{small, large} {
		a, err := s.PutArchive(t.Context(), bytes.NewReader(b), -1, 64<<20, "")
		if err == nil {
			err = s.VerifyArchive(t.Context(), a.Key)
		}
		if err != nil {
			t.Errorf("%d bytes after space was freed: %v", len(b), err)
		}
	}
}

func TestNew_MissingOption_SaysWhich(t *testing.T) {
	if _, err := blob.New(blob.Options{Endpoint: "127.0.0.1:1", AccessKey: "a", Bucket: "b"}); err == nil || err.Error() != "object storage: no secret key given" {
		t.Errorf("got %v", err)
	}
}

func TestStore_NobodyListens_Unavailable(t *testing.T) {
	s, err := blob.New(blob.Options{Endpoint: "127.0.0.1:1", AccessKey: "a", SecretKey: "secret-key", Bucket: "bucket"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.PutArchive(t.Context(), bytes.NewReader([]byte("x")), 1, 10, ""); paas.CodeOf(err) != paas.CodeUnavailable {
		t.Errorf("got %v, want unavailable", err)
	}
}
