package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	v1 "github.com/slipway-paas/slipway/api/v1"
)

func newEnvCmd() *cobra.Command {
	env := &cobra.Command{Use: "env", Short: "Show or change an app's environment", Example: `  slipway env list -a shop
  slipway env set LOG_LEVEL=debug GREETING="good morning" -a shop
  slipway env unset GREETING -a shop`}
	list := ofApp(&cobra.Command{Use: "list", Short: "List variables; values only with --reveal", Args: cobra.NoArgs, RunE: runEnvList})
	list.Flags().Bool("reveal", false, "show values")
	set := ofApp(&cobra.Command{
		Use: "set NAME=VALUE...", Short: "Set variables and roll the app, without a build",
		Example: "  slipway env set LOG_LEVEL=debug -a shop", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			change := v1.ChangeEnv{Set: map[string]string{}}
			for _, a := range args {
				name, value, ok := strings.Cut(a, "=")
				if !ok {
					return usageError{fmt.Errorf("%q is not like NAME=VALUE", a)}
				}
				change.Set[name] = value
			}
			return runEnvChange(cmd, change)
		},
	})
	unset := ofApp(&cobra.Command{
		Use: "unset NAME...", Short: "Remove variables and roll the app, without a build", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runEnvChange(cmd, v1.ChangeEnv{Unset: args}) },
	})
	for _, c := range []*cobra.Command{set, unset} {
		c.Flags().Bool("async", false, "do not wait")
	}
	env.AddCommand(list, set, unset)
	return env
}

func runEnvList(cmd *cobra.Command, _ []string) error {
	s, err := openApp(cmd, ".")
	if err != nil {
		return err
	}
	reveal, _ := cmd.Flags().GetBool("reveal")
	env, err := s.Env(cmd.Context(), s.app, reveal)
	if err != nil {
		return err
	}
	rows := [][]string{}
	for _, v := range env.Variables {
		value := "***"
		if v.Value != nil {
			value = *v.Value
		}
		rows = append(rows, []string{v.Name, value})
	}
	return s.out.table(env, []string{"NAME", "VALUE"}, rows)
}

func runEnvChange(cmd *cobra.Command, change v1.ChangeEnv) error {
	s, err := openApp(cmd, ".")
	if err != nil {
		return err
	}
	d, err := s.ChangeEnv(cmd.Context(), s.app, change)
	if err != nil {
		return err
	}
	if d == nil {
		return s.out.done(v1.EnvChanged{}, "saved; nothing has to roll")
	}
	async, _ := cmd.Flags().GetBool("async")
	return s.follow(cmd, *d, async)
}
