package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipway-paas/slipway/api/apitest"
	v1 "github.com/slipway-paas/slipway/api/v1"
	"github.com/slipway-paas/slipway/internal/paas"
)

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
