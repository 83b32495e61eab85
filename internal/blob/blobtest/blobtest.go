// Package blobtest is the suite that blob.Store passes against every kind of S3
// server. It starts real servers from the engine's folder; start reading at Run.
// It imports internal/blob and internal/paas.
package blobtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/slipway-paas/slipway/internal/blob"
	"github.com/slipway-paas/slipway/internal/paas"
)

const limit = 64 << 20

// Run runs the suite against servers of one kind, each started by start.
func Run(t *testing.T, start func(t *testing.T, dataDir string) *Server) {
	srv := start(t, t.TempDir())
	store := Open(t, srv)
	for name, test := range map[string]func(*testing.T, *blob.Store, *Server){
		"RoundTrip": roundTrip, "SameContent_StoredOnce": dedupe, "Refused_NothingLeft": refused,
		"RangeReads": rangeReads, "FirstReadAtTheStart": firstReadAtTheStart, "Absent": absent, "ListPutDelete": listPutDelete,
	} {
		t.Run(name, func(t *testing.T) { test(t, store, srv) })
	}
	t.Run("ServerKilledDuringUpload", func(t *testing.T) { serverKilled(t, start(t, t.TempDir())) })
}

// Open returns a store with its bucket made.
func Open(t *testing.T, srv *Server) *blob.Store {
	t.Helper()
	store, err := blob.New(blob.Options{Endpoint: srv.Endpoint, AccessKey: AccessKey, SecretKey: SecretKey, Bucket: "slipway"})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := store.EnsureBucket(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return store
}

// Content returns n bytes that no compression shrinks, the same for a seed.
func Content(seed uint64, n int) []byte {
	var key [32]byte
	key[0] = byte(seed)
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(b)
	return b
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func put(t *testing.T, s *blob.Store, b []byte, size int64) paas.Archive {
	t.Helper()
	a, err := s.PutArchive(t.Context(), struct{ io.Reader }{bytes.NewReader(b)}, size, limit, "")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func roundTrip(t *testing.T, s *blob.Store, _ *Server) {
	for i, n := range []int{0, 1, 1000, 5<<20 - 1, 5 << 20, 5<<20 + 1, 17 << 20} {
		for _, size := range []int64{int64(n), -1} {
			b := Content(uint64(i), n)
			a := put(t, s, b, size)
			if a.Digest != digestOf(b) || a.SizeBytes != int64(n) || a.CreatedAt.IsZero() {
				t.Fatalf("%d bytes, announced %d: got %+v", n, size, a)
			}
			r, err := s.Get(t.Context(), a.Key)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			r.Close()
			if !bytes.Equal(got, b) || err != nil {
				t.Fatalf("%d bytes: got %d back, %v", n, len(got), err)
			}
			if err := s.VerifyArchive(t.Context(), a.Key); err != nil {
				t.Fatal(err)
			}
		}
	}
	NothingPending(t, s, nil)
}

func dedupe(t *testing.T, s *blob.Store, _ *Server) {
	for _, n := range []int{2000, 6 << 20} {
		b := Content(50, n)
		first, again := put(t, s, b, -1), put(t, s, b, int64(n))
		if first.Key != again.Key || again.CreatedAt.After(first.CreatedAt.Add(time.Second)) {
			t.Errorf("got %+v, then %+v, want one object", first, again)
		}
	}
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			if _, err := s.PutArchive(t.Context(), bytes.NewReader(Content(51, 6<<20)), -1, limit, ""); err != nil {
				t.Errorf("one of six at once: %v", err)
			}
		})
	}
	all.Wait()
	NothingPending(t, s, nil)
}

