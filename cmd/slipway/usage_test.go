package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/slipway-paas/slipway/internal/paas"
)

func TestUsage_WrongCommandLines_ExitWith2(t *testing.T) {
	alone(t)
	for _, c := range []struct {
		line string
		says string
	}{
		{"depoy", "did you mean deploy"},
		{"nonsense", "there are admin, apps"},
		{"depoy --async", "did you mean deploy"},
		{"env", "needs a verb: list, set, unset"},
		{"env sett A=1", "did you mean set"},
		{"env sett A=1 --async", "did you mean set"},
		{"admin", "needs a verb: token"},
		{"help nonsense", `no verb "nonsense"`},
		{"completion cobol", `no verb "cobol"`},
		{"apps extra", "slipway apps"},
		{"ps shop", "slipway ps -a shop"},
		{"apps --bogus", "unknown flag: --bogus"},
		{"apps -Z", "unknown shorthand flag"},
		{"logs --tail x -a shop", "invalid argument"},
		{"logs --tail -1 -a shop", "--tail is -1"},
		{"logs --since never -a shop", "invalid argument"},
		{"create", "accepts 1 arg(s), received 0"},
		{"create a b", "accepts 1 arg(s), received 2"},
		{"scale -a shop", "accepts 1 arg(s)"},
		{"scale web -a shop", "is not like web=3"},
		{"scale web=x -a shop", "is not like web=3"},
		{"scale cron=1 -a shop", "is not like web=3"},
		{"rollback zero -a shop", "is not a release number"},
		{"rollback 0 -a shop", "is not a release number"},
		{"rollback 1 2 -a shop", "accepts at most 1 arg(s)"},
		{"cancel x -a shop", "is not the number of a deployment"},
		{"exec -a shop", "requires at least 1 arg(s)"},
		{"env set A -a shop", "is not like NAME=VALUE"},
		{"destroy a -a b", "which app"},
		{"login", "which server"},
		{"login ftp://x --token t", "is not a URL"},
		{"apps --server nowhere", "is not a URL"},
		{"login http://127.0.0.1:1 --token-file /nonexistent", "read token"},
		{"server --routers many", "invalid argument"},
		{"server --routers 17", "expected 0 to 16"},
		{"server --config /nonexistent", "read config"},
		{"plan a b", "accepts at most 1 arg(s)"},
	} {
		r := cli(t, "", strings.Fields(c.line)...)
		if r.code != exitUsage || !strings.Contains(r.err, c.says) || r.out != "" {
			t.Errorf("slipway %s: exit code %d, printed %q and %q; want 2 with %q", c.line, r.code, r.out, r.err, c.says)
		}
		if !strings.HasPrefix(r.err, "Error: ") || !strings.Contains(r.err, "\n  Next: ") {
			t.Errorf("slipway %s: no next step in %q", c.line, r.err)
		}
	}
}

func TestUsage_NoNameForTheApp_SaysWhatToGive(t *testing.T) {
	alone(t)
	t.Chdir(folder(t, "2024", map[string]string{"a": ""}))
	for _, verb := range []string{"ps", "deploy", "info", "restart"} {
		r := cli(t, "", verb)
		if r.code != exitUsage || !strings.Contains(r.err, "--app NAME") {
			t.Errorf("%s: exit code %d, printed %q", verb, r.code, r.err)
		}
	}
}

func TestUsage_JSON_IsAnErrorDocument(t *testing.T) {
	alone(t)
	for _, line := range []string{"depoy --json", "apps --bogus --json", "--json create"} {
		r := cli(t, "", strings.Fields(line)...)
		doc := decode[map[string]map[string]string](t, r.err)
		if r.code != exitUsage || doc["error"]["code"] != "usage" || doc["error"]["message"] == "" || doc["error"]["hint"] == "" {
			t.Errorf("slipway %s: exit code %d, %q", line, r.code, r.err)
		}
	}
}

