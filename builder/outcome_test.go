package builder

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/internal/seal"
	"github.com/slipway-paas/slipway/internal/store"
)

// sink takes objects and forgets them.
type sink struct{ paas.Blobs }

func (sink) Put(_ context.Context, _ string, r io.Reader, _ int64) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

// What cannot become a release (here: another type) is the user's failure, final
// at once: no second attempt, and no local log that stays.
func TestWorker_Finish_RefusedByStore_FailsAtOnce(t *testing.T) {
	dir := t.TempDir()
	s, err := store.Open(t.Context(), "sqlite:"+filepath.Join(dir, "db"), seal.New(filepath.Join(dir, "key")))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	w := &Worker{o: Options{Store: s, Blobs: sink{}, LogDir: dir, Log: slog.New(slog.DiscardHandler)}}
	digest := "sha256:" + strings.Repeat("0", 64)
	end := func(typ paas.AppType) (*paas.Build, string) {
		_, _, err := s.AcceptDeploy(t.Context(), paas.NewDeploy{App: "hello", CreateApp: true, Origin: paas.OriginAPI, Archive: paas.Archive{Digest: digest, Key: "archives/x", SizeBytes: 1}})
		if err != nil {
			t.Fatal(err)
		}
		b, err := s.ClaimBuild(t.Context(), "w", time.Minute)
		if err != nil || b == nil {
			t.Fatal(b, err)
		}
		log, err := openLog(dir, b.ID)
		if err != nil {
			t.Fatal(err)
		}
		state, _ := w.finish(t.Context(), t.Context(), b, log, &paas.BuildResult{ImageRef: paas.ImageRef(b.AppID, b.ID), ImageDigest: digest, Type: typ})
		return b, state
	}
	if _, state := end(paas.TypeWeb); state != string(paas.BuildSucceeded) {
		t.Fatalf("first build: %s", state)
	}
	began := time.Now()
	b, state := end(paas.TypeWorker)
	if took := time.Since(began); state != string(paas.BuildFailed) || took > time.Second {
		t.Errorf("state %s after %s, want failed at once", state, took)
	}
	if now, err := s.Build(t.Context(), b.ID); err != nil || now.State != paas.BuildFailed || now.LogKey == "" {
		t.Errorf("recorded as %+v, %v", now, err)
	}
	if _, err := os.Stat(logPath(dir, b.ID)); !os.IsNotExist(err) {
		t.Errorf("the local log is left: %v", err)
	}
}
