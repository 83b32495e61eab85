package store

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

// fillApps makes live apps with five variables each.
func fillApps(tb testing.TB, s *Store, n int) {
	tb.Helper()
	for i := range n {
		name := fmt.Sprintf("app%d", i)
		vars := map[string]string{}
		for v := range 5 {
			vars[fmt.Sprint("VAR", v)] = fmt.Sprint("value", i, v)
		}
		err := s.write(context.Background(), func(t *tx) error {
			app, err := t.createApp(paas.App{Name: name}, "ann")
			if err != nil {
				return err
			}
			if _, err := t.mergeConfig(app, vars, nil, "ann"); err != nil {
				return err
			}
			r := &releaseRow{ConfigVersion: app.ConfigVersion, Type: paas.TypeWeb, ImageRef: "i"}
			if err := t.createRelease(app, r, "ann"); err != nil {
				return err
			}
			d := &deploymentRow{AppID: app.ID, Kind: paas.KindDeploy, ReleaseID: r.ID, ReleaseNumber: r.Number}
			if err := t.startRolling(app, d); err != nil {
				return err
			}
			if err := t.goLive(app, d, stampOf(t.now)); err != nil {
				return err
			}
			return save(t, app)
		})
		if err != nil {
			tb.Fatal(err)
		}
	}
}

func TestWork_200Apps_IsQuick(t *testing.T) {
	eachDatabase(t, func(t *testing.T, d database) {
		s := d.open(t, nil)
		fillApps(t, s, 200)
		for _, call := range []string{"first", "second"} {
			started := time.Now()
			work, err := s.Work(t.Context())
			took := time.Since(started)
			if err != nil || len(work) != 200 {
				t.Fatalf("Work = %d apps, %v", len(work), err)
			}
			for _, w := range work {
				if len(w.Env[w.LiveRelease.ConfigVersion]) != 5 {
					t.Fatalf("app %s has %d variables, want 5", w.App.Name, len(w.Env[w.LiveRelease.ConfigVersion]))
				}
			}
			t.Logf("%s call: %s", call, took)
			if took > 2*time.Second { // milliseconds are usual; the machine is shared
				t.Errorf("%s call took %s", call, took)
			}
		}
	})
}

func BenchmarkWork_200Apps(b *testing.B) {
	s, err := Open(b.Context(), "sqlite:"+b.TempDir()+"/slipway.db", benchKey(b))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	fillApps(b, s, 200)
	for b.Loop() {
		if _, err := s.Work(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
