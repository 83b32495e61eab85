package drivertest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/runtime/driver"
)

func listAfterReopen(t *testing.T, s *Subject) {
	live, dead := s.Spec(Serve...), s.Spec(ExitWith(5)...)
	MustStart(t, s.Driver, live)
	MustStart(t, s.Driver, dead)
	WaitExited(t, s.Driver, dead.ID)
	other := s.Reopen(t)
	for _, id := range []string{live.ID, dead.ID} {
		want, _ := Find(t, s.Driver, id)
		got, ok := Find(t, other, id)
		if !ok || got.Running != want.Running || got.Addr != want.Addr || got.PID != want.PID || got.ExitCode != want.ExitCode ||
			!got.StartedAt.Equal(want.StartedAt) || !got.ExitedAt.Equal(want.ExitedAt) || got.Deployment != want.Deployment {
			t.Errorf("%s: got %+v, want %+v", id, got, want)
		}
	}
}

func listSorted(t *testing.T, s *Subject) {
	for range 3 {
		MustStart(t, s.Driver, s.Spec(Serve...))
	}
	all, err := s.Driver.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.IsSortedFunc(all, func(a, b driver.Status) int { return strings.Compare(a.ID, b.ID) }) {
		t.Errorf("not sorted by ID: %+v", all)
	}
}

func watchHints(t *testing.T, s *Subject) {
	spec := s.Spec(Serve...)
	seen := make(chan struct{}, 1024)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		s.Driver.Watch(ctx, func(e driver.Event) {
			if e.ID == spec.ID {
				seen <- struct{}{}
			}
		})
	})
	waitHint := func(what string) {
		select {
		case <-seen:
		case <-time.After(Bound):
			t.Fatalf("no hint after %s", what)
		}
	}
	// The watch may begin after the first start: repeat until one is seen.
	Eventually(t, "a hint at a start", func() bool {
		if _, err := s.Driver.Start(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		select {
		case <-seen:
			return true
		case <-time.After(200 * time.Millisecond):
			return s.Driver.Stop(t.Context(), spec.ID, 0) != nil
		}
	})
	for len(seen) > 0 {
		<-seen
	}
	if err := s.Driver.Stop(t.Context(), spec.ID, 0); err != nil {
		t.Fatal(err)
	}
	waitHint("stop")
}

func watchEnds(t *testing.T, s *Subject) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Driver.Watch(ctx, func(driver.Event) {}) }()
	cancel()
	select {
	case err := <-done:
		if err == nil {
			t.Error("got nil, want the reason")
		}
	case <-time.After(Bound):
		t.Fatal("watch goes on after its context ended")
	}
}

func stats(t *testing.T, s *Subject) {
	spec := s.Spec(Serve...)
	st := MustStart(t, s.Driver, spec)
	WaitServing(t, st.Addr)
	got, err := s.Driver.Stats(t.Context(), spec.ID)
	if err != nil || got.MemoryBytes <= 0 || got.MemoryBytes > spec.MemoryBytes || got.CPUTime <= 0 || got.PIDs <= 0 {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := s.Driver.Stats(t.Context(), "probe-999999-1-0"); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("unknown: got %v, want ErrNotFound", err)
	}
}

func listenPorts(t *testing.T, s *Subject) {
	spec := s.Spec(WrongPort...)
	MustStart(t, s.Driver, spec)
	Eventually(t, "127.0.0.1:3000 is reported", func() bool {
		got, err := s.Driver.ListenPorts(t.Context(), spec.ID)
		return err == nil && slices.Equal(got, []string{"127.0.0.1:3000"})
	})
}

func worker(t *testing.T, s *Subject) {
	spec := s.Spec(Serve...)
	spec.Type = paas.TypeWorker
	if st := MustStart(t, s.Driver, spec); !st.Running || st.Addr != "" || st.Type != paas.TypeWorker {
		t.Errorf("got %+v", st)
	}
}

func removeImage(t *testing.T, s *Subject) {
	has := func() bool {
		refs, err := s.Driver.Images(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return slices.Contains(refs, s.Spare)
	}
	if !has() {
		t.Fatalf("%s is not listed", s.Spare)
	}
	for range 2 { // the second finds nothing, which is fine
		if err := s.Driver.RemoveImage(t.Context(), s.Spare); err != nil {
			t.Fatal(err)
		}
	}
	if has() {
		t.Errorf("%s is still listed", s.Spare)
	}
	spec := s.Spec(Serve...)
	spec.ImageRef = s.Spare
	if _, err := s.Driver.Start(t.Context(), spec); !errors.Is(err, driver.ErrNoImage) {
		t.Errorf("start: got %v, want ErrNoImage", err)
	}
}

func sweepLive(t *testing.T, s *Subject) {
	live, dead := s.Spec(Serve...), s.Spec(ExitWith(9)...)
	st := MustStart(t, s.Driver, live)
	MustStart(t, s.Driver, dead)
	WaitExited(t, s.Driver, dead.ID)
	removed, err := s.Driver.Sweep(t.Context(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range removed {
		if strings.Contains(r, live.ID) || strings.Contains(r, dead.ID) {
			t.Errorf("swept %s", r)
		}
	}
	if got := WaitServing(t, st.Addr); got == "" {
		t.Error("empty answer")
	}
	if got, ok := Find(t, s.Driver, dead.ID); !ok || got.ExitCode != 9 {
		t.Errorf("the exited one: %+v, %v", got, ok)
	}
}
