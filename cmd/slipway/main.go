// Command slipway is everything in one binary: `slipway server` (the control
// plane), `slipway router` (the data plane, a process of its own) and the CLI
// verbs, which are thin: parse, call api/client, print.
//
// It imports everything and nothing imports it. Start reading at newRoot for
// the verbs and at server.go for how the parts are joined.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/slipway-paas/slipway/internal/paas"
)

// Exit codes: a script can tell its user's mistake from our trouble.
const (
	exitOK       = 0
	exitUser     = 1 // the request, the archive or the app is wrong; a retry will not help
	exitUsage    = 2 // the command line is wrong
	exitPlatform = 3 // Slipway is unreachable or failed; a retry may help

	exitInterrupted = 130 // as shells say it for SIGINT
)

// version is set by the Makefile for releases.
var version = "0.1.0-dev"

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return runWith(ctx, args, os.Stdin, os.Stdout, os.Stderr)
}

func runWith(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd() // keeps the output that is set now
	strictUsage(root)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if _, _, wrong := root.Find(args); wrong != nil {
		err = usageError{wrongVerb(root, args)}
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = errInterrupted
	}
	o := newOutput(root)
	o.json = o.json || slices.Contains(args, "--json") // also when the flags were not read to their end
	return o.report(err)
}

// errInterrupted is the end by Ctrl-C or SIGTERM.
var errInterrupted = errors.New("interrupted")

// usageError marks a wrong command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// exitError carries the exit code of a remote command; it prints nothing.
type exitError struct{ code int }

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

func exitCode(err error) int {
	var usage usageError
	var exit exitError
	switch {
	case errors.As(err, &exit):
		return exit.code
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, errInterrupted):
		return exitInterrupted
	}
	switch paas.CodeOf(err) {
	case paas.CodeInternal, paas.CodeUnavailable, paas.CodeStorageFull:
		return exitPlatform
	}
	return exitUser
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "slipway",
		Short:         "From an archive to a running, load-balanced app",
		Long:          "Slipway turns a zip, tar.gz or folder of an app into a running, load-balanced, scaled app.",
		Version:       fullVersion(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.PersistentFlags().Bool("json", false, "print JSON instead of text")
	root.PersistentFlags().BoolP("quiet", "q", false, "print results only")
	root.AddGroup(
		&cobra.Group{ID: "apps", Title: "Apps:"},
		&cobra.Group{ID: "platform", Title: "Platform:"},
	)
	for _, c := range appVerbs() {
		c.GroupID = "apps"
		root.AddCommand(c)
	}
	for _, c := range platformVerbs() {
		c.GroupID = "platform"
		root.AddCommand(c)
	}
	return root
}

// strictUsage makes a wrong number of arguments, and a verb that a group of
// verbs does not have, usage errors.
func strictUsage(cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		strictUsage(c)
	}
	if cmd.Name() == "help" && cmd.HasParent() {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if _, _, err := cmd.Root().Find(args); err != nil {
				return usageError{wrongVerb(cmd.Root(), args)}
			}
			return nil
		}
		return
	}
	if cmd.HasParent() && cmd.HasSubCommands() {
		cmd.FParseErrWhitelist.UnknownFlags = true // the verb is what is wrong
		cmd.Args = cobra.ArbitraryArgs
		cmd.RunE = func(cmd *cobra.Command, args []string) error { return usageError{wrongVerb(cmd, args)} }
		return
	}
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			err := check(cmd, args)
			if err != nil && len(args) == 1 && check(cmd, nil) == nil && cmd.Flags().Lookup("app") != nil {
				return usageError{fmt.Errorf("%s takes no argument; to name the app: %s -a %s", cmd.CommandPath(), cmd.CommandPath(), args[0])}
			}
			if err != nil {
				return usageError{fmt.Errorf("%s: %w; usage: %s", cmd.CommandPath(), err, cmd.UseLine())}
			}
			return nil
		}
	}
}

// wrongVerb says that group has no such verb and which one may be meant.
func wrongVerb(group *cobra.Command, args []string) error {
	group.SuggestionsMinimumDistance = 2
	var verbs []string
	for _, c := range group.Commands() {
		if c.IsAvailableCommand() {
			verbs = append(verbs, c.Name())
		}
	}
	for _, a := range args {
		if strings.HasPrefix(a, "-") {
			continue
		}
		if like := group.SuggestionsFor(a); len(like) > 0 {
			return fmt.Errorf("%s has no verb %q; did you mean %s?", group.CommandPath(), a, strings.Join(like, " or "))
		}
		return fmt.Errorf("%s has no verb %q; there are %s", group.CommandPath(), a, strings.Join(verbs, ", "))
	}
	return fmt.Errorf("%s needs a verb: %s", group.CommandPath(), strings.Join(verbs, ", "))
}

func platformVerbs() []*cobra.Command {
	return []*cobra.Command{newServerCmd(), newRouterCmd(), newDownCmd(), newAdminCmd(), newStatusCmd(), newLoginCmd(), newPlanCmd()}
}

func fullVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return fmt.Sprintf("%s (%s)", version, info.GoVersion)
	}
	return version
}
