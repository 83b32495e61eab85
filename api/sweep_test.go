package api_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

func TestSweepObjects_RemovesWhatAKilledUploadOrBuildLeft(t *testing.T) {
	p := newPlatform(t)
	put := func(key string) {
		if err := p.Blobs.Put(t.Context(), key, strings.NewReader("x"), 1); err != nil {
			t.Fatal(err)
		}
	}
	lost := "archives/sha256/" + strings.Repeat("0", 64)
	put(lost)
	if removed, err := p.API.SweepObjects(t.Context(), time.Now()); err != nil || len(removed) > 0 {
		t.Errorf("a store without apps: removed %v, %v", removed, err)
	}
	want(t, ask(t, p, "POST", deployPath, "PK", "Content-Type", "application/zip"), 202, "")
	kept := p.Blobs.Keys()
	kept = slices.DeleteFunc(kept, func(k string) bool { return k == lost })
	put("builds/1.log") // its build is queued and may yet record it
	put("builds/999.log")
	put("builds/notes.txt")
	kept = append(kept, "builds/1.log", "builds/notes.txt")
	if removed, err := p.API.SweepObjects(t.Context(), time.Now().Add(-time.Hour)); err != nil || len(removed) != 2 {
		t.Errorf("removed %v, %v", removed, err)
	}
	if got := p.Blobs.Keys(); !slices.Equal(got, kept) {
		t.Errorf("kept %v, want %v", got, kept)
	}
	b, err := p.Store.ClaimBuild(t.Context(), "test", time.Minute)
	if err != nil || b == nil {
		t.Fatal(b, err)
	}
	// Killed after the upload of the log; the next worker gives up without one.
	if err := p.Store.FailBuild(t.Context(), b.ID, b.Attempt, paas.BuildFailed, paas.Failure{Code: "builder_lost"}, ""); err != nil {
		t.Fatal(err)
	}
	if removed, err := p.API.SweepObjects(t.Context(), time.Now()); err != nil || !slices.Equal(removed, []string{"builds/1.log"}) {
		t.Errorf("removed %v, %v", removed, err)
	}
}
