package store

import (
	"testing"

	"github.com/slipway-paas/slipway/internal/paas"
)

func TestEvents_BeyondTheLimit_ArePrunedPerApp(t *testing.T) {
	eachDatabase(t, func(t *testing.T, d database) {
		s, err := Config{DSN: d.dsn, Sealer: d.sealer(), MaxEvents: 10}.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		app, err := s.CreateApp(t.Context(), paas.App{Name: "shop"}, "ann")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.CreateApp(t.Context(), paas.App{Name: "blog"}, "ann"); err != nil {
			t.Fatal(err)
		}
		for range 2 * pruneEvery {
			if err := s.AddEvent(t.Context(), paas.Event{AppID: app.ID, AppName: app.Name, Kind: "test.event"}); err != nil {
				t.Fatal(err)
			}
		}
		last, err := s.LastEventID(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		events, err := s.Events(t.Context(), "shop", 0, 1000)
		if err != nil || len(events) < 10 || len(events) > 10+pruneEvery || events[len(events)-1].ID != last {
			t.Fatalf("%d events are kept, %v; want 10 to %d with the newest", len(events), err, 10+pruneEvery)
		}
		if other, err := s.Events(t.Context(), "blog", 0, 0); err != nil || len(other) != 1 {
			t.Fatalf("%d events of the other app, %v; want 1", len(other), err)
		}
	})
}
