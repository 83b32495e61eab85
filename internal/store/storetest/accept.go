package storetest

import (
	"strings"
	"sync"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

var acceptCases = []testCase{
	{"AcceptDeploy writes build and deployment together", func(f *fixture) {
		n := paas.NewDeploy{App: "shop", CreateApp: true, Archive: archive("v1"), Manifest: []byte(`{"m":1}`), Deployment: []byte(`{"d":1}`),
			Origin: paas.OriginCLI, Message: "first", By: "ann"}
		d, repeated, err := f.s.AcceptDeploy(f.t.Context(), n)
		f.ok(err)
		equal(f, "repeated", repeated, false)
		equal(f, "state", d.State, paas.DeploymentPending)
		equal(f, "kind", d.Kind, paas.KindDeploy)
		equal(f, "message", d.Message, "first")
		equal(f, "by", d.By, "ann")
		equal(f, "origin", d.Origin, paas.OriginCLI)
		equal(f, "stored", f.deployment(d.ID), d)
		b := f.build(d.BuildID)
		equal(f, "build state", b.State, paas.BuildQueued)
		equal(f, "manifest", string(b.Manifest), `{"m":1}`)
		equal(f, "deployment.json", string(b.Deployment), `{"d":1}`)
		equal(f, "archive", b.ArchiveDigest+b.ArchiveKey, n.Archive.Digest+n.Archive.Key)
		equal(f, "size", b.ArchiveSize, n.Archive.SizeBytes)
		equal(f, "app and org", b.AppName+b.Org+b.AppID, "shop"+paas.DefaultOrg+d.AppID)
		equal(f, "events", f.kinds("shop"), "app.created app.deploying")
	}},
	{"AcceptDeploy refuses unknown apps, long texts and archives that were not stored", func(f *fixture) {
		for _, c := range []struct {
			n    paas.NewDeploy
			want paas.Code
		}{
			{paas.NewDeploy{App: "shop", Archive: archive("v")}, paas.CodeNotFound},
			{paas.NewDeploy{App: "Shop", CreateApp: true, Archive: archive("v")}, paas.CodeInvalid},
			{paas.NewDeploy{App: "shop", CreateApp: true, Archive: archive("v"), Message: strings.Repeat("x", 501)}, paas.CodeInvalid},
			{paas.NewDeploy{App: "shop", CreateApp: true, Archive: archive("v"), IdempotencyKey: strings.Repeat("x", 256)}, paas.CodeInvalid},
			{paas.NewDeploy{App: "shop", CreateApp: true}, paas.CodeInternal},
		} {
			_, _, err := f.s.AcceptDeploy(f.t.Context(), c.n)
			f.code(err, c.want)
		}
		equal(f, "apps", len(must(f.s.Apps(f.t.Context()))(f)), 0)
	}},
	{"the same idempotency key 100 times at one instant makes one deployment", func(f *fixture) {
		stores := []paas.Store{f.s, f.another()}
		n := paas.NewDeploy{App: "shop", CreateApp: true, Archive: archive("v1"), IdempotencyKey: "key"}
		var mu sync.Mutex
		ids, fresh := map[int64]bool{}, 0
		together(100, func(i int) {
			d, repeated, err := stores[i%2].AcceptDeploy(f.t.Context(), n)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				f.t.Error(err)
			}
			if !repeated {
				fresh++
			}
			ids[d.ID] = true
		})
		equal(f, "different deployments", len(ids), 1)
		equal(f, "answers that were the first", fresh, 1)
		equal(f, "builds", len(must(f.s.Builds(f.t.Context(), "shop", 0))(f)), 1)
	}},
	{"an idempotency key is one for its archive and app, and lasts 24 hours", func(f *fixture) {
		ctx := f.t.Context()
		n := paas.NewDeploy{App: "shop", CreateApp: true, Archive: archive("v1"), IdempotencyKey: "key"}
		first, _, err := f.s.AcceptDeploy(ctx, n)
		f.ok(err)
		other := n
		other.Archive = archive("v2")
		_, _, err = f.s.AcceptDeploy(ctx, other)
		f.code(err, paas.CodeConflict)
		other = n
		other.App = "blog"
		_, _, err = f.s.AcceptDeploy(ctx, other)
		f.code(err, paas.CodeConflict)
		f.advance(24*time.Hour - time.Second)
		again, repeated, err := f.s.AcceptDeploy(ctx, n)
		f.ok(err)
		equal(f, "repeated", repeated, true)
		equal(f, "deployment", again, first)
		f.advance(time.Second)
		later, repeated, err := f.s.AcceptDeploy(ctx, n)
		f.ok(err)
		equal(f, "repeated after 24 h", repeated, false)
		equal(f, "new deployment is newer", later.ID > first.ID, true)
	}},
	{"deployments of all apps share one growing sequence", func(f *fixture) {
		var last int64
		for _, app := range []string{"a", "b", "a", "c", "b"} {
			d := f.accept(app, "v")
			equal(f, "ID grows", d.ID > last, true)
			last = d.ID
		}
		list := must(f.s.Deployments(f.t.Context(), "a", 1))(f)
		equal(f, "listed with limit 1", len(list), 1)
		equal(f, "newest first", list[0].ID, int64(3))
	}},
}