func refused(t *testing.T, s *blob.Store, srv *Server) {
	broken := errors.New("client went away")
	small, large := Content(60, 3000), Content(61, 12<<20)
	before, _ := s.List(t.Context(), "")
	cases := []struct {
		name   string
		r      io.Reader
		size   int64
		max    int64
		digest string
		want   paas.Code
	}{
		{"wrong digest", bytes.NewReader(small), -1, limit, digestOf(large), paas.CodeInvalid},
		{"wrong digest, large", bytes.NewReader(large), -1, limit, digestOf(small), paas.CodeInvalid},
		{"over the limit, announced", bytes.NewReader(small), 3000, 2999, "", paas.CodeTooLarge},
		{"over the limit", bytes.NewReader(small), -1, 2999, "", paas.CodeTooLarge},
		{"over the limit, large", bytes.NewReader(large), -1, 11 << 20, "", paas.CodeTooLarge},
		{"too short", bytes.NewReader(small), 3001, limit, "", paas.CodeInvalid},
		{"too short, large", bytes.NewReader(large), 12<<20 + 1, limit, "", paas.CodeInvalid},
		{"too long", bytes.NewReader(small), 2999, limit, "", paas.CodeInvalid},
		{"cut off", io.MultiReader(bytes.NewReader(large), iotest.ErrReader(io.ErrUnexpectedEOF)), -1, limit, "", paas.CodeInvalid},
		{"reader breaks", io.MultiReader(bytes.NewReader(small), iotest.ErrReader(broken)), -1, limit, "", paas.CodeInternal},
		{"reader breaks, large", io.MultiReader(bytes.NewReader(large), iotest.ErrReader(broken)), -1, limit, "", paas.CodeInternal},
	}
	for _, c := range cases {
		_, err := s.PutArchive(t.Context(), c.r, c.size, c.max, c.digest)
		if paas.CodeOf(err) != c.want {
			t.Errorf("%s: got %v, want %s", c.name, err, c.want)
		}
		if strings.HasPrefix(c.name, "reader") && !errors.Is(err, broken) {
			t.Errorf("%s: got %v, want the reader's error", c.name, err)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := io.MultiReader(bytes.NewReader(large), readerFunc(func([]byte) (int, error) { cancel(broken); return 0, broken }))
	if _, err := s.PutArchive(ctx, stop, -1, limit, ""); !errors.Is(err, broken) {
		t.Errorf("canceled: got %v, want its cause", err)
	}
	if after, err := s.List(t.Context(), ""); len(after) != len(before) || err != nil {
		t.Errorf("%d objects before, now %v, %v", len(before), after, err)
	}
	NothingPending(t, s, srv)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func rangeReads(t *testing.T, s *blob.Store, _ *Server) {
	for _, n := range []int{10, 3 << 20, 50<<20 + 77} {
		b := Content(70, n)
		r, err := s.OpenArchive(t.Context(), put(t, s, b, int64(n)).Key)
		if err != nil {
			t.Fatal(err)
		}
		if r.Size() != int64(n) {
			t.Errorf("Size: got %d, want %d", r.Size(), n)
		}
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				dice := rand.New(rand.NewPCG(uint64(i), 1))
				for range 40 {
					off := dice.IntN(n)
					p := make([]byte, 1+dice.IntN(min(n-off, 2<<20)))
					if m, err := r.ReadAt(p, int64(off)); m != len(p) || !bytes.Equal(p, b[off:off+m]) {
						t.Errorf("ReadAt %d+%d: got %d bytes, %v", off, len(p), m, err)
					}
				}
			})
		}
		all.Wait()
		whole, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
		if !bytes.Equal(whole, b) || err != nil {
			t.Errorf("from end to end: got %d bytes, %v", len(whole), err)
		}
		p := make([]byte, 10)
		if m, err := r.ReadAt(p, int64(n)-3); m != 3 || err != io.EOF {
			t.Errorf("over the end: got %d, %v, want 3, EOF", m, err)
		}
		if m, err := r.ReadAt(p, int64(n)); m != 0 || err != io.EOF {
			t.Errorf("at the end: got %d, %v, want 0, EOF", m, err)
		}
		if _, err := r.ReadAt(p, -1); err == nil {
			t.Error("before the start: got no error")
		}
		for range 2 {
			if err := r.Close(); err != nil {
				t.Errorf("Close twice: %v", err)
			}
		}
		if _, err := r.ReadAt(p, 0); err == nil {
			t.Error("read after Close: got no error")
		}
	}
}

// firstReadAtTheStart: a tar.gz is read from its start, a zip from its end.
func firstReadAtTheStart(t *testing.T, s *blob.Store, _ *Server) {
	for _, n := range []int{1 << 20, 8 << 20, 8<<20 + 1, 20 << 20} {
		b := Content(71, n)
		r, err := s.OpenArchive(t.Context(), put(t, s, b, int64(n)).Key)
		if err != nil {
			t.Fatal(err)
		}
		whole, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
		if !bytes.Equal(whole, b) || err != nil {
			t.Errorf("%d bytes from the start: got %d bytes, %v", n, len(whole), err)
		}
		r.Close()
	}
}

