package storetest

import (
	"fmt"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

var rollingCases = []testCase{
	{"a deployment goes live, is watched and succeeds", func(f *fixture) {
		d := f.roll("shop", "v1")
		f.advance(time.Second)
		until := f.now().Add(15 * time.Second)
		moved := must(f.s.MoveDeployment(f.t.Context(), d.ID, paas.DeploymentRolling, paas.DeploymentLive, until, nil))(f)
		equal(f, "moved", moved, true)
		got := f.deployment(d.ID)
		equal(f, "live at", got.LiveAt, f.now())
		equal(f, "watched until", got.WatchUntil, until)
		equal(f, "live deployment", f.app("shop").LiveDeployment, d.ID)
		f.move(d.ID, paas.DeploymentLive, paas.DeploymentSucceeded)
		f.state(d.ID, paas.DeploymentSucceeded)
		equal(f, "live deployment", f.app("shop").LiveDeployment, d.ID)
	}},
	{"MoveDeployment from another state changes nothing", func(f *fixture) {
		d := f.done("shop", "v1")
		for _, id := range []int64{d.ID, 999} {
			moved := must(f.s.MoveDeployment(f.t.Context(), id, paas.DeploymentRolling, paas.DeploymentFailed, time.Time{}, &paas.Failure{}))(f)
			equal(f, "moved", moved, false)
		}
		equal(f, "deployment", f.deployment(d.ID), d)
		for _, to := range []paas.DeploymentState{paas.DeploymentPending, paas.DeploymentRolling, paas.DeploymentLive} {
			_, err := f.s.MoveDeployment(f.t.Context(), d.ID, paas.DeploymentSucceeded, to, time.Time{}, nil)
			equal(f, "moving on from the end is refused", err != nil, true)
		}
	}},
	{"one of 20 movers wins", func(f *fixture) {
		d := f.roll("shop", "v1")
		won := make([]bool, 20)
		together(20, func(i int) {
			moved, err := f.s.MoveDeployment(f.t.Context(), d.ID, paas.DeploymentRolling, paas.DeploymentLive, f.now(), nil)
			if err != nil {
				f.t.Error(err)
			}
			won[i] = moved
		})
		n := 0
		for _, w := range won {
			if w {
				n++
			}
		}
		equal(f, "winners", n, 1)
	}},
	{"a failure during the watch brings the previous deployment back", func(f *fixture) {
		old := f.done("shop", "v1")
		d := f.live("shop", "v2")
		equal(f, "previous", d.Previous, old.ID)
		failure := &paas.Failure{Code: "exited", Message: "web.1 exited with code 1 after 10 s"}
		must(f.s.MoveDeployment(f.t.Context(), d.ID, paas.DeploymentLive, paas.DeploymentFailed, time.Time{}, failure))(f)
		f.state(d.ID, paas.DeploymentFailed)
		equal(f, "failure", f.deployment(d.ID).Failure.Message, failure.Message)
		equal(f, "live deployment", f.app("shop").LiveDeployment, old.ID)
		events := must(f.s.Events(f.t.Context(), "shop", 0, 0))(f)
		equal(f, "event", events[len(events)-1].Kind+events[len(events)-1].Message, "deployment.failed"+failure.Message)
	}},
	{"a rolling deployment that fails leaves the live one", func(f *fixture) {
		old := f.done("shop", "v1")
		d := f.roll("shop", "v2")
		f.move(d.ID, paas.DeploymentRolling, paas.DeploymentFailed)
		equal(f, "live deployment", f.app("shop").LiveDeployment, old.ID)
	}},
	{"a newer deployment takes over from pending, rolling and watched ones", func(f *fixture) {
		watched := f.live("shop", "v1")
		rolling := f.roll("shop", "v2")
		f.state(watched.ID, paas.DeploymentSucceeded)
		equal(f, "previous", rolling.Previous, watched.ID)
		building := f.accept("shop", "v3")
		queued := f.accept("shop", "v4")
		newest := f.accept("shop", "v5")
		b3 := f.claim()
		b4, b5 := queued.BuildID, f.claimID(newest.BuildID, queued.BuildID)
		f.ok(f.s.ReleaseBuild(f.t.Context(), b4, 1, "made queued again"))
		f.finish(b5)
		f.state(rolling.ID, paas.DeploymentSuperseded)
		f.state(queued.ID, paas.DeploymentSuperseded)
		equal(f, "queued build", f.build(b4).State, paas.BuildCanceled)
		f.state(building.ID, paas.DeploymentSuperseded)
		equal(f, "running build goes on", f.build(b3.ID).State, paas.BuildBuilding)
		r := f.finish(b3)
		f.state(building.ID, paas.DeploymentSuperseded)
		equal(f, "its release", f.deployment(building.ID).Release, r.Number)
		equal(f, "newest state", f.deployment(newest.ID).State, paas.DeploymentRolling)
		equal(f, "newest previous", f.deployment(newest.ID).Previous, watched.ID)
		back := must(f.s.DeployRelease(f.t.Context(), "shop", r.Number, paas.KindRollback, "ann"))(f)
		equal(f, "it can be rolled to", back.ReleaseID, r.ID)
	}},
	{"an older build that ends before a newer one rolls meanwhile", func(f *fixture) {
		first, second := f.accept("shop", "v1"), f.accept("shop", "v2")
		b1, b2 := f.claim(), f.claim()
		f.finish(b1)
		equal(f, "first", f.deployment(first.ID).State, paas.DeploymentRolling)
		f.finish(b2)
		f.state(first.ID, paas.DeploymentSuperseded)
		equal(f, "second", f.deployment(second.ID).State, paas.DeploymentRolling)
	}},
	{"DeployRelease rolls an older release with its own configuration", func(f *fixture) {
		ctx := f.t.Context()
		must(f.s.CreateApp(ctx, paas.App{Name: "shop"}, "ann"))(f)
		_, err := f.s.DeployRelease(ctx, "shop", 0, paas.KindRestart, "ann")
		f.code(err, paas.CodeConflict)
		must(f.s.SetEnv(ctx, "shop", map[string]string{"V": "1"}, nil, "ann"))(f)
		f.done("shop", "v1")
		must(f.s.SetEnv(ctx, "shop", map[string]string{"V": "2"}, nil, "ann"))(f)
		live := f.done("shop", "v2")
		_, err = f.s.DeployRelease(ctx, "shop", 99, paas.KindRollback, "ann")
		f.code(err, paas.CodeNotFound)
		d := must(f.s.DeployRelease(ctx, "shop", 1, paas.KindRollback, "ann"))(f)
		equal(f, "deployment", fmt.Sprint(d.Kind, d.State, d.Release, d.Previous, d.BuildID), fmt.Sprint(paas.KindRollback, paas.DeploymentRolling, 1, live.ID, 0))
		f.move(d.ID, paas.DeploymentRolling, paas.DeploymentLive)
		w := f.work("shop")
		equal(f, "environment of the old release", flat(w.Env[w.LiveRelease.ConfigVersion]), "V=1")
		equal(f, "newest environment", f.env("shop"), "V=2")
		again := must(f.s.DeployRelease(ctx, "shop", 0, paas.KindRestart, "ann"))(f)
		equal(f, "restarted release", again.Release, 1)
		_, err = f.s.DeployRelease(ctx, "shop", 0, paas.KindRestart, "ann")
		f.code(err, paas.CodeConflict) // one is rolling
	}},
	{"deploying starts a stopped app, unless it was stopped again", func(f *fixture) {
		f.done("shop", "v1")
		stop := func() { f.update("shop", func(a *paas.App) { a.Stopped = true }) }
		stop()
		_, err := f.s.DeployRelease(f.t.Context(), "shop", 0, paas.KindRestart, "ann")
		f.code(err, paas.CodeConflict)
		d := f.accept("shop", "v2")
		equal(f, "stopped while building", f.app("shop").Stopped, true)
		f.finish(f.claim())
		equal(f, "stopped while rolling", f.app("shop").Stopped, false)
		f.move(d.ID, paas.DeploymentRolling, paas.DeploymentLive)
		stop()
		f.accept("shop", "v3")
		f.update("shop", func(a *paas.App) { a.Stopped = false })
		stop()
		f.finish(f.claim())
		equal(f, "stopped after the deploy was asked for", f.app("shop").Stopped, true)
		must(f.s.DeployRelease(f.t.Context(), "shop", 1, paas.KindRollback, "ann"))(f)
		equal(f, "stopped after a rollback", f.app("shop").Stopped, false)
	}},
	{"SetWaiting tells of what is not final", func(f *fixture) {
		d := f.roll("shop", "v1")
		f.ok(f.s.SetWaiting(f.t.Context(), d.ID, "1 of 2 instances is healthy"))
		equal(f, "waiting", f.deployment(d.ID).Waiting, "1 of 2 instances is healthy")
		f.move(d.ID, paas.DeploymentRolling, paas.DeploymentFailed)
		f.ok(f.s.SetWaiting(f.t.Context(), d.ID, "late"))
		equal(f, "waiting at the end", f.deployment(d.ID).Waiting, "")
		f.ok(f.s.SetWaiting(f.t.Context(), 999, "nobody"))
	}},
}

// claimID claims until it has build want, passing over the ones given.
func (f *fixture) claimID(want int64, over ...int64) *paas.Build {
	f.t.Helper()
	for range len(over) + 1 {
		if b := f.claim(); b.ID == want {
			return b
		}
	}
	f.t.Fatalf("build %d was not claimed", want)
	return nil
}
