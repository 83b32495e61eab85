package reconcile_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/internal/seal"
	"github.com/slipway-paas/slipway/internal/store"
	"github.com/slipway-paas/slipway/router/feed"
	"github.com/slipway-paas/slipway/runtime/driver"
	"github.com/slipway-paas/slipway/runtime/fake"
	"github.com/slipway-paas/slipway/runtime/reconcile"
)

type noObjects struct{}

func (noObjects) Delete(context.Context, string) error   { return nil }
func (noObjects) Sweep(context.Context, time.Time) error { return nil }
func (noObjects) Remove(context.Context, string) error   { return nil }

// TestLoop_OverRealStore_DeploysFailsAndDestroys holds that the states which the
// store and the loop agree on are the same ones.
func TestLoop_OverRealStore_DeploysFailsAndDestroys(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	s, err := store.Open(ctx, "sqlite:"+filepath.Join(dir, "slipway.db"), seal.New(filepath.Join(dir, "secret.key")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	d := fake.New(func(s driver.Spec) fake.Behaviour {
		if s.Release == 2 {
			return fake.Behaviour{Exit: &fake.Exit{After: 500 * time.Millisecond, Code: 9}}
		}
		return fake.Behaviour{}
	})
	t.Cleanup(d.Close)
	l, err := reconcile.New(reconcile.Options{
		Store: s, Driver: d, Blobs: noObjects{}, Logs: noObjects{}, Holder: "test",
		// No router ever connects: the table counts as confirmed at once.
		Router: feed.New(feed.Options{GoneAfter: time.Nanosecond}),
		Policy: reconcile.Policy{Watch: time.Second},
	})
	if err != nil {
		t.Fatal(err)
	}
	lctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); _ = l.Run(lctx) }()
	t.Cleanup(func() { cancel(); <-done })

	first := release(t, s, d)
	began := time.Now()
	waitState(t, s, first, paas.DeploymentLive)
	t.Logf("live %s after the build", time.Since(began).Round(time.Millisecond))
	waitState(t, s, first, paas.DeploymentSucceeded)
	second := waitState(t, s, release(t, s, d), paas.DeploymentFailed)
	if second.Failure == nil || second.Failure.Code != "crashed" {
		t.Errorf("failure = %+v, want crashed", second.Failure)
	}
	app, err := s.App(ctx, "hello")
	if err != nil || app.LiveDeployment != first {
		t.Errorf("live deployment = %d, %v, want %d", app.LiveDeployment, err, first)
	}
	if _, err := s.UpdateApp(ctx, "hello", func(a *paas.App) error { a.Deleting = true; return nil }, "app.destroying", "bye", "me"); err != nil {
		t.Fatal(err)
	}
	wait(t, "the app to be gone", func() bool {
		_, err := s.App(ctx, "hello")
		list, _ := d.List(ctx)
		return paas.CodeOf(err) == paas.CodeNotFound && len(list) == 0
	})
}

// release uploads and builds, and returns the rolling deployment.
func release(t *testing.T, s *store.Store, d *fake.Driver) int64 {
	t.Helper()
	digest := "sha256:" + strings.Repeat("0", 64)
	dep, _, err := s.AcceptDeploy(t.Context(), paas.NewDeploy{
		App: "hello", CreateApp: true, By: "me", Origin: paas.OriginCLI,
		Archive: paas.Archive{Digest: digest, Key: "archives/" + digest, SizeBytes: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.ClaimBuild(t.Context(), "w", time.Minute)
	if err != nil || b == nil {
		t.Fatalf("claim: %v, %v", b, err)
	}
	ref := paas.ImageRef(b.AppID, b.ID)
	d.AddImage(ref)
	_, err = s.FinishBuild(t.Context(), b.ID, b.Attempt, paas.BuildResult{
		ImageRef: ref, ImageDigest: digest, Type: paas.TypeWeb, Command: []string{"run"},
	}, "")
	if err != nil {
		t.Fatal(err)
	}
	return dep.ID
}

func waitState(t *testing.T, s *store.Store, id int64, state paas.DeploymentState) paas.Deployment {
	t.Helper()
	var last paas.Deployment
	wait(t, "deployment to be "+string(state), func() bool {
		d, err := s.Deployment(t.Context(), id)
		last = d
		return err == nil && d.State == state
	})
	return last
}

func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 15 s for %s", what)
		}
	}
}
