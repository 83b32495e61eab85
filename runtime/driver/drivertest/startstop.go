package drivertest

import (
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/runtime/driver"
)

func startTwice(t *testing.T, s *Subject) {
	spec := s.Spec(Serve...)
	first := MustStart(t, s.Driver, spec)
	if !first.Running || first.Addr == "" || first.PID == 0 || first.StartedAt.IsZero() || first.CreatedAt.IsZero() {
		t.Fatalf("status of a started instance: %+v", first)
	}
	if first.AppID != spec.AppID || first.AppName != spec.AppName || first.Deployment != spec.Deployment ||
		first.Release != spec.Release || first.Slot != spec.Slot || first.Type != spec.Type {
		t.Fatalf("got %+v from spec %+v", first, spec)
	}
	WaitServing(t, first.Addr)
	again, err := s.Driver.Start(t.Context(), spec)
	if err != nil || again.PID != first.PID || again.Addr != first.Addr || !again.StartedAt.Equal(first.StartedAt) {
		t.Fatalf("second start: got %+v, %v; want %+v", again, err, first)
	}
}

func startConcurrently(t *testing.T, s *Subject) {
	spec := s.Spec(Serve...)
	MustStopAtEnd(t, s.Driver, spec.ID)
	var wg sync.WaitGroup
	got := make([]driver.Status, 4)
	for i := range got {
		wg.Go(func() {
			var err error
			if got[i], err = s.Driver.Start(t.Context(), spec); err != nil {
				t.Errorf("start %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	for _, g := range got[1:] {
		if g.Addr != got[0].Addr || g.PID != got[0].PID {
			t.Errorf("two instances under one ID: %+v and %+v", got[0], g)
		}
	}
}

func startUnknownImage(t *testing.T, s *Subject) {
	spec := s.Spec(Serve...)
	spec.ImageRef = paas.ImageRef("anosuchimage2", 404)
	if _, err := s.Driver.Start(t.Context(), spec); !errors.Is(err, driver.ErrNoImage) {
		t.Fatalf("got %v, want ErrNoImage", err)
	}
	if st, ok := Find(t, s.Driver, spec.ID); ok {
		t.Errorf("left behind: %+v", st)
	}
}

func startAfterExit(t *testing.T, s *Subject) {
	spec := s.Spec(ExitWith(3)...)
	MustStart(t, s.Driver, spec)
	exited := WaitExited(t, s.Driver, spec.ID)
	again, err := s.Driver.Start(t.Context(), spec)
	if err != nil || again.Running || again.ExitCode != 3 || !again.ExitedAt.Equal(exited.ExitedAt) {
		t.Fatalf("got %+v, %v; want %+v unchanged", again, err, exited)
	}
}

func exitCodes(t *testing.T, s *Subject) {
	for _, code := range []int{0, 1, 42, 137} {
		spec := s.Spec(ExitWith(code)...)
		MustStart(t, s.Driver, spec)
		st := WaitExited(t, s.Driver, spec.ID)
		if st.ExitCode != code || st.PID != 0 || st.OOMKilled || st.StartedAt.IsZero() || st.ExitedAt.Before(st.StartedAt.Add(-time.Second)) {
			t.Errorf("exit %d: got %+v", code, st)
		}
		later, _ := Find(t, s.Driver, spec.ID)
		if !later.ExitedAt.Equal(st.ExitedAt) {
			t.Errorf("exit time moved from %v to %v", st.ExitedAt, later.ExitedAt)
		}
	}
}

func stopGraceful(t *testing.T, s *Subject) {
	spec := s.Spec(Serve...)
	st := MustStart(t, s.Driver, spec)
	WaitServing(t, st.Addr)
	began := time.Now()
	if err := s.Driver.Stop(t.Context(), spec.ID, Bound); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > Bound/2 {
		t.Errorf("stop took %v: SIGTERM did not arrive", took)
	}
	if st, ok := Find(t, s.Driver, spec.ID); ok {
		t.Errorf("still listed: %+v", st)
	}
	if c, err := net.DialTimeout("tcp", st.Addr, 2*time.Second); err == nil {
		c.Close()
		t.Error("still answers")
	}
}

func stopKills(t *testing.T, s *Subject) {
	spec := s.Spec(IgnoreTERM...)
	st := MustStart(t, s.Driver, spec)
	WaitServing(t, st.Addr)
	const grace = 300 * time.Millisecond
	began := time.Now()
	if err := s.Driver.Stop(t.Context(), spec.ID, grace); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < grace {
		t.Errorf("stopped after %v, before its grace of %v", took, grace)
	}
	if _, ok := Find(t, s.Driver, spec.ID); ok {
		t.Error("still listed")
	}
}

func stopSpecGrace(t *testing.T, s *Subject) {
	spec := s.Spec(IgnoreTERM...)
	spec.Grace = 700 * time.Millisecond
	st := MustStart(t, s.Driver, spec)
	WaitServing(t, st.Addr)
	began := time.Now()
	if err := s.Reopen(t).Stop(t.Context(), spec.ID, -1); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < spec.Grace || took > Bound {
		t.Errorf("stop took %v, want the spec's grace of %v and little more", took, spec.Grace)
	}
}

func stopAbsent(t *testing.T, s *Subject) {
	if err := s.Driver.Stop(t.Context(), "probe-999999-1-0", time.Second); err != nil {
		t.Fatal(err)
	}
}