func absent(t *testing.T, s *blob.Store, _ *Server) {
	if _, err := s.Get(t.Context(), "nowhere"); paas.CodeOf(err) != paas.CodeNotFound {
		t.Errorf("Get: got %v, want not_found", err)
	}
	if _, err := s.OpenArchive(t.Context(), "archives/sha256/nowhere"); paas.CodeOf(err) != paas.CodeNotFound {
		t.Errorf("OpenArchive: got %v, want not_found", err)
	}
	if err := s.Delete(t.Context(), "nowhere"); err != nil {
		t.Errorf("Delete: got %v, want nil", err)
	}
}

func listPutDelete(t *testing.T, s *blob.Store, _ *Server) {
	for _, key := range []string{"logs/b/2", "logs/a", "logs/b/1", "logs/a"} {
		if err := s.Put(t.Context(), key, strings.NewReader(key), int64(len(key))); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Put(t.Context(), "logs/large", bytes.NewReader(Content(80, 11<<20)), -1); err != nil {
		t.Fatal(err)
	}
	list, err := s.List(t.Context(), "logs/")
	var got []string
	for _, o := range list {
		got = append(got, fmt.Sprint(o.Key, " ", o.SizeBytes))
		if o.ModTime.IsZero() {
			t.Errorf("%s has no time", o.Key)
		}
	}
	if want := "[logs/a 6 logs/b/1 8 logs/b/2 8 logs/large 11534336]"; fmt.Sprint(got) != want || err != nil {
		t.Errorf("List: got %v, %v, want %s", got, err, want)
	}
	for _, o := range list {
		if err := s.Delete(t.Context(), o.Key); err != nil {
			t.Error(err)
		}
	}
	if list, err := s.List(t.Context(), "logs/"); len(list) != 0 || err != nil {
		t.Errorf("after Delete: got %v, %v", list, err)
	}
}

// serverKilled kills the server while an upload runs; what is left is swept.
func serverKilled(t *testing.T, srv *Server) {
	s := Open(t, srv)
	kept := put(t, s, Content(90, 100_000), -1)
	body := io.MultiReader(bytes.NewReader(Content(91, 11<<20)),
		readerFunc(func([]byte) (int, error) { srv.Kill(); return 0, io.EOF }))
	_, err := s.PutArchive(t.Context(), body, -1, limit, "")
	if paas.CodeOf(err) != paas.CodeUnavailable {
		t.Errorf("upload during the kill: got %v, want unavailable", err)
	}
	srv.Start(t)
	if err := s.VerifyArchive(t.Context(), kept.Key); err != nil {
		t.Errorf("acknowledged archive after the kill: %v", err)
	}
	if err := s.Sweep(t.Context(), time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	if list, _ := s.List(t.Context(), "uploads/"); len(list) == 0 {
		t.Error("a sweep of what is older than an hour removed a new upload")
	}
	if err := s.Sweep(t.Context(), time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if list, _ := s.List(t.Context(), ""); len(list) != 1 || list[0].Key != kept.Key {
		t.Errorf("after the sweep: got %v, want %s only", list, kept.Key)
	}
	NothingPending(t, s, srv)
}

// NothingPending asserts that no upload is under way and, given the server, that
// its folders for parts hold no file.
func NothingPending(t *testing.T, s *blob.Store, srv *Server) {
	t.Helper()
	if list, err := s.List(t.Context(), "uploads/"); len(list) != 0 || err != nil {
		t.Errorf("uploads/ holds %v, %v, want nothing", list, err)
	}
	if srv == nil {
		return
	}
	for _, pattern := range srv.PartDirs {
		dirs, _ := filepath.Glob(filepath.Join(srv.DataDir, pattern))
		for _, dir := range dirs {
			_ = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
				if err == nil && d.Type().IsRegular() && !strings.HasSuffix(name, ".lock") {
					t.Errorf("the server keeps %s", name)
				}
				return nil
			})
		}
	}
}
