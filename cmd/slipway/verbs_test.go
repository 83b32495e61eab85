package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slipway-paas/slipway/api/apitest"
	v1 "github.com/slipway-paas/slipway/api/v1"
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

func TestDeploy_Folder_FollowsUntilLive(t *testing.T) {
	p := newServer(t)
	dir := folder(t, "shop", map[string]string{"server.js": "1", "debug.log": "x", ".gitignore": "*.log\n"})
	for n, c := range []struct {
		flags []string
		want  func(r ran) bool
	}{
		{nil, func(r ran) bool {
			return strings.Contains(r.out, "packed 2 files") && strings.Contains(r.out, "left out: debug.log (.gitignore)") &&
				strings.Contains(r.out, "installed 3 packages") && strings.Contains(r.out, "shop v1 is live after") && strings.Contains(r.out, "http://shop.")
		}},
		{[]string{"--quiet"}, func(r ran) bool {
			return strings.HasPrefix(r.out, "http://shop.") && strings.Count(r.out, "\n") == 1
		}},
		{[]string{"--json", "-m", "third"}, func(r ran) bool {
			d := decode[v1.Deployment](t, r.out)
			return d.App == "shop" && d.Release == 3 && d.Message == "third" && len(d.URLs) > 0
		}},
	} {
		wait := beside(t, append([]string{"deploy", dir}, c.flags...)...)
		d := newest(t, p, "shop", n+1)
		p.Build(t, "installed 3 packages")
		p.Succeed(t, d.ID)
		if r := wait(); r.code != exitOK || !c.want(r) || r.err != "" {
			t.Errorf("%v: exit code %d, printed %q and %q", c.flags, r.code, r.out, r.err)
		}
	}
}

func TestDeploy_Async_ReturnsAtOnce(t *testing.T) {
	p := newServer(t)
	dir := folder(t, "shop", map[string]string{"server.js": "1"})
	if r := cli(t, "", "deploy", dir, "--async", "-q"); r.code != exitOK || r.out != "1\n" {
		t.Errorf("quiet: exit code %d, printed %q and %q", r.code, r.out, r.err)
	}
	if r := cli(t, "", "deploy", dir, "--async", "--json"); r.code != exitOK || decode[v1.Deployment](t, r.out).ID != 2 {
		t.Errorf("JSON: exit code %d, printed %q and %q", r.code, r.out, r.err)
	}
	r := cli(t, "", "deploy", dir, "--async")
	if r.code != exitOK || !strings.Contains(r.out, "deployment 3 of shop is pending") {
		t.Errorf("text: exit code %d, printed %q and %q", r.code, r.out, r.err)
	}
	if n := len(p.Blobs.Keys()); n != 1 {
		t.Errorf("an unchanged folder made %d objects", n)
	}
}

func TestDeploy_Fails_SaysWhyAndWhoseFaultItIs(t *testing.T) {
	p := newServer(t)
	dir := folder(t, "shop", map[string]string{"server.js": "1"})
	n := 0
	for _, c := range []struct {
		code string
		exit int
	}{{"exited", exitUser}, {"never_listened", exitUser}, {"not_started", exitPlatform}, {"image_missing", exitPlatform}} {
		for _, mode := range []string{"", "--json", "--quiet"} {
			n++
			args := []string{"deploy", dir}
			if mode != "" {
				args = append(args, mode)
			}
			wait := beside(t, args...)
			d := newest(t, p, "shop", n)
			p.Build(t)
			p.Move(t, d.ID, paas.DeploymentRolling, paas.DeploymentFailed, &paas.Failure{Code: c.code, Message: "web.1 is bad", Hint: "do this", Output: []string{"boom"}})
			r := wait()
			if r.code != c.exit || !strings.Contains(r.err, "web.1 is bad") {
				t.Errorf("%s %s: exit code %d, printed %q and %q", c.code, mode, r.code, r.out, r.err)
			}
			switch mode {
			case "":
				if !strings.Contains(r.err, "last output:\n  boom\n") || !strings.Contains(r.err, "Next: do this") {
					t.Errorf("%s: printed %q", c.code, r.err)
				}
			case "--json":
				if f := decode[v1.Deployment](t, r.out).Failure; f == nil || f.Code != c.code {
					t.Errorf("%s: printed %q", c.code, r.out)
				}
			case "--quiet":
				if r.out != "" {
					t.Errorf("%s: printed %q", c.code, r.out)
				}
			}
		}
	}
}

