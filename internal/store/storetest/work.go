package storetest

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

var workCases = []testCase{
	{"Work tells of live, active and previous with their environments", func(f *fixture) {
		ctx := f.t.Context()
		must(f.s.CreateApp(ctx, paas.App{Name: "idle"}, "ann"))(f)
		must(f.s.CreateApp(ctx, paas.App{Name: "shop"}, "ann"))(f)
		must(f.s.SetEnv(ctx, "shop", map[string]string{"V": "1"}, nil, "ann"))(f)
		first := f.roll("shop", "v1")
		w := f.work("shop")
		equal(f, "first time", fmt.Sprint(w.Live == nil, w.Previous == nil, w.Active.ID, w.ActiveRelease.Number), fmt.Sprint(true, true, first.ID, 1))
		f.move(first.ID, paas.DeploymentRolling, paas.DeploymentLive)
		w = f.work("shop")
		equal(f, "watched", fmt.Sprint(w.Live.ID, w.Active.ID), fmt.Sprint(first.ID, first.ID))
		env := must(f.s.SetEnv(ctx, "shop", map[string]string{"V": "2"}, nil, "ann"))(f)
		w = f.work("shop")
		equal(f, "rolling", fmt.Sprint(w.Live.ID, w.Active.ID, w.Previous.ID), fmt.Sprint(first.ID, env.ID, first.ID))
		equal(f, "environments", flat(w.Env[w.LiveRelease.ConfigVersion])+flat(w.Env[w.ActiveRelease.ConfigVersion]), "V=1V=2")
		f.move(env.ID, paas.DeploymentRolling, paas.DeploymentLive)
		w = f.work("shop")
		equal(f, "watched again", fmt.Sprint(w.Live.ID, w.Active.ID, w.Previous.ID, w.PreviousRelease.Number), fmt.Sprint(env.ID, env.ID, first.ID, 1))
		f.move(env.ID, paas.DeploymentLive, paas.DeploymentSucceeded)
		w = f.work("shop")
		equal(f, "at rest", fmt.Sprint(w.Live.ID, w.Active == nil, w.Previous == nil, len(w.Env)), fmt.Sprint(env.ID, true, true, 1))
		w = f.work("idle")
		equal(f, "without a release", w.Live == nil && w.Active == nil, true)
	}},
	{"Work leaves no app out", func(f *fixture) {
		for i, n := range []string{"c", "b", "a"} {
			f.done(n, "v")
			f.update(n, func(a *paas.App) { a.Stopped, a.Deleting = i == 0, i == 1 })
		}
		var got []string
		for _, w := range must(f.s.Work(f.t.Context()))(f) {
			got = append(got, w.App.Name)
		}
		equal(f, "apps", fmt.Sprint(got), "[a b c]")
	}},
	{"Work is one state while others write", func(f *fixture) {
		f.done("shop", "v0")
		other := f.another()
		var wg sync.WaitGroup
		wg.Go(func() {
			for i := range 15 {
				d, err := other.SetEnv(f.t.Context(), "shop", map[string]string{"V": fmt.Sprint(i)}, nil, "ann")
				if err == nil {
					_, err = other.MoveDeployment(f.t.Context(), d.ID, paas.DeploymentRolling, paas.DeploymentLive, f.now(), nil)
				}
				if err != nil {
					f.t.Error(err)
				}
			}
		})
		for range 60 {
			w := f.work("shop")
			equal(f, "live row", w.Live.ID, w.App.LiveDeployment)
			if w.Active != nil && w.ActiveRelease.ConfigVersion > w.App.ConfigVersion {
				f.t.Fatalf("release with config %d, app has %d", w.ActiveRelease.ConfigVersion, w.App.ConfigVersion)
			}
			if w.Active != nil && len(w.Env[w.ActiveRelease.ConfigVersion]) != 1 {
				f.t.Fatalf("config %d is empty", w.ActiveRelease.ConfigVersion)
			}
		}
		wg.Wait()
	}},
}

