package api_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/slipway-paas/slipway/api"
	"github.com/slipway-paas/slipway/api/apitest"
	"github.com/slipway-paas/slipway/api/client"
	"github.com/slipway-paas/slipway/api/v1"
	"github.com/slipway-paas/slipway/internal/paas"
)

func TestPublic_RoutesNeedNoToken(t *testing.T) {
	p := newPlatform(t)
	for path, part := range map[string]string{"/": "slipway deploy", "/healthz": `"ok"`, "/openapi.yaml": "openapi: 3", "/metrics": "slipway_api_requests_total"} {
		a := ask(t, p, "GET", path, "", "Authorization", "")
		if a.status != 200 || !strings.Contains(string(a.body), part) {
			t.Errorf("GET %s: status %d, want 200 with %q", path, a.status, part)
		}
		for _, h := range []string{"X-Request-Id", "X-Content-Type-Options", "Content-Security-Policy", "Referrer-Policy", "X-Frame-Options"} {
			if a.header.Get(h) == "" {
				t.Errorf("GET %s has no header %s", path, h)
			}
		}
	}
	want(t, ask(t, p, "GET", "/metrics", "", "Authorization", "", "X-Forwarded-For", "192.0.2.1"), 401, paas.CodeUnauthorized)
}

func TestAuth_BadTokens(t *testing.T) {
	p := newPlatform(t)
	stranger, _ := api.NewToken()
	broken := p.Token[:len(p.Token)-1] + "!"
	for name, header := range map[string]string{"none": "", "empty": "Bearer ", "basic": "Basic " + p.Token, "unknown": "Bearer " + stranger,
		"checksum": "Bearer " + broken, "rubbish": "Bearer ' OR 1=1 --", "long": "Bearer " + strings.Repeat("a", 10_000)} {
		e := want(t, ask(t, p, "GET", "/v1/apps", "", "Authorization", header), 401, paas.CodeUnauthorized)
		if !strings.Contains(e.Hint, "slipway login") {
			t.Errorf("%s: hint %q does not say slipway login", name, e.Hint)
		}
	}
	for _, path := range []string{"/v1/apps?token=" + p.Token, "/v1/apps?access_token=" + p.Token} {
		want(t, ask(t, p, "GET", path, "", "Authorization", ""), 401, paas.CodeUnauthorized)
	}
	if strings.Contains(p.LogText.String(), p.Token) {
		t.Error("the token is in the log")
	}
}

func TestAuth_EveryRouteOfUsersNeedsAToken(t *testing.T) {
	p := newPlatform(t)
	for path, item := range spec.Paths.Map() {
		for method := range item.Operations() {
			if !strings.HasPrefix(path, "/v1/") {
				continue
			}
			url := strings.NewReplacer("{app}", "shop", "{id}", "1", "{number}", "1", "{instance}", "web.1").Replace(path)
			want(t, ask(t, p, method, url, "", "Authorization", ""), 401, paas.CodeUnauthorized)
			if method != "GET" {
				want(t, ask(t, p, method, url, "", "Sec-Fetch-Site", "cross-site"), 403, paas.CodeForbidden)
			}
		}
	}
}

func TestUnknown_PathAndMethod(t *testing.T) {
	p := newPlatform(t)
	want(t, ask(t, p, "GET", "/v2/apps", ""), 404, paas.CodeNotFound)
	want(t, ask(t, p, "PUT", "/v1/apps", ""), 405, paas.CodeInvalid)
	want(t, ask(t, p, "GET", "/v1/apps/shop", ""), 404, paas.CodeNotFound)
	for _, path := range []string{"", "/env", "/deployments", "/deployments/1", "/deployments/1/events", "/builds", "/builds/1", "/builds/1/log",
		"/releases", "/releases/1", "/instances", "/logs", "/events", "/instances/web.1/exec?arg=ls"} {
		want(t, ask(t, p, "GET", "/v1/apps/nobody"+path, ""), 404, paas.CodeNotFound)
	}
}