func TestDeploy_Canceled_And_Interrupted(t *testing.T) {
	p := newServer(t)
	dir := folder(t, "shop", map[string]string{"server.js": "1"})
	wait := beside(t, "deploy", dir)
	d := newest(t, p, "shop", 1)
	if r := cli(t, "", "cancel", fmt.Sprint(d.ID), "-a", "shop"); r.code != exitOK || !strings.Contains(r.out, "deployment 1 is canceled") {
		t.Errorf("cancel: exit code %d, printed %q and %q", r.code, r.out, r.err)
	}
	if r := wait(); r.code != exitUser || !strings.Contains(r.err, "cancel") {
		t.Errorf("canceled: exit code %d, printed %q", r.code, r.err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	var out, errOut apitest.Buffer
	ended := make(chan int, 1)
	go func() { ended <- runWith(ctx, []string{"deploy", dir}, strings.NewReader(""), &out, &errOut) }()
	soon(t, "it follows", func() bool { return strings.Contains(out.String(), "── queued") })
	cancel()
	if code := <-ended; code != exitInterrupted || !strings.Contains(errOut.String(), "deployment 2 goes on:  slipway deployments -a shop\nError: interrupted\n") {
		t.Errorf("interrupted: exit code %d, printed %q", code, errOut.String())
	}
}

func TestDeploy_CannotBeSent_IsTheUsersFault(t *testing.T) {
	newServer(t)
	t.Setenv("TMPDIR", t.TempDir())
	empty := t.TempDir()
	text := folder(t, "x", map[string]string{"a.zip": "not an archive", "m.json": "["})
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"/nonexistent"}, "cannot read /nonexistent"},
		{[]string{empty}, "has no file to deploy"},
		{[]string{filepath.Join(text, "a.zip")}, "are no archive"},
		{[]string{text, "--manifest", "/nonexistent"}, "cannot read --manifest"},
		{[]string{text, "--deployment", "/nonexistent"}, "cannot read --deployment"},
		{[]string{text, "--manifest", filepath.Join(text, "m.json")}, "manifest.json"},
	} {
		r := cli(t, "", append([]string{"deploy", "-a", "shop"}, c.args...)...)
		if r.code != exitUser || !strings.Contains(r.err, c.says) {
			t.Errorf("deploy %v: exit code %d, printed %q, want %q", c.args, r.code, r.err, c.says)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "slipway-*.zip")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

func TestPack_CanBeReadAgain_AndLeavesNothing(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	dir := folder(t, "shop", map[string]string{"server.js": "1"})
	s := &session{out: &output{stdout: io.Discard}}
	u, err := s.pack(dir)
	if err != nil {
		t.Fatal(err)
	}
	var bodies [2][]byte
	for i := range bodies {
		r, err := u.again()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, r, 1); err != nil { // a first try that breaks off
			t.Fatal(err)
		}
		r.Close()
		if r, err = u.again(); err != nil {
			t.Fatal(err)
		}
		if bodies[i], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
	if string(bodies[0]) != string(bodies[1]) || int64(len(bodies[0])) != u.size || len(u.sha256) != 64 || !strings.HasPrefix(string(bodies[0]), "PK") {
		t.Errorf("read %d and %d bytes of %d, digest %q", len(bodies[0]), len(bodies[1]), u.size, u.sha256)
	}
	u.Close()
	if err := u.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
	if _, err := s.pack(t.TempDir()); err == nil {
		t.Error("an empty folder was packed")
	}
	if left, _ := os.ReadDir(os.Getenv("TMPDIR")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
	file := filepath.Join(dir, "server.js")
	if u, err = s.pack(file); err != nil {
		t.Fatal(err)
	}
	u.Close()
	if _, err := os.Stat(file); err != nil {
		t.Errorf("the user's own archive is gone: %v", err)
	}
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
