package storetest

import (
	"fmt"
	"sync"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

var buildCases = []testCase{
	{"50 workers at one instant claim distinct builds", func(f *fixture) {
		for i := range 50 {
			f.accept(fmt.Sprintf("app%d", i), "v")
		}
		stores := []paas.Store{f.s, f.another()}
		var mu sync.Mutex
		seen := map[int64]bool{}
		together(50, func(i int) {
			b, err := stores[i%2].ClaimBuild(f.t.Context(), fmt.Sprint("w", i), time.Minute)
			mu.Lock()
			defer mu.Unlock()
			if err != nil || b == nil || seen[b.ID] {
				f.t.Errorf("claim = %+v, %v; seen before: %v", b, err, b != nil && seen[b.ID])
				return
			}
			seen[b.ID] = true
		})
		equal(f, "builds claimed", len(seen), 50)
		none := must(f.s.ClaimBuild(f.t.Context(), "w", time.Minute))(f)
		equal(f, "one more", none, nil)
	}},
	{"ClaimBuild takes the oldest, and a lost one after its lease", func(f *fixture) {
		first := f.accept("shop", "v1")
		f.accept("shop", "v2")
		b := f.claim()
		equal(f, "oldest", b.ID, first.BuildID)
		equal(f, "attempt", b.Attempt, 1)
		equal(f, "state", b.State, paas.BuildBuilding)
		equal(f, "started", b.StartedAt, f.now())
		f.claim()
		f.advance(59 * time.Second)
		must(f.s.RenewBuild(f.t.Context(), 2, 1, time.Minute))(f)
		equal(f, "before the lease's end", must(f.s.ClaimBuild(f.t.Context(), "w2", time.Minute))(f), nil)
		f.advance(time.Second)
		again := f.claim()
		equal(f, "lost build", again.ID, b.ID)
		equal(f, "attempt", again.Attempt, 2)
	}},
	{"a fenced attempt changes nothing", func(f *fixture) {
		f.accept("shop", "v1")
		old := f.claim()
		f.advance(time.Hour)
		now := f.claim()
		ctx := f.t.Context()
		_, err := f.s.RenewBuild(ctx, old.ID, old.Attempt, time.Minute)
		f.code(err, paas.CodeConflict)
		_, err = f.s.FinishBuild(ctx, old.ID, old.Attempt, result(old), "")
		f.code(err, paas.CodeConflict)
		f.code(f.s.FailBuild(ctx, old.ID, old.Attempt, paas.BuildFailed, paas.Failure{}, ""), paas.CodeConflict)
		f.code(f.s.ReleaseBuild(ctx, old.ID, old.Attempt, ""), paas.CodeConflict)
		equal(f, "state", f.build(old.ID).State, paas.BuildBuilding)
		f.finish(now)
	}},
	{"a build that the platform never finishes fails with its deployment", func(f *fixture) {
		d := f.accept("shop", "v1")
		for i := range paas.MaxBuildAttempts {
			b := f.claim()
			equal(f, "attempt", b.Attempt, i+1)
			f.ok(f.s.ReleaseBuild(f.t.Context(), b.ID, b.Attempt, "buildkitd went away"))
		}
		equal(f, "claim", must(f.s.ClaimBuild(f.t.Context(), "w", time.Minute))(f), nil)
		b := f.build(d.BuildID)
		equal(f, "state", b.State, paas.BuildFailed)
		equal(f, "code", b.Failure.Code, "builder_lost")
		equal(f, "last trouble", fmt.Sprint(b.Failure.Output), "[buildkitd went away]")
		f.state(d.ID, paas.DeploymentFailed)
		equal(f, "deployment's failure", f.deployment(d.ID).Failure.Code, "builder_lost")
	}},
	{"FinishBuild makes the release and starts to roll it", func(f *fixture) {
		d := f.accept("shop", "v1")
		b := f.claim()
		r := f.finish(b)
		equal(f, "number", r.Number, 1)
		equal(f, "image", r.ImageRef+r.ImageDigest, result(b).ImageRef+result(b).ImageDigest)
		equal(f, "command", fmt.Sprint(r.Command, r.Env), "[node server.js] [NODE_ENV=production]")
		equal(f, "health", r.Health, result(b).Health)
		equal(f, "grace", r.Grace, 10*time.Second)
		equal(f, "who and why", r.CreatedBy+r.Reason, "anndeploy")
		stored := must(f.s.Release(f.t.Context(), "shop", 1))(f)
		equal(f, "stored release", fmt.Sprint(stored), fmt.Sprint(r))
		got := f.deployment(d.ID)
		equal(f, "state", got.State, paas.DeploymentRolling)
		equal(f, "release", got.ReleaseID*1000+int64(got.Release), r.ID*1000+1)
		equal(f, "rolling since", got.RollingAt, f.now())
		built := f.build(b.ID)
		equal(f, "build", built.State, paas.BuildSucceeded)
		equal(f, "log", built.LogKey, logKey(b))
		equal(f, "ledger", built.Result.Ledger[0].Step, "base")
		equal(f, "events", f.kinds("shop"), "app.created app.deploying build.started build.succeeded release.created deployment.rolling")
	}},
	{"FinishBuild told twice by its worker gives the same release", func(f *fixture) {
		f.accept("shop", "v1")
		b := f.claim()
		first := f.finish(b)
		must(f.s.SetEnv(f.t.Context(), "shop", map[string]string{"A": "1"}, nil, "ann"))(f)
		equal(f, "release", f.finish(b).ID, first.ID)
	}},
	{"FinishBuild takes scale and environment from deployment.json", func(f *fixture) {
		f.accept("shop", "v1")
		must(f.s.SetEnv(f.t.Context(), "shop", map[string]string{"A": "1", "B": "1"}, nil, "ann"))(f)
		b := f.claim()
		r := result(b)
		r.Type, r.Instances, r.MemoryBytes, r.UserEnv = paas.TypeWorker, 4, 256<<20, map[string]string{"B": "2", "C": "3"}
		rel := must(f.s.FinishBuild(f.t.Context(), b.ID, b.Attempt, r, ""))(f)
		a := f.app("shop")
		equal(f, "app", fmt.Sprint(a.Type, a.Instances, a.MemoryBytes), fmt.Sprint(paas.TypeWorker, 4, 256<<20))
		equal(f, "env", f.env("shop"), "A=1 B=2 C=3")
		equal(f, "pinned config", rel.ConfigVersion, a.ConfigVersion)
		equal(f, "config version", a.ConfigVersion, 2)
		equal(f, "secrets in the result", len(f.build(b.ID).Result.UserEnv), 0)
		f.update("shop", func(a *paas.App) { a.Instances = 2 })
		f.accept("shop", "v2")
		b = f.claim()
		r = result(b)
		r.Type = paas.TypeWorker
		rel = must(f.s.FinishBuild(f.t.Context(), b.ID, b.Attempt, r, ""))(f)
		equal(f, "instances when nothing is said", f.app("shop").Instances, 2)
		equal(f, "config when nothing changed", rel.ConfigVersion, 2)
	}},
	{"a result that does not fit the app fails the build for good", func(f *fixture) {
		f.done("shop", "v1")
		for code, change := range map[string]func(r *paas.BuildResult){
			"type_changed":        func(r *paas.BuildResult) { r.Type = paas.TypeWorker },
			"bad_type":            func(r *paas.BuildResult) { r.Type = "cron" },
			"bad_deployment_json": func(r *paas.BuildResult) { r.Instances = 65 },
		} {
			d := f.accept("shop", code)
			b := f.claim()
			r := result(b)
			change(&r)
			_, err := f.s.FinishBuild(f.t.Context(), b.ID, b.Attempt, r, logKey(b))
			f.code(err, paas.CodeInvalid)
			equal(f, "failure", f.build(b.ID).Failure.Code, code)
			f.state(d.ID, paas.DeploymentFailed)
		}
		equal(f, "releases", len(must(f.s.Releases(f.t.Context(), "shop", 0))(f)), 1)
	}},
	{"FailBuild ends build and deployment with the reason", func(f *fixture) {
		d := f.accept("shop", "v1")
		b := f.claim()
		failure := paas.Failure{Code: "no_start_command", Message: "no start command found", Hint: "add one", Output: []string{"x"}}
		for range 2 {
			f.ok(f.s.FailBuild(f.t.Context(), b.ID, b.Attempt, paas.BuildFailed, failure, logKey(b)))
		}
		f.state(d.ID, paas.DeploymentFailed)
		equal(f, "reason", fmt.Sprint(*f.deployment(d.ID).Failure), fmt.Sprint(failure))
		equal(f, "reason of the build", fmt.Sprint(*f.build(b.ID).Failure), fmt.Sprint(failure))
		events := must(f.s.Events(f.t.Context(), "shop", 0, 0))(f)
		equal(f, "last event", events[len(events)-1].Kind+": "+events[len(events)-1].Message, "deployment.failed: no start command found")
		equal(f, "a way that is none", f.s.FailBuild(f.t.Context(), b.ID, b.Attempt, paas.BuildSucceeded, failure, "") != nil, true)
	}},
	{"CancelDeployment stops a queued, a running and a rolling one", func(f *fixture) {
		ctx := f.t.Context()
		queued := f.accept("shop", "v1")
		equal(f, "state", must(f.s.CancelDeployment(ctx, queued.ID, "ann"))(f).State, paas.DeploymentCanceled)
		equal(f, "queued build", f.build(queued.BuildID).State, paas.BuildCanceled)
		_, err := f.s.CancelDeployment(ctx, queued.ID, "ann")
		f.code(err, paas.CodeConflict)

		running := f.accept("shop", "v2")
		b := f.claim()
		must(f.s.CancelDeployment(ctx, running.ID, "ann"))(f)
		f.state(running.ID, paas.DeploymentCanceled)
		equal(f, "cancel asked", must(f.s.RenewBuild(ctx, b.ID, b.Attempt, time.Minute))(f), true)
		_, err = f.s.FinishBuild(ctx, b.ID, b.Attempt, result(b), logKey(b))
		f.code(err, paas.CodeConflict)
		equal(f, "running build", f.build(b.ID).State, paas.BuildCanceled)

		lost := f.accept("shop", "v3")
		f.claim()
		must(f.s.CancelDeployment(ctx, lost.ID, "ann"))(f)
		f.advance(time.Hour)
		equal(f, "claim of a canceled build", must(f.s.ClaimBuild(ctx, "w", time.Minute))(f), nil)
		equal(f, "lost build", f.build(lost.BuildID).State, paas.BuildCanceled)

		given := f.accept("shop", "v4")
		b = f.claim()
		must(f.s.CancelDeployment(ctx, given.ID, "ann"))(f)
		f.ok(f.s.ReleaseBuild(ctx, b.ID, b.Attempt, "stopping"))
		equal(f, "build given back", f.build(b.ID).State, paas.BuildCanceled)

		rolling := f.roll("shop", "v5")
		must(f.s.CancelDeployment(ctx, rolling.ID, "ann"))(f)
		f.state(rolling.ID, paas.DeploymentCanceled)
		live := f.live("shop", "v6")
		_, err = f.s.CancelDeployment(ctx, live.ID, "ann")
		f.code(err, paas.CodeConflict)
	}},
	{"LastBuild is the newest that succeeded", func(f *fixture) {
		id := f.accept("shop", "v1").AppID
		equal(f, "before", must(f.s.LastBuild(f.t.Context(), id))(f), nil)
		f.finish(f.claim())
		f.roll("shop", "v2")
		f.accept("shop", "v3")
		b := must(f.s.LastBuild(f.t.Context(), id))(f)
		equal(f, "archive", b.ArchiveDigest, archive("v2").Digest)
		equal(f, "plan", string(b.Result.Plan), `{"p":1}`)
		list := must(f.s.Builds(f.t.Context(), "shop", 2))(f)
		equal(f, "newest first", fmt.Sprint(len(list), list[0].ID > list[1].ID), "2 true")
	}},
}