func TestApps_LifeOfOne(t *testing.T) {
	p := newPlatform(t)
	a := ask(t, p, "POST", "/v1/apps", `{"name":"shop","instances":2,"memoryMiB":256}`)
	want(t, a, 201, "")
	if a.header.Get("Location") != "/v1/apps/shop" {
		t.Errorf("Location %q", a.header.Get("Location"))
	}
	var app v1.App
	if err := json.Unmarshal(a.body, &app); err != nil || app.State != "empty" || app.Instances != 2 || app.URLs[0] != "http://shop.localhost:8080" {
		t.Fatalf("app %+v, %v", app, err)
	}
	want(t, ask(t, p, "POST", "/v1/apps", `{"name":"shop"}`), 409, paas.CodeConflict)
	want(t, ask(t, p, "PATCH", "/v1/apps/shop", `{"instances":3}`), 200, "")
	want(t, ask(t, p, "PATCH", "/v1/apps/shop", `{"instances":3}`), 200, "")
	want(t, ask(t, p, "POST", "/v1/apps/shop/restart", ""), 409, paas.CodeConflict) // nothing is live
	want(t, ask(t, p, "POST", "/v1/apps/shop/rollback", ""), 409, paas.CodeConflict)
	want(t, ask(t, p, "POST", "/v1/apps/shop/stop", ""), 200, "")
	want(t, ask(t, p, "POST", "/v1/apps/shop/stop", "{}"), 200, "")
	app, err := p.Client.App(t.Context(), "shop")
	if err != nil || !app.Stopped || app.State != "stopped" || app.Instances != 3 {
		t.Fatalf("app %+v, %v", app, err)
	}
	want(t, ask(t, p, "POST", "/v1/apps/shop/start", ""), 200, "")
	events, err := p.Client.Events(t.Context(), "shop", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, e := range events.Events {
		kinds = append(kinds, e.Kind)
	}
	if got := strings.Join(kinds, " "); got != "app.created app.scaled app.stopped app.started" {
		t.Errorf("events %q: each change once, repetitions none", got)
	}
	want(t, ask(t, p, "DELETE", "/v1/apps/shop", ""), 202, "")
	want(t, ask(t, p, "DELETE", "/v1/apps/shop", ""), 202, "")
	want(t, ask(t, p, "PATCH", "/v1/apps/shop", `{"instances":1}`), 409, paas.CodeConflict)
	want(t, ask(t, p, "POST", "/v1/apps/shop/deployments", "PK", "Content-Type", "application/zip"), 409, paas.CodeConflict)
	if _, err := p.Store.RemoveApp(t.Context(), app.ID); err != nil {
		t.Fatal(err)
	}
	if err := p.Client.WaitGone(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
}

func TestDeploy_ToLiveAndBack(t *testing.T) {
	p := newPlatform(t)
	ctx := t.Context()
	one := p.Deploy(t, "shop", "PK one")
	two := p.Deploy(t, "shop", "PK two")
	list, err := p.Client.Releases(ctx, "shop", 0)
	if err != nil || len(list) != 2 || list[0].Number != two.Number || !list[0].Live || list[1].Live {
		t.Fatalf("releases %+v, %v", list, err)
	}
	if r, err := p.Client.Release(ctx, "shop", one.Number); err != nil || r.Number != 1 || r.Health.StartupSeconds != 30 {
		t.Fatalf("release %+v, %v", r, err)
	}
	want(t, ask(t, p, "GET", "/v1/apps/shop/releases", ""), 200, "")
	want(t, ask(t, p, "GET", "/v1/apps/shop/releases/9", ""), 404, paas.CodeNotFound)
	want(t, ask(t, p, "POST", "/v1/apps/shop/rollback", `{"release":9}`), 404, paas.CodeNotFound)

	d, err := p.Client.Rollback(ctx, "shop", 0)
	if err != nil || d.Kind != "rollback" || d.Release != 1 || d.State != "rolling" {
		t.Fatalf("rollback %+v, %v", d, err)
	}
	p.Succeed(t, d.ID)
	if d, err = p.Client.Restart(ctx, "shop"); err != nil || d.Release != 1 {
		t.Fatalf("restart %+v, %v", d, err)
	}
	want(t, ask(t, p, "POST", fmt.Sprintf("/v1/apps/shop/deployments/%d/cancel", d.ID), ""), 202, "")
	want(t, ask(t, p, "POST", fmt.Sprintf("/v1/apps/shop/deployments/%d/cancel", d.ID), ""), 409, paas.CodeConflict)
	builds, err := p.Client.Builds(ctx, "shop", 1)
	if err != nil || len(builds) != 1 || builds[0].Result == nil || builds[0].Result.Plan != nil {
		t.Fatalf("builds %+v, %v", builds, err)
	}
	path := fmt.Sprintf("/v1/apps/shop/builds/%d", builds[0].ID)
	want(t, ask(t, p, "GET", path, ""), 200, "")
	if a := ask(t, p, "GET", path+"/log", ""); !strings.Contains(string(a.body), "build: installed 3 packages\n") {
		t.Errorf("log %q", a.body)
	}
	want(t, ask(t, p, "GET", "/v1/apps/shop/deployments", ""), 200, "")
	want(t, ask(t, p, "GET", "/v1/apps/shop/deployments/1", ""), 200, "")
	p.Deploy(t, "other", "PK three")
	want(t, ask(t, p, "GET", "/v1/apps/other/deployments/1", ""), 404, paas.CodeNotFound) // another app's
	want(t, ask(t, p, "GET", "/v1/apps/other/builds/1", ""), 404, paas.CodeNotFound)
}

func TestApp_StateFollowsWhatIsObserved(t *testing.T) {
	p := newPlatform(t)
	p.Deploy(t, "shop", "PK")
	app, err := p.Client.App(t.Context(), "shop")
	if err != nil || app.State != "down" || app.LiveRelease != 1 {
		t.Fatalf("app %+v, %v", app, err)
	}
	i := paas.Instance{ID: "shop-1-1-0", AppID: app.ID, AppName: "shop", Slot: 1, State: paas.InstanceStarting, SeenAt: time.Now()}
	for state, word := range map[paas.InstanceState]string{paas.InstanceStarting: "starting", paas.InstanceHealthy: "running", paas.InstanceBackoff: "down"} {
		i.State = state
		p.Runtime.Set(nil, i)
		if app, err = p.Client.App(t.Context(), "shop"); err != nil || app.State != word {
			t.Errorf("%s: state %q, want %q, %v", state, app.State, word, err)
		}
	}
	i.State, i.ExitedAt, i.ExitCode = paas.InstanceExited, time.Now(), 1
	p.Runtime.Set(nil, i)
	want(t, ask(t, p, "GET", "/v1/apps/shop/instances", ""), 200, "")
	p.Runtime.Set(paas.Errorf(paas.CodeUnavailable, "containerd has not answered yet"))
	if app, err = p.Client.App(t.Context(), "shop"); err != nil || app.State != "unknown" || app.Observed.Unknown == "" {
		t.Errorf("app %+v, %v", app, err)
	}
	want(t, ask(t, p, "GET", "/v1/apps", ""), 200, "")
	want(t, ask(t, p, "GET", "/v1/apps/shop/instances", ""), 503, paas.CodeUnavailable)
}

func TestEnv_ValuesAreHiddenUnlessAskedFor(t *testing.T) {
	p := newPlatform(t)
	ctx := t.Context()
	p.Deploy(t, "shop", "PK")
	d, err := p.Client.ChangeEnv(ctx, "shop", v1.ChangeEnv{Set: map[string]string{"SECRET": "hunter2", "EMPTY": ""}})
	if err != nil || d == nil || d.Kind != "env" {
		t.Fatalf("deployment %+v, %v", d, err)
	}
	a := ask(t, p, "GET", "/v1/apps/shop/env", "")
	if want(t, a, 200, ""); strings.Contains(string(a.body), "hunter2") {
		t.Error("the value is shown unasked")
	}
	env, err := p.Client.Env(ctx, "shop", true)
	if err != nil || len(env.Variables) != 2 || *env.Variables[1].Value != "hunter2" || *env.Variables[0].Value != "" {
		t.Fatalf("env %+v, %v", env, err)
	}
	events, err := p.Client.Events(ctx, "shop", 0, 100)
	if err != nil || events.Events[len(events.Events)-1].Kind != "env.revealed" {
		t.Errorf("no event tells that values were shown: %+v, %v", events, err)
	}
	if d, err := p.Client.ChangeEnv(ctx, "shop", v1.ChangeEnv{Unset: []string{"NOT_THERE"}}); err != nil || d != nil {
		t.Errorf("nothing changed, but deployment %+v, %v", d, err)
	}
	if strings.Contains(p.LogText.String(), "hunter2") {
		t.Error("the value is in the log")
	}
}

func TestStatus_ShowsTheWholeInstallation(t *testing.T) {
	p := newPlatform(t)
	if _, err := p.Client.Deploy(t.Context(), client.DeployRequest{App: "shop", Create: true, Open: apitest.Content("PK")}); err != nil {
		t.Fatal(err)
	}
	want(t, ask(t, p, "GET", "/v1/status", ""), 200, "")
	st, err := p.Client.Status(t.Context())
	if err != nil || !st.Ready || st.Apps != 1 || st.Builds.Queued != 1 || st.Routers[0].InFlight != 3 || st.Disk.TotalBytes == 0 || st.Components[0].Name != "containerd" {
		t.Errorf("status %+v, %v", st, err)
	}
	want(t, ask(t, p, "GET", "/v1/version", ""), 200, "")
	want(t, ask(t, p, "GET", "/v1/events", ""), 200, "")
	if w, err := p.Client.Whoami(t.Context()); err != nil || w.User != "admin" || w.TokenLabel != "test" {
		t.Errorf("whoami %+v, %v", w, err)
	}
}

func TestInternal_TextStaysInTheLog(t *testing.T) {
	p := newPlatform(t)
	p.Blobs.FailPuts(fmt.Errorf("secret path /srv/x"))
	a := ask(t, p, "POST", "/v1/apps/shop/deployments?create=true", "PK", "Content-Type", "application/zip")
	e := want(t, a, 500, paas.CodeInternal)
	if strings.Contains(string(a.body), "secret path") {
		t.Errorf("the cause is told: %s", a.body)
	}
	if log := p.LogText.String(); !strings.Contains(log, "secret path") || !strings.Contains(log, e.RequestID) {
		t.Error("the log has no cause with the request ID")
	}
	p.Blobs.FailPuts(paas.Errorf(paas.CodeStorageFull, "the disk is full"))
	want(t, ask(t, p, "POST", "/v1/apps/shop/deployments?create=true", "PK", "Content-Type", "application/zip"), 507, paas.CodeStorageFull)
	p.Blobs.FailPuts(paas.Errorf(paas.CodeUnavailable, "the object store does not answer"))
	a = ask(t, p, "POST", "/v1/apps/shop/deployments?create=true", "PK", "Content-Type", "application/zip")
	if want(t, a, 503, paas.CodeUnavailable); a.header.Get("Retry-After") == "" {
		t.Error("503 without Retry-After")
	}
	if _, err := p.Client.App(t.Context(), "shop"); paas.CodeOf(err) != paas.CodeNotFound {
		t.Errorf("a refused upload made the app: %v", err)
	}
}