func TestExitCode_SaysWhoseFaultItIs(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{paas.Errorf(paas.CodeInvalid, "x"), exitUser},
		{paas.Errorf(paas.CodeNotFound, "x"), exitUser},
		{paas.Errorf(paas.CodeConflict, "x"), exitUser},
		{paas.Errorf(paas.CodeUnauthorized, "x"), exitUser},
		{paas.Errorf(paas.CodeForbidden, "x"), exitUser},
		{paas.Errorf(paas.CodeTooLarge, "x"), exitUser},
		{fmt.Errorf("wrapped: %w", paas.Errorf(paas.CodeInvalid, "x")), exitUser},
		{usageError{errors.New("x")}, exitUsage},
		{usageError{paas.Errorf(paas.CodeInvalid, "x")}, exitUsage},
		{paas.Errorf(paas.CodeUnavailable, "x"), exitPlatform},
		{paas.Errorf(paas.CodeInternal, "x"), exitPlatform},
		{paas.Errorf(paas.CodeStorageFull, "x"), exitPlatform},
		{errors.New("anything else"), exitPlatform},
		{exitError{0}, 0},
		{exitError{42}, 42},
		{fmt.Errorf("wrapped: %w", exitError{137}), 137},
		{errInterrupted, exitInterrupted},
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("exit code of %v is %d, want %d", c.err, got, c.want)
		}
	}
}

func TestRun_Interrupted_ExitsAsShellsSayIt(t *testing.T) {
	newServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, errOut strings.Builder
	if code := runWith(ctx, []string{"apps"}, strings.NewReader(""), &out, &errOut); code != exitInterrupted || errOut.String() != "Error: interrupted\n" {
		t.Errorf("exit code %d, printed %q", code, errOut.String())
	}
}

// each calls f for every verb that people see.
func each(cmd *cobra.Command, f func(*cobra.Command)) {
	if !cmd.IsAvailableCommand() && cmd.HasParent() || cmd.Name() == "completion" || cmd.Name() == "help" {
		return
	}
	f(cmd)
	for _, c := range cmd.Commands() {
		each(c, f)
	}
}

func TestHelp_EveryVerb_IsGolden(t *testing.T) {
	alone(t)
	each(newRoot(), func(cmd *cobra.Command) {
		args := append(strings.Fields(cmd.CommandPath())[1:], "--help")
		r := cli(t, "", args...)
		if r.code != exitOK || r.err != "" {
			t.Fatalf("slipway %v: exit code %d, printed %q", args, r.code, r.err)
		}
		name := "help-" + strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".txt"
		golden(t, name, strings.ReplaceAll(r.out, defaultEngineDir(), "ENGINE"))
	})
}

func TestHelp_EveryVerb_SaysWhatItDoes(t *testing.T) {
	examples := map[string]bool{"deploy": true, "logs": true, "scale": true, "env": true, "exec": true, "rollback": true}
	each(newRoot(), func(cmd *cobra.Command) {
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") || len(cmd.Short) > 100 {
			t.Errorf("%s: Short is %q", cmd.CommandPath(), cmd.Short)
		}
		if cmd.HasParent() && !cmd.HasSubCommands() && cmd.Args == nil {
			t.Errorf("%s takes any number of arguments", cmd.CommandPath())
		}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if value, usage := pflag.UnquoteUsage(f); strings.Contains(value, " ") || usage == "" {
				t.Errorf("%s --%s: the help shows %q as its value, usage %q", cmd.CommandPath(), f.Name, value, usage)
			}
		})
		if examples[cmd.Name()] && cmd.Example == "" {
			t.Errorf("%s has no example", cmd.CommandPath())
		}
		for line := range strings.Lines(cmd.Example) {
			if !strings.Contains(line, "slipway "+strings.TrimPrefix(cmd.CommandPath(), "slipway ")) {
				t.Errorf("%s has the example %q", cmd.CommandPath(), line)
			}
		}
	})
}

func TestCompletion_EachShell_IsGenerated(t *testing.T) {
	alone(t)
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if r := cli(t, "", "completion", shell); r.code != exitOK || len(r.out) < 1000 {
			t.Errorf("completion %s: exit code %d, %d bytes, %s", shell, r.code, len(r.out), r.err)
		}
	}
}

func TestCompletion_OffersLiveApps(t *testing.T) {
	p := newServer(t)
	p.Deploy(t, "shop", "PK1")
	p.Deploy(t, "blog", "PK2")
	for _, line := range [][]string{{"logs", "--app", ""}, {"scale", "-a", ""}, {"destroy", ""}} {
		r := cli(t, "", append([]string{"__complete"}, line...)...)
		if !strings.HasPrefix(r.out, "blog\nshop\n:4\n") {
			t.Errorf("%v completes to %q", line, r.out)
		}
	}
	t.Setenv("SLIPWAY_TOKEN", "wrong")
	if r := cli(t, "", "__complete", "logs", "--app", ""); strings.Contains(r.out, "shop") || !strings.Contains(r.out, ":1\n") {
		t.Errorf("without a token it completes to %q", r.out)
	}
}
