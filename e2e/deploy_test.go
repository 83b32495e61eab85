package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	slipway "github.com/slipway-paas/slipway/e2e/platform"
)

// The documents that the tests read, as api/openapi.yaml has them.
type (
	failure    struct{ Code, Message, Hint string }
	deployment struct {
		ID      int64
		State   string
		Release int
		Failure *failure
	}
	release struct {
		Number      int
		Live        bool
		ImageDigest string
	}
	instance struct {
		ID, Name, State, Addr string
		Release               int
	}
)

func (p *platform) releases(t testing.TB, app string) []release {
	t.Helper()
	var r struct{ Releases []release }
	p.mustJSON(t, &r, "releases", "-a", app)
	return r.Releases
}

func (p *platform) instances(t testing.TB, app string) []instance {
	t.Helper()
	var r struct{ Instances []instance }
	p.mustJSON(t, &r, "ps", "-a", app)
	return r.Instances
}

// watched waits until the newest deployment has succeeded.
func (p *platform) watched(t testing.TB, app string) {
	t.Helper()
	err := slipway.Until(20*time.Second, func() error {
		var d struct{ Deployments []deployment }
		p.mustJSON(t, &d, "deployments", "-a", app)
		if d.Deployments[0].State != "succeeded" {
			return fmt.Errorf("deployment %d is %s", d.Deployments[0].ID, d.Deployments[0].State)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestDeploy_ExpressFolderWithLockFile_Answers(t *testing.T) {
	app := shared.destroyed(t, "express")
	out := shared.must(t, "deploy", expressApp(t, "folder").dir(t), "--app", app)
	if want := fmt.Sprintf("http://%s.localhost:%d", app, shared.RouterPort); !strings.Contains(out, want) {
		t.Errorf("deploy did not print %s:\n%s", want, out)
	}
	shared.wantBody(t, app, "/", "folder on express-")
}

func TestDeploy_Zip_AnswersAndUsesTheSameDependencies(t *testing.T) {
	app := shared.destroyed(t, "zipped")
	shared.must(t, "deploy", expressApp(t, "zip").zipFile(t), "--app", app)
	shared.wantBody(t, app, "/", "zip on zipped-")
	for _, want := range []struct{ name, value string }{{"PORT", "8080"}, {"ORA_APP_NAME", app}, {"APP_HOME", "/u01/app"}, {"ORA_INSTANCE_NAME", "web.1"}} {
		shared.wantBody(t, app, "/env/"+want.name, want.value)
	}
}

func TestDeploy_ACCArchive_RunsWithoutAnInstall(t *testing.T) {
	app := shared.destroyed(t, "accuser")
	out := shared.must(t, "deploy", accApp("old friend").zipFile(t), "--app", app)
	shared.wantBody(t, app, "/", "vendored old friend on accuser-")
	if strings.Contains(out, "npm ci") {
		t.Errorf("a ready archive was installed again:\n%s", out)
	}
}

func TestScale_ThreeHostNamesAnswer(t *testing.T) {
	app := shared.destroyed(t, "scaled")
	shared.must(t, "deploy", answering("s").dir(t), "--app", app)
	shared.must(t, "scale", "web=3", "-a", app)
	hosts := map[string]bool{}
	err := slipway.Until(20*time.Second, func() error {
		_, body, err := shared.Get(app, "/")
		if err == nil {
			hosts[body] = true
		}
		if len(hosts) < 3 {
			return fmt.Errorf("%d host names answered: %v", len(hosts), hosts)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	shared.must(t, "scale", "web=1", "-a", app)
	err = slipway.Until(30*time.Second, func() error {
		if n := len(shared.instances(t, app)); n != 1 {
			return fmt.Errorf("%d instances after scaling down to 1", n)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestRedeploy_TwentyTimesUnderLoad_NoFailedRequest(t *testing.T) {
	app := shared.destroyed(t, "busy")
	dir := t.TempDir()
	answering("version 0").writeTo(t, dir)
	shared.must(t, "deploy", dir, "--app", app)
	shared.must(t, "scale", "web=2", "-a", app)
	l := shared.startLoad(t, app, 100, true)
	for i := 1; i <= 20; i++ {
		text := fmt.Sprintf("version %d", i)
		answering(text).writeTo(t, dir)
		shared.must(t, "deploy", dir, "--app", app)
		shared.wantBody(t, app, "/", text+" on ")
	}
	l.end()
	if failed := l.failures(); len(failed) > 0 {
		t.Errorf("%d of %d requests failed:\n%s", len(failed), l.total.Load(), strings.Join(failed, "\n"))
	}
	t.Logf("%d requests, 0 failed, over 20 deployments", l.total.Load())
}

func TestBadRelease_NeverTakesTraffic_AndSaysWhy(t *testing.T) {
	app := shared.destroyed(t, "careful")
	shared.must(t, "deploy", answering("good").dir(t), "--app", app)
	const quick = `"startupTime": "10"` // ACC's smallest
	manifest := func(f tree, more string) tree {
		f["manifest.json"] = `{"runtime": {"majorVersion": "22"}, "command": "node server.js", ` + more + `}`
		return f
	}
	for _, c := range []struct {
		name string
		app  tree
		want []string // parts of the sentence
	}{
		{"never opens the port", manifest(plainApp(`setInterval(() => {}, 1000)`), quick), []string{"8080", "10 s", "nothing listens"}},
		{"opens another port", manifest(plainApp(`require("http").createServer((q, r) => r.end("x")).listen(3000)`), quick), []string{"3000", "8080"}},
		{"listens on loopback only", manifest(plainApp(`require("http").createServer((q, r) => r.end("x")).listen(8080, "127.0.0.1")`), quick), []string{"127.0.0.1:8080", "0.0.0.0"}},
		{"exits at once", plainApp(`console.error("no database url"); process.exit(7)`), []string{"code 7"}},
		{"answers 500", manifest(plainApp(`require("http").createServer((q, r) => { r.statusCode = 500; r.end("x") }).listen(8080)`), quick), []string{"500", "10 s"}},
		{"declared health path is missing", manifest(plainApp(`require("http").createServer((q, r) => { r.statusCode = q.url === "/" ? 200 : 404; r.end("x") }).listen(8080)`), quick+`, "healthCheck": {"http-endpoint": "/health"}`), []string{"/health", "404"}},
		{"crashes after 10 s before it listens", plainApp(`setTimeout(() => { console.error("gave up"); process.exit(1) }, 10000)`), []string{"code 1", "10."}},
		{"runs out of memory", plainApp(`const a = []; for (;;) a.push(Buffer.alloc(1 << 20, 1))`), []string{"memory", "512 MiB"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := shared.startLoad(t, app, 40, false)
			r := shared.cli(t, "deploy", c.app.dir(t), "--app", app)
			l.end()
			if r.code != 1 {
				t.Errorf("exit code %d, want 1 (the user's error)\n%s%s", r.code, r.out, r.err)
			}
			for _, want := range c.want {
				if !strings.Contains(r.err, want) {
					t.Errorf("the reason does not say %q:\n%s", want, r.err)
				}
			}
			if failed := l.failures(); len(failed) > 0 {
				t.Errorf("%d requests did not get the good release:\n%s", len(failed), strings.Join(failed, "\n"))
			}
			shared.wantBody(t, app, "/", "good on ")
		})
	}
}

func TestBadRelease_CrashesWhileWatched_OldReleaseComesBackWithoutAFailure(t *testing.T) {
	app := shared.destroyed(t, "watched")
	shared.must(t, "deploy", answering("good").dir(t), "--app", app)
	bad := plainApp(`require("http").createServer((q, r) => r.end("bad")).listen(8080); setTimeout(() => process.exit(9), 1500)`)
	shared.cli(t, "deploy", bad.dir(t), "--app", app)
	err := slipway.Until(20*time.Second, func() error {
		var d struct{ Deployments []deployment }
		shared.mustJSON(t, &d, "deployments", "-a", app)
		f := d.Deployments[0].Failure
		if d.Deployments[0].State != "failed" || f == nil || !strings.Contains(f.Message, "code 9") {
			return fmt.Errorf("deployment is %+v (failure %+v), want failed with exit code 9", d.Deployments[0], f)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	shared.wantBody(t, app, "/", "good on ")
}

func TestRollback_GivesTheSameImageAndBuildsNothing(t *testing.T) {
	app := shared.destroyed(t, "back")
	shared.must(t, "deploy", answering("one").dir(t), "--app", app)
	shared.must(t, "deploy", answering("two").dir(t), "--app", app)
	shared.wantBody(t, app, "/", "two on ")
	before := shared.releases(t, app)
	shared.must(t, "rollback", "-a", app)
	shared.wantBody(t, app, "/", "one on ")
	after := shared.releases(t, app)
	if len(after) != len(before) {
		t.Errorf("rollback made a release: %d, before %d", len(after), len(before))
	}
	for i := range before {
		if after[i].ImageDigest != before[i].ImageDigest {
			t.Errorf("release %d changed its image: %s, before %s", before[i].Number, after[i].ImageDigest, before[i].ImageDigest)
		}
		if after[i].Live != (after[i].Number == 1) {
			t.Errorf("release %d: live = %t after the rollback to 1", after[i].Number, after[i].Live)
		}
	}
}

func TestEnv_ChangeRollsWithoutABuild(t *testing.T) {
	app := shared.destroyed(t, "configured")
	shared.must(t, "deploy", answering("e").dir(t), "--app", app)
	shared.must(t, "env", "set", "GREETING=hello there", "-a", app)
	shared.wantBody(t, app, "/env?GREETING", "hello there")
	if out := shared.must(t, "env", "list", "-a", app); !strings.Contains(out, "GREETING") || strings.Contains(out, "hello there") {
		t.Errorf("env list must name GREETING and hide its value:\n%s", out)
	}
	if out := shared.must(t, "env", "list", "--reveal", "-a", app); !strings.Contains(out, "hello there") {
		t.Errorf("env list --reveal must show the value:\n%s", out)
	}
	shared.must(t, "env", "unset", "GREETING", "-a", app)
	shared.wantBody(t, app, "/env?GREETING", "undefined")
}

func TestVerbs_OfADayWithAnApp(t *testing.T) {
	app := shared.destroyed(t, "daily")
	shared.must(t, "deploy", answering("d").dir(t), "--app", app)
	if out := shared.must(t, "apps"); !strings.Contains(out, app) {
		t.Errorf("apps does not list %s:\n%s", app, out)
	}
	if out := shared.must(t, "info", "-a", app); !strings.Contains(out, "release") {
		t.Errorf("info:\n%s", out)
	}
	if out := shared.must(t, "exec", "-a", app, "--", "sh", "-c", "echo from $ORA_INSTANCE_NAME as $(id -u)"); !strings.Contains(out, "from web.1 as ") || strings.Contains(out, "as 0\n") {
		t.Errorf("exec printed %q", out)
	}
	if r := shared.cli(t, "exec", "-a", app, "--", "sh", "-c", "exit 42"); r.code != 42 {
		t.Errorf("exec ended with %d, want the command's 42", r.code)
	}
	first := shared.instances(t, app)[0].ID
	shared.must(t, "restart", "-a", app)
	if now := shared.instances(t, app); now[len(now)-1].ID == first {
		t.Errorf("restart left %s in place", first)
	}
	shared.must(t, "stop", "-a", app)
	err := slipway.Until(20*time.Second, func() error {
		status, body, err := shared.Get(app, "/")
		if err == nil && (status != 503 || !strings.Contains(body, "stopped")) {
			err = fmt.Errorf("a stopped app answered %d %q", status, first)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	shared.must(t, "start", "-a", app)
	shared.wantBody(t, app, "/", "d on ")
	if out := shared.must(t, "open", "-a", app, "--print"); !strings.Contains(out, "http://daily.localhost") {
		t.Errorf("open --print: %s", out)
	}
	if out := shared.must(t, "status"); !strings.Contains(out, "containerd") || !strings.Contains(out, "ready") {
		t.Errorf("status:\n%s", out)
	}
}

func TestStatus_ShowsEveryComponentReadyWithItsVersion(t *testing.T) {
	have := shared.components(t)
	for name, version := range map[string]string{
		"server": "", "store": "SQLite 3.", "containerd": "2.3.7", "buildkitd": "0.33.1", "s3": "1.8.0", "router-1": "", "router-2": "",
	} {
		c, ok := have[name]
		if !ok || c.State != "ready" || !strings.Contains(c.Version, version) {
			t.Errorf("component %s is %+v, want ready with version %s", name, c, version)
		}
	}
}

func TestLogs_OutliveTheInstance(t *testing.T) {
	app := shared.destroyed(t, "talker")
	shared.must(t, "deploy", answering("t").dir(t), "--app", app)
	shared.wantBody(t, app, "/log?last%20words", "logged")
	shared.watched(t, app) // a crash before that would end the deployment, too
	if status, _, err := shared.Get(app, "/crash"); err != nil || status != 200 {
		t.Fatalf("crash: %d %v", status, err)
	}
	err := slipway.Until(20*time.Second, func() error {
		for _, i := range shared.instances(t, app) {
			if i.State == "healthy" && strings.HasSuffix(i.ID, "-1") { // its second attempt
				return nil
			}
		}
		return fmt.Errorf("the crashed instance was not restarted: %+v", shared.instances(t, app))
	})
	if err != nil {
		t.Fatal(err)
	}
	if out := shared.must(t, "logs", "-a", app); !strings.Contains(out, "last words") {
		t.Errorf("the log of the crashed instance is gone:\n%s", out)
	}
}

func TestLogs_FollowShowsNewLines(t *testing.T) {
	app := shared.destroyed(t, "follower")
	shared.must(t, "deploy", answering("f").dir(t), "--app", app)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := shared.Command(ctx, "logs", "-f", "-a", app)
	file := filepath.Join(t.TempDir(), "out")
	out, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout = out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); _ = cmd.Wait() }()
	err = slipway.Until(20*time.Second, func() error {
		if _, _, err := shared.Get(app, "/log?while%20following"); err != nil {
			return err
		}
		b, err := os.ReadFile(file)
		if err == nil && !strings.Contains(string(b), "while following") {
			err = fmt.Errorf("followed log is %q", b)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestServer_StopKillAndStart_AppsAndRouterKeepServing(t *testing.T) {
	app := shared.destroyed(t, "steady")
	shared.must(t, "deploy", answering("still").dir(t), "--app", app)
	l := shared.startLoad(t, app, 50, false)
	id := shared.instances(t, app)[0].ID
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		shared.SignalServer(sig)
		shared.wantBody(t, app, "/", "still on ")
		if err := shared.StartServer(); err != nil {
			t.Fatal(err)
		}
		if err := shared.WaitHealthy(30 * time.Second); err != nil {
			t.Fatal(err)
		}
	}
	l.end()
	if failed := l.failures(); len(failed) > 0 {
		t.Errorf("%d of %d requests failed:\n%s", len(failed), l.total.Load(), strings.Join(failed, "\n"))
	}
	err := slipway.Until(10*time.Second, func() error {
		r := shared.cli(t, "ps", "-a", app, "--json")
		var got struct{ Instances []instance }
		if err := json.Unmarshal([]byte(r.out), &got); err != nil {
			return fmt.Errorf("%w: %s %s", err, r.out, r.err)
		}
		if len(got.Instances) != 1 || got.Instances[0].ID != id {
			return fmt.Errorf("instances are %+v, want %s untouched", got.Instances, id)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestRouter_SaysWhyThereIsNoAnswer(t *testing.T) {
	status, body, err := shared.Get("nosuchapp", "/")
	if err != nil || status != http.StatusNotFound || !strings.Contains(body, "nosuchapp") {
		t.Errorf("an unknown host answered %d %q %v", status, body, err)
	}
}
