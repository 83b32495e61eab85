package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slipway-paas/slipway/api/apitest"
	v1 "github.com/slipway-paas/slipway/api/v1"
	"github.com/slipway-paas/slipway/buildpacks/plan"
	"github.com/slipway-paas/slipway/buildpacks/source"
	"github.com/slipway-paas/slipway/internal/paas"
)

// soon waits until ok is true.
func soon(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

// beside runs a verb that waits while the test plays the platform.
func beside(t *testing.T, args ...string) (wait func() ran) {
	t.Helper()
	ended := make(chan ran, 1)
	go func() { ended <- cli(t, "", args...) }()
	return func() ran {
		t.Helper()
		select {
		case r := <-ended:
			return r
		case <-time.After(20 * time.Second):
			t.Fatalf("slipway %v does not end", args)
			return ran{}
		}
	}
}

// newest is an app's newest deployment, once there are n of them.
func newest(t *testing.T, p *apitest.Platform, app string, n int) (d v1.Deployment) {
	t.Helper()
	soon(t, fmt.Sprintf("%d deployments of %s", n, app), func() bool {
		list, err := p.Client.Deployments(t.Context(), app, 50)
		if err == nil && len(list) >= n {
			d = list[0]
		}
		return d.ID != 0
	})
	return d
}

func observe(t *testing.T, p *apitest.Platform, app string, healthy int) {
	t.Helper()
	a, err := p.Client.App(t.Context(), app)
	if err != nil {
		t.Fatal(err)
	}
	var list []paas.Instance
	for i := range healthy {
		list = append(list, paas.Instance{ID: fmt.Sprintf("%s-1-%d-0", app, i+1), AppID: a.ID, AppName: app, Slot: i + 1, Release: 1,
			State: paas.InstanceHealthy, StartedAt: time.Now(), SeenAt: time.Now()})
	}
	p.Runtime.Set(nil, list...)
}

func TestVerbs_OnALiveApp_PrintTextJSONAndQuiet(t *testing.T) {
	p := newServer(t)
	p.Deploy(t, "shop", "PK1")
	observe(t, p, "shop", 2)
	p.Logs.Add(paas.LogLine{At: time.Now(), Instance: "web.1", Slot: 1, Release: 1, Stream: "stdout", Text: "hello from shop"})
	if _, err := p.Client.ChangeEnv(t.Context(), "shop", v1.ChangeEnv{Set: map[string]string{"SECRET": "s3cret"}}); err != nil {
		t.Fatal(err)
	}
	p.Succeed(t, 2)
	for _, c := range []struct {
		line              string
		text, json, quiet string
	}{
		{"apps", "APP", `"apps": [`, "shop\n"},
		{"info -a shop", "instances  1 wanted; observed 2 healthy", `"name": "shop"`, "app        shop"},
		{"ps -a shop", "web.2", `"instances": [`, "web.1\nweb.2\n"},
		{"logs -a shop", "web.1 v1  hello from shop\n", `"text":"hello from shop"`, "hello from shop\n"},
		{"releases -a shop", "live", `"releases": [`, "v2\nv1\n"},
		{"deployments -a shop", "succeeded", `"deployments": [`, "2\n1\n"},
		{"env list -a shop", "SECRET  ***\n", `"name": "SECRET"`, "SECRET\n"},
		{"env list -a shop --reveal", "SECRET  s3cret\n", `"value": "s3cret"`, "SECRET\n"},
		{"events -a shop", "WHAT", `"events": [`, ""},
		{"open -a shop --print", "http://shop.", `"http://shop.`, "http://shop."},
		{"status", "containerd", `"components": [`, "containerd\n"},
		{"scale web=2 -a shop", "shop runs 2 of 2 instances\n", `"instances": 2`, ""},
		{"env unset NOTHING -a shop", "saved; nothing has to roll\n", "{}", ""},
		{"stop -a shop", "shop is stopped\n", `"stopped": true`, ""},
		{"start -a shop", "shop is started\n", `"stopped": false`, ""},
	} {
		for _, mode := range []struct{ flag, want string }{{"", c.text}, {"--json", c.json}, {"--quiet", c.quiet}} {
			args := strings.Fields(c.line + " " + mode.flag)
			r := cli(t, "", args...)
			if r.code != exitOK || !strings.Contains(r.out, mode.want) || r.err != "" {
				t.Errorf("slipway %v: exit code %d, printed %q and %q, want %q", args, r.code, r.out, r.err, mode.want)
			}
			if mode.flag == "--quiet" && strings.HasSuffix(mode.want, "\n") && r.out != mode.want {
				t.Errorf("slipway %v: printed %q, want %q alone", args, r.out, mode.want)
			}
			if mode.flag == "--json" {
				decode[any](t, r.out)
			}
			if strings.Contains(r.out, "s3cret") && !strings.Contains(c.line, "--reveal") {
				t.Errorf("slipway %v shows a value", args)
			}
		}
	}
	if q := p.Logs.Query.Tail; q != 200 {
		t.Errorf("logs asked for %d lines", q)
	}
}

func TestVerbs_NoSuchApp_IsTheUsersFault(t *testing.T) {
	newServer(t)
	for _, line := range []string{"info", "ps", "logs", "scale web=1", "releases", "rollback", "deployments", "cancel 1", "env list", "env set A=1",
		"env unset A", "restart", "stop", "start", "exec -- cat", "open --print", "events", "destroy --yes"} {
		args := append(strings.Fields(line)[:1:1], append([]string{"-a", "none"}, strings.Fields(line)[1:]...)...)
		if f := strings.Fields(line); f[0] == "env" {
			args = append(slices.Clone(f[:2]), append([]string{"-a", "none"}, f[2:]...)...)
		}
		r := cli(t, "", args...)
		if r.code != exitUser || !strings.HasPrefix(r.err, "Error: ") || !strings.Contains(r.err, "none") {
			t.Errorf("slipway %v: exit code %d, printed %q", args, r.code, r.err)
		}
		r = cli(t, "", append(slices.Clone(args[:1]), append([]string{"--json"}, args[1:]...)...)...)
		if doc := decode[map[string]map[string]string](t, r.err); doc["error"]["code"] != "not_found" {
			t.Errorf("slipway %v --json: printed %q", args, r.err)
		}
	}
}

func TestVerbs_NoServer_IsThePlatformsFault(t *testing.T) {
	p := newServer(t)
	p.HTTP.Close()
	if r := cli(t, "", "apps"); r.code != exitPlatform || !strings.Contains(r.err, "does not answer") || !strings.Contains(r.err, "refused") {
		t.Errorf("exit code %d, printed %q", r.code, r.err)
	}
}

func TestCreate_And_Apps(t *testing.T) {
	newServer(t)
	if r := cli(t, "", "apps"); r.out != "no apps yet; deploy one:  slipway deploy DIR\n" {
		t.Errorf("printed %q", r.out)
	}
	if r := cli(t, "", "apps", "--json"); decode[v1.Apps](t, r.out).Apps == nil {
		t.Errorf("printed %q", r.out)
	}
	if r := cli(t, "", "create", "mailer", "--type", "worker", "-q"); r.code != exitOK || r.out != "mailer\n" {
		t.Errorf("exit code %d, printed %q and %q", r.code, r.out, r.err)
	}
	for _, args := range [][]string{{"create", "mailer"}, {"create", "Bad"}, {"create", "x", "--type", "cron"}, {"open", "-a", "mailer"}} {
		if r := cli(t, "", args...); r.code != exitUser {
			t.Errorf("%v: exit code %d, printed %q", args, r.code, r.err)
		}
	}
	if r := cli(t, "", "scale", "web=2", "-a", "mailer"); r.code != exitUsage || !strings.Contains(r.err, "slipway scale worker=2 -a mailer") {
		t.Errorf("wrong type: exit code %d, printed %q", r.code, r.err)
	}
	for _, n := range []string{"-1", "65"} {
		if r := cli(t, "", "scale", "worker="+n, "-a", "mailer", "--async"); r.code != exitUser || !strings.Contains(r.err, "from 0 to 64, not "+n) {
			t.Errorf("%s instances: exit code %d, printed %q", n, r.code, r.err)
		}
	}
	if r := cli(t, "", "scale", "worker=3", "-a", "mailer"); r.code != exitOK || r.out != "mailer runs 0 of 3 instances\n" {
		t.Errorf("exit code %d, printed %q and %q", r.code, r.out, r.err)
	}
}

func TestScale_WaitsForTheInstances(t *testing.T) {
	p := newServer(t)
	p.Deploy(t, "shop", "PK1")
	observe(t, p, "shop", 1)
	wait := beside(t, "scale", "web=3", "-a", "shop")
	soon(t, "3 instances are wanted", func() bool {
		a, err := p.Client.App(t.Context(), "shop")
		return err == nil && a.Instances == 3
	})
	observe(t, p, "shop", 3)
	if r := wait(); r.code != exitOK || r.out != "shop runs 3 of 3 instances\n" {
		t.Errorf("exit code %d, printed %q and %q", r.code, r.out, r.err)
	}
}

func TestRollback_Restart_EnvSet_AreFollowed(t *testing.T) {
	p := newServer(t)
	p.Deploy(t, "shop", "PK1")
	p.Deploy(t, "shop", "PK2")
	n := 2
	for _, line := range []string{"rollback", "rollback 2", "rollback v1", "restart", "env set GREETING=a=b LOG_LEVEL=debug", "env unset GREETING"} {
		n++
		wait := beside(t, append(strings.Fields(line), "-a", "shop")...)
		p.Succeed(t, newest(t, p, "shop", n).ID)
		if r := wait(); r.code != exitOK || !strings.Contains(r.out, "is live after") {
			t.Errorf("%s: exit code %d, printed %q and %q", line, r.code, r.out, r.err)
		}
	}
	if r := cli(t, "", "env", "list", "-a", "shop", "--reveal"); !strings.Contains(r.out, "LOG_LEVEL  debug") || strings.Contains(r.out, "GREETING") {
		t.Errorf("the environment is %q", r.out)
	}
	for _, args := range [][]string{{"rollback", "99"}, {"env", "set", "=x"}, {"env", "set", "1A=x"}} {
		if r := cli(t, "", append(args, "-a", "shop")...); r.code != exitUser {
			t.Errorf("%v: exit code %d, printed %q", args, r.code, r.err)
		}
	}
}

func TestExec_StreamsAndExitCodes(t *testing.T) {
	p := newServer(t)
	p.Deploy(t, "shop", "PK1")
	observe(t, p, "shop", 1)
	if r := cli(t, "in\nout\n", "exec", "-a", "shop", "--", "cat"); r.code != exitOK || r.out != "in\nout\n" {
		t.Errorf("cat: exit code %d, printed %q and %q", r.code, r.out, r.err)
	}
	if r := cli(t, "", "exec", "-a", "shop", "--", "fail", "--json", "-a"); r.code != 3 || r.err != "no\n" {
		t.Errorf("fail: exit code %d, printed %q and %q", r.code, r.out, r.err)
	}
	if r := cli(t, "", "exec", "-a", "shop", "--instance", "web.9", "--", "cat"); r.code != exitUser || !strings.Contains(r.err, "web.9") {
		t.Errorf("no such instance: exit code %d, printed %q", r.code, r.err)
	}
	if r := cli(t, "", "exec", "-a", "shop", "-t", "--", "cat"); r.code != exitUsage || !strings.Contains(r.err, "needs a terminal") {
		t.Errorf("--tty: exit code %d, printed %q", r.code, r.err)
	}
}

func TestLogs_Follow_EndsWithCtrlC(t *testing.T) {
	p := newServer(t)
	p.Deploy(t, "shop", "PK1")
	ctx, cancel := context.WithCancel(t.Context())
	var out, errOut apitest.Buffer
	ended := make(chan int, 1)
	go func() {
		ended <- runWith(ctx, []string{"logs", "-f", "-q", "-a", "shop"}, strings.NewReader(""), &out, &errOut)
	}()
	p.Logs.Add(paas.LogLine{At: time.Now(), Instance: "web.1", Text: "first"})
	soon(t, "a line", func() bool { return out.String() == "first\n" })
	p.Logs.Add(paas.LogLine{At: time.Now(), Instance: "web.1", Text: "second"})
	soon(t, "the next line", func() bool { return out.String() == "first\nsecond\n" })
	cancel()
	if code := <-ended; code != exitOK || errOut.String() != "" {
		t.Errorf("exit code %d, printed %q", code, errOut.String())
	}
}

func TestDestroy_AsksFirst(t *testing.T) {
	p := newServer(t)
	if r := cli(t, "", "create", "shop", "-q"); r.code != exitOK {
		t.Fatal(r.err)
	}
	for _, answer := range []string{"", "\n", "y\n", "yes\n", "blog\n"} {
		if r := cli(t, answer, "destroy", "shop"); r.code != exitUsage || !strings.Contains(r.err, "not removed") {
			t.Errorf("%q: exit code %d, printed %q", answer, r.code, r.err)
		}
	}
	if _, err := p.Client.App(t.Context(), "shop"); err != nil {
		t.Fatalf("it is gone: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	silent, keep := io.Pipe()
	defer keep.Close()
	var errOut apitest.Buffer
	ended := make(chan int, 1)
	go func() { ended <- runWith(ctx, []string{"destroy", "shop"}, silent, io.Discard, &errOut) }()
	soon(t, "the question", func() bool { return strings.Contains(errOut.String(), "Type its name") })
	cancel()
	if code := <-ended; code != exitInterrupted {
		t.Errorf("Ctrl-C at the question: exit code %d", code)
	}
}

func TestPlan_Text_HasEachDecisionWithItsReason(t *testing.T) {
	var b strings.Builder
	p := &plan.Plan{}
	p.Decide("node", "24.21.0", "newest with long-term support")
	printPlan(&b, p)
	if !strings.HasPrefix(b.String(), "- node: 24.21.0 (newest with long-term support)\n\n{") {
		t.Errorf("printed %q", b.String())
	}
}

func TestPlan_Failure_IsTheUsersFaultWithAHint(t *testing.T) {
	var errOut strings.Builder
	o := &output{stderr: &errOut}
	failed := source.Failf(source.FailUnknown, "looked for package.json", "no language was recognised in the archive")
	failed.Failure.Output = []string{"readme.txt"}
	err := planError(o, fmt.Errorf("plan: %w", failed))
	if exitCode(err) != exitUser || told(err).Hint == "" || !strings.Contains(errOut.String(), "  readme.txt\n") {
		t.Errorf("exit code %d, hint %q, printed %q", exitCode(err), told(err).Hint, errOut.String())
	}
	if err := planError(o, io.ErrUnexpectedEOF); exitCode(err) != exitPlatform {
		t.Errorf("another error: exit code %d", exitCode(err))
	}
}
