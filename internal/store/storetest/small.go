package storetest

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

var smallCases = []testCase{
	{"Events come in order and go on after the last one seen", func(f *fixture) {
		ctx := f.t.Context()
		equal(f, "last ID at first", must(f.s.LastEventID(ctx))(f), int64(0))
		f.roll("shop", "v1")
		f.roll("blog", "v1")
		f.ok(f.s.AddEvent(ctx, paas.Event{AppID: f.app("shop").ID, AppName: "shop", Kind: "instance.crashed", Deployment: 1, Message: "exit code 1"}))
		f.ok(f.s.AddEvent(ctx, paas.Event{Kind: "server.started", Message: "up", By: "root"}))
		all := must(f.s.Events(ctx, "", 0, 0))(f)
		for i, e := range all[1:] {
			equal(f, "IDs grow", e.ID > all[i].ID, true)
		}
		equal(f, "last ID", must(f.s.LastEventID(ctx))(f), all[len(all)-1].ID)
		rest := must(f.s.Events(ctx, "", all[2].ID, 2))(f)
		equal(f, "page", fmt.Sprint(len(rest), rest[0].ID), fmt.Sprint(2, all[3].ID))
		own := must(f.s.Events(ctx, "shop", 0, 0))(f)
		last := own[len(own)-1]
		equal(f, "of one app", fmt.Sprint(last.Kind, last.At, last.By, last.Deployment, last.AppName), fmt.Sprint("instance.crashed", f.now(), "slipway", 1, "shop"))
	}},
	{"a reader that follows events misses none of 8 writers", func(f *fixture) {
		stores := []paas.Store{f.s, f.another()}
		const writers, each = 8, 15
		done := make(chan struct{})
		go func() {
			defer close(done)
			together(writers, func(i int) {
				for range each {
					if err := stores[i%2].AddEvent(f.t.Context(), paas.Event{Kind: "test.event"}); err != nil {
						f.t.Error(err)
					}
				}
			})
		}()
		var after int64
		seen := 0
		for ended := false; ; {
			page := must(f.s.Events(f.t.Context(), "", after, 7))(f)
			for _, e := range page {
				after = e.ID
				seen++
			}
			if len(page) == 0 && ended {
				break
			}
			select {
			case <-done:
				ended = true
			default:
			}
		}
		equal(f, "events seen", seen, writers*each)
	}},
	{"Changed is closed by a commit and not by a lease", func(f *fixture) {
		ctx := f.t.Context()
		closed := func(c <-chan struct{}) bool {
			select {
			case <-c:
				return true
			default:
				return false
			}
		}
		c := f.s.Changed()
		must(f.s.Leader(ctx, "reconcile", "a", time.Minute))(f)
		must(f.s.ClaimBuild(ctx, "w", time.Minute))(f)
		must(f.s.Work(ctx))(f)
		equal(f, "closed by nothing", closed(c), false)
		f.accept("shop", "v1")
		equal(f, "closed by a deploy", closed(c), true)
		c = f.s.Changed()
		equal(f, "the next one", closed(c), false)
		f.claim()
		equal(f, "closed by a claim", closed(c), true)
		c = f.s.Changed()
		_, err := f.s.CreateApp(ctx, paas.App{Name: "shop"}, "ann")
		f.code(err, paas.CodeConflict)
		equal(f, "closed by a refusal", closed(c), false)
	}},
	{"Leader has one holder at a time", func(f *fixture) {
		ctx := f.t.Context()
		lead := func(name, holder string) bool { return must(f.s.Leader(ctx, name, holder, time.Minute))(f) }
		equal(f, "a takes it", lead("reconcile", "a"), true)
		equal(f, "b", lead("reconcile", "b"), false)
		equal(f, "another lease", lead("sweep", "b"), true)
		f.advance(59 * time.Second)
		equal(f, "a renews", lead("reconcile", "a"), true)
		f.advance(59 * time.Second)
		equal(f, "b while renewed", lead("reconcile", "b"), false)
		f.advance(time.Second)
		equal(f, "b after the end", lead("reconcile", "b"), true)
		equal(f, "a lost it", lead("reconcile", "a"), false)
		stores := []paas.Store{f.s, f.another()}
		var mu sync.Mutex
		held := 0
		together(20, func(i int) {
			ok, err := stores[i%2].Leader(ctx, "new", fmt.Sprint(i), time.Minute)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				f.t.Error(err)
			}
			if ok {
				held++
			}
		})
		equal(f, "holders", held, 1)
	}},
	{"tokens are found by hash and touched by the minute", func(f *fixture) {
		ctx := f.t.Context()
		u := must(f.s.EnsureAdmin(ctx, "admin", "make run", "hash1"))(f)
		again := must(f.s.EnsureAdmin(ctx, "admin", "laptop", "hash2"))(f)
		equal(f, "same user", again, u)
		must(f.s.EnsureAdmin(ctx, "admin", "make run", "hash1"))(f)
		token := must(f.s.TokenByHash(ctx, "hash2"))(f)
		want := paas.Token{ID: token.ID, UserID: u.ID, UserName: "admin", Label: "laptop", Hash: "hash2", CreatedAt: f.now()}
		equal(f, "token", token, want)
		at := f.now().Add(30 * time.Second)
		f.ok(f.s.TouchToken(ctx, token.ID, at))
		f.ok(f.s.TouchToken(ctx, token.ID, at.Add(-time.Hour)))
		equal(f, "last used", must(f.s.TokenByHash(ctx, "hash2"))(f).LastUsedAt, at.Truncate(time.Minute))
		_, err := f.s.TokenByHash(ctx, "nope")
		f.code(err, paas.CodeNotFound)
		_, err = f.s.EnsureAdmin(ctx, "eve", "stolen", "hash1")
		f.code(err, paas.CodeConflict)
		_, err = f.s.EnsureAdmin(ctx, "", "x", "hash3")
		f.code(err, paas.CodeInvalid)
		f.ok(f.s.TouchToken(ctx, 999, at))
	}},
	{"Ping and Version answer, and Close can be called twice", func(f *fixture) {
		f.ok(f.s.Ping(f.t.Context()))
		v := must(f.s.Version(f.t.Context()))(f)
		name, number, _ := strings.Cut(v, " ")
		equal(f, "version "+v, (name == "SQLite" || name == "PostgreSQL") && strings.Contains(number, ".") && !strings.Contains(number, " "), true)
		f.ok(f.s.Close())
		f.ok(f.s.Close())
		equal(f, "ping after Close fails", f.s.Ping(f.t.Context()) != nil, true)
	}},
	{"another process sees what was committed", func(f *fixture) {
		other := f.another()
		d := f.accept("shop", "v1")
		got := must(other.Deployment(f.t.Context(), d.ID))(f)
		equal(f, "deployment", got, d)
	}},
}
