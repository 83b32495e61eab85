package storetest

import (
	"fmt"
	"strings"

	"github.com/slipway-paas/slipway/internal/paas"
)

var configCases = []testCase{
	{"SetEnv merges, removes and tells names only", func(f *fixture) {
		ctx := f.t.Context()
		must(f.s.CreateApp(ctx, paas.App{Name: "shop"}, "ann"))(f)
		equal(f, "at first", f.env("shop"), "")
		set := func(set map[string]string, unset ...string) {
			f.t.Helper()
			if d := must(f.s.SetEnv(ctx, "shop", set, unset, "ann"))(f); d != nil {
				f.t.Fatalf("deployment %d without a release", d.ID)
			}
		}
		set(map[string]string{"B": "canary-1", "A": "", "C": "x=y\nz"})
		equal(f, "env", f.env("shop"), "A= B=canary-1 C=x=y\nz")
		set(map[string]string{"B": "canary-2"}, "A", "NEVER")
		equal(f, "env", f.env("shop"), "B=canary-2 C=x=y\nz")
		set(map[string]string{"B": "canary-2"}, "NEVER") // nothing changes
		equal(f, "version", f.app("shop").ConfigVersion, 2)
		set(nil, "B", "C")
		equal(f, "emptied", f.env("shop"), "")
		text := fmt.Sprint(must(f.s.Events(ctx, "", 0, 0))(f))
		equal(f, "values in events", strings.Contains(text, "canary"), false)
		equal(f, "names in events", strings.Contains(text, "set B; removed A"), true)
	}},
	{"SetEnv refuses names and values that no process can have", func(f *fixture) {
		must(f.s.CreateApp(f.t.Context(), paas.App{Name: "shop"}, "ann"))(f)
		big := map[string]string{}
		for i := range 10 {
			big[fmt.Sprint("BIG", i)] = strings.Repeat("x", 60<<10)
		}
		for _, set := range []map[string]string{
			{"": "x"}, {"1A": "x"}, {"A-B": "x"}, {"A=B": "x"}, {strings.Repeat("A", 129): "x"},
			{"A": "x\x00"}, {"A": strings.Repeat("x", 64<<10+1)}, big,
		} {
			_, err := f.s.SetEnv(f.t.Context(), "shop", set, nil, "ann")
			f.code(err, paas.CodeInvalid)
		}
		equal(f, "env", f.env("shop"), "")
	}},
	{"SetEnv of a live app rolls the same image as a new release", func(f *fixture) {
		live := f.done("shop", "v1")
		d := must(f.s.SetEnv(f.t.Context(), "shop", map[string]string{"A": "1"}, nil, "bob"))(f)
		equal(f, "deployment", fmt.Sprint(d.Kind, d.State, d.Release, d.Previous, d.By), fmt.Sprint(paas.KindEnv, paas.DeploymentRolling, 2, live.ID, "bob"))
		old := must(f.s.Release(f.t.Context(), "shop", 1))(f)
		r := must(f.s.Release(f.t.Context(), "shop", 2))(f)
		equal(f, "image", r.ImageDigest+r.ImageRef, old.ImageDigest+old.ImageRef)
		equal(f, "reason", r.Reason, "env")
		equal(f, "config", fmt.Sprint(old.ConfigVersion, r.ConfigVersion), "0 1")
		nothing := must(f.s.SetEnv(f.t.Context(), "shop", map[string]string{"A": "1"}, nil, "bob"))(f)
		equal(f, "nothing changed", nothing, nil)
	}},
	{"SetEnv while a newer release rolls keeps that release", func(f *fixture) {
		f.done("shop", "v1")
		rolling := f.roll("shop", "v2")
		d := must(f.s.SetEnv(f.t.Context(), "shop", map[string]string{"A": "1"}, nil, "ann"))(f)
		f.state(rolling.ID, paas.DeploymentSuperseded)
		r := must(f.s.Release(f.t.Context(), "shop", d.Release))(f)
		equal(f, "source", r.ArchiveDigest, archive("v2").Digest)
	}},
	{"SetEnv and restart lose no upload whose build runs", func(f *fixture) {
		f.done("shop", "v1")
		pending := f.accept("shop", "v2")
		b := f.claim()
		env := must(f.s.SetEnv(f.t.Context(), "shop", map[string]string{"A": "1"}, nil, "ann"))(f)
		f.move(env.ID, paas.DeploymentRolling, paas.DeploymentLive)
		r := f.finish(b)
		equal(f, "upload", f.deployment(pending.ID).State, paas.DeploymentRolling)
		equal(f, "previous", f.deployment(pending.ID).Previous, env.ID)
		f.state(env.ID, paas.DeploymentSucceeded)
		equal(f, "has the new environment", r.ConfigVersion, f.app("shop").ConfigVersion)
		equal(f, "active", f.work("shop").Active.ID, pending.ID)
	}},
	{"SetEnv of a stopped app takes effect without rolling", func(f *fixture) {
		f.done("shop", "v1")
		f.update("shop", func(a *paas.App) { a.Stopped = true })
		d := must(f.s.SetEnv(f.t.Context(), "shop", map[string]string{"A": "1"}, nil, "ann"))(f)
		f.state(d.ID, paas.DeploymentSucceeded)
		w := f.work("shop")
		equal(f, "still stopped", w.App.Stopped, true)
		equal(f, "live", w.Live.ID, d.ID)
		equal(f, "its environment", flat(w.Env[w.LiveRelease.ConfigVersion]), "A=1")
	}},
	{"SetEnv 20 times at one instant keeps every variable", func(f *fixture) {
		must(f.s.CreateApp(f.t.Context(), paas.App{Name: "shop"}, "ann"))(f)
		stores := []paas.Store{f.s, f.another()}
		together(20, func(i int) {
			if _, err := stores[i%2].SetEnv(f.t.Context(), "shop", map[string]string{fmt.Sprint("V", i): "x"}, nil, "ann"); err != nil {
				f.t.Error(err)
			}
		})
		equal(f, "variables", len(must(f.s.Env(f.t.Context(), "shop"))(f)), 20)
	}},
}
