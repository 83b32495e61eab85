package storetest

import (
	"errors"
	"fmt"
	"regexp"
	"sync"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

var appCases = []testCase{
	{"CreateApp fills in what is not said", func(f *fixture) {
		a := must(f.s.CreateApp(f.t.Context(), paas.App{Name: "shop"}, "ann"))(f)
		want := paas.App{ID: a.ID, Org: paas.DefaultOrg, Name: "shop", Type: paas.TypeWeb, Instances: 1, CreatedAt: f.now(), UpdatedAt: f.now()}
		equal(f, "app", a, want)
		equal(f, "stored app", f.app("shop"), want)
		equal(f, "ID has its shape", regexp.MustCompile(`^a[a-z2-7]{12}$`).MatchString(a.ID), true)
		equal(f, "events", f.kinds("shop"), "app.created")
	}},
	{"CreateApp refuses a taken or bad name and sizes", func(f *fixture) {
		must(f.s.CreateApp(f.t.Context(), paas.App{Name: "shop"}, "ann"))(f)
		for _, c := range []struct {
			app  paas.App
			want paas.Code
		}{
			{paas.App{Name: "shop"}, paas.CodeConflict},
			{paas.App{Name: "Shop!"}, paas.CodeInvalid},
			{paas.App{Name: "x", Type: "cron"}, paas.CodeInvalid},
			{paas.App{Name: "x", Instances: 65}, paas.CodeInvalid},
			{paas.App{Name: "x", Instances: -1}, paas.CodeInvalid},
			{paas.App{Name: "x", MemoryBytes: 1}, paas.CodeInvalid},
			{paas.App{Name: "x", CPUMillis: -1}, paas.CodeInvalid},
		} {
			_, err := f.s.CreateApp(f.t.Context(), c.app, "ann")
			f.code(err, c.want)
		}
	}},
	{"CreateApp 20 times at one instant makes one app", func(f *fixture) {
		stores := []paas.Store{f.s, f.another()}
		var mu sync.Mutex
		made := 0
		together(20, func(i int) {
			_, err := stores[i%2].CreateApp(f.t.Context(), paas.App{Name: "shop"}, "ann")
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				made++
			} else if paas.CodeOf(err) != paas.CodeConflict {
				f.t.Error(err)
			}
		})
		equal(f, "apps made", made, 1)
	}},
	{"Apps are sorted by name", func(f *fixture) {
		for _, n := range []string{"b", "a-b", "ab", "a", "a1"} {
			must(f.s.CreateApp(f.t.Context(), paas.App{Name: n}, "ann"))(f)
		}
		var got []string
		for _, a := range must(f.s.Apps(f.t.Context()))(f) {
			got = append(got, a.Name)
		}
		equal(f, "order", fmt.Sprint(got), "[a a-b a1 ab b]")
	}},
	{"unknown apps are not found", func(f *fixture) {
		ctx := f.t.Context()
		_, err := f.s.App(ctx, "nope")
		f.code(err, paas.CodeNotFound)
		_, err = f.s.UpdateApp(ctx, "nope", func(*paas.App) error { return nil }, "", "", "")
		f.code(err, paas.CodeNotFound)
		_, err = f.s.Env(ctx, "nope")
		f.code(err, paas.CodeNotFound)
		_, err = f.s.SetEnv(ctx, "nope", map[string]string{"A": "1"}, nil, "ann")
		f.code(err, paas.CodeNotFound)
		_, err = f.s.Releases(ctx, "nope", 0)
		f.code(err, paas.CodeNotFound)
		_, err = f.s.Builds(ctx, "nope", 0)
		f.code(err, paas.CodeNotFound)
		_, err = f.s.Deployments(ctx, "nope", 0)
		f.code(err, paas.CodeNotFound)
		_, err = f.s.Events(ctx, "nope", 0, 0)
		f.code(err, paas.CodeNotFound)
		_, err = f.s.DeployRelease(ctx, "nope", 1, paas.KindRollback, "ann")
		f.code(err, paas.CodeNotFound)
		_, err = f.s.Deployment(ctx, 99)
		f.code(err, paas.CodeNotFound)
		_, err = f.s.Build(ctx, 99)
		f.code(err, paas.CodeNotFound)
		_, err = f.s.CancelDeployment(ctx, 99, "ann")
		f.code(err, paas.CodeNotFound)
		orphans, err := f.s.RemoveApp(ctx, "anothing")
		f.ok(err)
		equal(f, "orphans", len(orphans), 0)
	}},
	{"UpdateApp changes, records, and says nothing when nothing changed", func(f *fixture) {
		must(f.s.CreateApp(f.t.Context(), paas.App{Name: "shop"}, "ann"))(f)
		f.advance(time.Minute)
		for range 2 {
			a := f.update("shop", func(a *paas.App) { a.Instances, a.MemoryBytes, a.CPUMillis, a.Stopped = 3, 256<<20, 500, true })
			equal(f, "instances", a.Instances, 3)
			equal(f, "stored", f.app("shop"), a)
			equal(f, "updated", a.UpdatedAt, f.now())
		}
		equal(f, "events", f.kinds("shop"), "app.created app.changed")
	}},
	{"UpdateApp refuses bad sizes, foreign fields and the change's own error", func(f *fixture) {
		before := must(f.s.CreateApp(f.t.Context(), paas.App{Name: "shop"}, "ann"))(f)
		try := func(change func(a *paas.App) error) error {
			_, err := f.s.UpdateApp(f.t.Context(), "shop", change, "app.changed", "", "ann")
			return err
		}
		f.code(try(func(a *paas.App) error { a.Instances = 65; return nil }), paas.CodeInvalid)
		f.code(try(func(a *paas.App) error { a.MemoryBytes = paas.MaxMemoryBytes + 1; return nil }), paas.CodeInvalid)
		f.code(try(func(a *paas.App) error { a.LiveDeployment = 7; return nil }), paas.CodeInternal)
		own := errors.New("own")
		if err := try(func(a *paas.App) error { a.Instances = 5; return own }); !errors.Is(err, own) {
			f.t.Fatalf("error is %v, want the change's own", err)
		}
		equal(f, "app", f.app("shop"), before)
		equal(f, "events", f.kinds("shop"), "app.created")
	}},
	{"UpdateApp loses no update of 40 at one instant from two processes", func(f *fixture) {
		must(f.s.CreateApp(f.t.Context(), paas.App{Name: "shop"}, "ann"))(f)
		stores := []paas.Store{f.s, f.another()}
		together(40, func(i int) {
			_, err := stores[i%2].UpdateApp(f.t.Context(), "shop", func(a *paas.App) error { a.Instances++; return nil }, "app.scaled", "", "ann")
			if err != nil {
				f.t.Error(err)
			}
		})
		equal(f, "instances", f.app("shop").Instances, 41)
	}},
	{"Deleting ends what is under way and refuses everything else", func(f *fixture) {
		live := f.live("shop", "v1")
		queued := f.accept("shop", "v2")
		running := f.accept("shop", "v3")
		b := f.claim() // the older one
		equal(f, "claimed", b.ID, queued.BuildID)
		f.update("shop", func(a *paas.App) { a.Deleting = true })
		f.update("shop", func(a *paas.App) { a.Deleting = true }) // again
		f.state(queued.ID, paas.DeploymentCanceled)
		f.state(running.ID, paas.DeploymentCanceled)
		equal(f, "live", f.deployment(live.ID).State, paas.DeploymentLive)
		cancel := must(f.s.RenewBuild(f.t.Context(), b.ID, b.Attempt, time.Minute))(f)
		equal(f, "cancel asked", cancel, true)

		ctx := f.t.Context()
		_, _, err := f.s.AcceptDeploy(ctx, paas.NewDeploy{App: "shop", Archive: archive("v4")})
		f.code(err, paas.CodeConflict)
		_, err = f.s.SetEnv(ctx, "shop", map[string]string{"A": "1"}, nil, "ann")
		f.code(err, paas.CodeConflict)
		_, err = f.s.DeployRelease(ctx, "shop", 1, paas.KindRollback, "ann")
		f.code(err, paas.CodeConflict)
		_, err = f.s.UpdateApp(ctx, "shop", func(a *paas.App) error { a.Deleting = false; return nil }, "", "", "")
		f.code(err, paas.CodeConflict)
		_, err = f.s.CreateApp(ctx, paas.App{Name: "shop"}, "ann")
		f.code(err, paas.CodeConflict)
	}},
	{"RemoveApp waits for its builds, then leaves only what others use", func(f *fixture) {
		ctx := f.t.Context()
		f.done("shop", "shared")
		f.done("shop", "own")
		f.done("blog", "shared")
		f.accept("shop", "running")
		b := f.claim()
		id := f.app("shop").ID
		_, err := f.s.RemoveApp(ctx, id)
		f.code(err, paas.CodeConflict) // not Deleting
		f.update("shop", func(a *paas.App) { a.Deleting = true })
		_, err = f.s.RemoveApp(ctx, id)
		f.code(err, paas.CodeConflict) // its worker still runs
		f.ok(f.s.FailBuild(ctx, b.ID, b.Attempt, paas.BuildCanceled, paas.Failure{}, logKey(b)))
		orphans := must(f.s.RemoveApp(ctx, id))(f)
		want := map[string]bool{archive("own").Key: true, archive("running").Key: true, "builds/1.log": true, "builds/2.log": true, logKey(b): true}
		for _, k := range orphans {
			if !want[k] {
				f.t.Errorf("orphan %s is in use", k)
			}
			delete(want, k)
		}
		equal(f, "keys not told", len(want), 0)
		_, err = f.s.App(ctx, "shop")
		f.code(err, paas.CodeNotFound)
		_, err = f.s.Build(ctx, 1)
		f.code(err, paas.CodeNotFound)
		_, err = f.s.FinishBuild(ctx, b.ID, b.Attempt, result(b), "")
		f.code(err, paas.CodeConflict)
		next := must(f.s.CreateApp(ctx, paas.App{Name: "shop"}, "ann"))(f)
		equal(f, "same ID again", next.ID == id, false)
		equal(f, "events of the new app", f.kinds("shop"), "app.created")
	}},
}
