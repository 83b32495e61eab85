package drivertest

import (
	"context"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/slipway-paas/slipway/runtime/driver"
)

// MustStart starts s and stops it at the end of the test.
func MustStart(t testing.TB, d driver.Driver, s driver.Spec) driver.Status {
	t.Helper()
	MustStopAtEnd(t, d, s.ID)
	st, err := d.Start(t.Context(), s)
	if err != nil {
		t.Fatalf("start %s: %v", s.ID, err)
	}
	return st
}

// Find returns the listed status of id.
func Find(t testing.TB, d driver.Driver, id string) (driver.Status, bool) {
	t.Helper()
	all, err := d.List(t.Context())
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	i := slices.IndexFunc(all, func(s driver.Status) bool { return s.ID == id })
	if i < 0 {
		return driver.Status{}, false
	}
	return all[i], true
}

// Eventually waits until cond holds and fails the test with what after Bound.
func Eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(Bound)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for: %s", Bound, what)
		}
		time.Sleep(10 * time.Millisecond) // poll interval of a bounded wait
	}
}

// WaitServing waits until addr answers 200 and returns the body.
func WaitServing(t testing.TB, addr string) string {
	t.Helper()
	var body []byte
	client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	Eventually(t, "http://"+addr+" answers 200", func() bool {
		res, err := client.Get("http://" + addr + "/")
		if err != nil {
			return false
		}
		defer res.Body.Close()
		body, err = io.ReadAll(res.Body)
		return err == nil && res.StatusCode == http.StatusOK
	})
	return string(body)
}

// WaitExited waits until id is listed as exited.
func WaitExited(t testing.TB, d driver.Driver, id string) driver.Status {
	t.Helper()
	var st driver.Status
	Eventually(t, id+" is listed as exited", func() bool {
		var ok bool
		st, ok = Find(t, d, id)
		return ok && !st.Running && !st.ExitedAt.IsZero()
	})
	return st
}

// MustStopAtEnd removes id when the test ends.
func MustStopAtEnd(t testing.TB, d driver.Driver, id string) {
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), Bound)
		defer cancel()
		if err := d.Stop(ctx, id, 0); err != nil {
			t.Errorf("stop %s: %v", id, err)
		}
	})
}