var pruneCases = []testCase{
	{"PruneReleases keeps the newest and what is in force", func(f *fixture) {
		ctx := f.t.Context()
		for i := range 6 {
			f.done("shop", fmt.Sprint("v", i+1))
		}
		f.done("blog", "v2") // shares an archive
		back := must(f.s.DeployRelease(ctx, "shop", 2, paas.KindRollback, "ann"))(f)
		f.move(back.ID, paas.DeploymentRolling, paas.DeploymentLive)
		f.move(back.ID, paas.DeploymentLive, paas.DeploymentSucceeded)
		orphans := must(f.s.PruneReleases(ctx, 2))(f)
		var kept []int
		for _, r := range must(f.s.Releases(ctx, "shop", 0))(f) {
			kept = append(kept, r.Number)
		}
		equal(f, "kept", fmt.Sprint(kept), "[6 5 2]")
		want := []string{"builds/1.log", "builds/3.log", "builds/4.log", archive("v1").Key, archive("v3").Key, archive("v4").Key}
		slices.Sort(want)
		slices.Sort(orphans)
		equal(f, "orphans", fmt.Sprint(orphans), fmt.Sprint(want))
		images := must(f.s.ImagesInUse(ctx))(f)
		id := f.app("shop").ID
		equal(f, "images", fmt.Sprint(len(images), images[paas.ImageRef(id, 2)], images[paas.ImageRef(id, 1)]), "4 true false")
		equal(f, "work", f.work("shop").LiveRelease.Number, 2)
		next := f.roll("shop", "v1")
		equal(f, "numbers are not reused", next.Release, 7)
		f.advance(61 * time.Minute)
		orphans = must(f.s.PruneReleases(ctx, 9))(f)
		equal(f, "told again, but for what came back", slices.Contains(orphans, archive("v1").Key), false)
		equal(f, "told again", slices.Contains(orphans, archive("v3").Key), true)
		equal(f, "told for an hour", len(must(f.s.PruneReleases(ctx, 9))(f)), 0)
	}},
	{"PruneReleases drops unused configurations and failed builds", func(f *fixture) {
		ctx := f.t.Context()
		for i := range 4 {
			must(f.s.CreateApp(ctx, paas.App{Name: fmt.Sprint("app", i)}, "ann"))(f)
		}
		for i := range 3 {
			f.accept("app0", fmt.Sprint("bad", i))
			b := f.claim()
			f.ok(f.s.FailBuild(ctx, b.ID, b.Attempt, paas.BuildFailed, paas.Failure{Message: "no"}, logKey(b)))
		}
		must(f.s.SetEnv(ctx, "app1", map[string]string{"A": "1"}, nil, "ann"))(f)
		must(f.s.SetEnv(ctx, "app1", map[string]string{"A": "2"}, nil, "ann"))(f)
		orphans := must(f.s.PruneReleases(ctx, 1))(f)
		equal(f, "orphans", len(orphans), 4)
		equal(f, "builds", len(must(f.s.Builds(ctx, "app0", 0))(f)), 1)
		equal(f, "deployments stay", len(must(f.s.Deployments(ctx, "app0", 0))(f)), 3)
		equal(f, "env", f.env("app1"), "A=2")
	}},
	{"images of unfinished builds are in use", func(f *fixture) {
		d := f.accept("shop", "v1")
		images := must(f.s.ImagesInUse(f.t.Context()))(f)
		equal(f, "queued", images[paas.ImageRef(d.AppID, d.BuildID)], true)
		b := f.claim()
		f.ok(f.s.FailBuild(f.t.Context(), b.ID, b.Attempt, paas.BuildFailed, paas.Failure{}, ""))
		equal(f, "after the failure", len(must(f.s.ImagesInUse(f.t.Context()))(f)), 0)
	}},
}
