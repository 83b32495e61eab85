package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	v1 "github.com/slipway-paas/slipway/api/v1"
)

func newReleasesCmd() *cobra.Command {
	return ofApp(&cobra.Command{
		Use: "releases", Short: "List releases, newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := openApp(cmd, ".")
			if err != nil {
				return err
			}
			list, err := s.Releases(cmd.Context(), s.app, 50)
			if err != nil {
				return err
			}
			rows := [][]string{}
			for _, r := range list {
				live := ""
				if r.Live {
					live = "live"
				}
				rows = append(rows, []string{release(r.Number), live, r.Reason, shortDigest(r.ImageDigest), strconv.Itoa(r.ConfigVersion), ago(r.CreatedAt), r.CreatedBy})
			}
			return s.out.table(v1.Releases{Releases: list}, []string{"RELEASE", "", "BY WAY OF", "IMAGE", "CONFIG", "AGE", "WHO"}, rows)
		},
	})
}

func newRollbackCmd() *cobra.Command {
	cmd := ofApp(&cobra.Command{
		Use: "rollback [N]", Short: "Deploy an older release again; nothing is rebuilt",
		Long: "Without N it is the release before the live one.",
		Example: `  slipway rollback -a shop       # the release before
  slipway rollback v3 -a shop    # a certain one, see slipway releases`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			n := 0
			if len(args) == 1 {
				var err error
				if n, err = strconv.Atoi(strings.TrimPrefix(args[0], "v")); err != nil || n < 1 {
					return usageError{fmt.Errorf("%q is not a release number", args[0])}
				}
			}
			s, err := openApp(cmd, ".")
			if err != nil {
				return err
			}
			d, err := s.Rollback(cmd.Context(), s.app, n)
			if err != nil {
				return err
			}
			async, _ := cmd.Flags().GetBool("async")
			return s.follow(cmd, d, async)
		},
	})
	cmd.Flags().Bool("async", false, "do not wait")
	return cmd
}

func newDeploymentsCmd() *cobra.Command {
	return ofApp(&cobra.Command{
		Use: "deployments", Short: "List deployments, newest first, with why they failed", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := openApp(cmd, ".")
			if err != nil {
				return err
			}
			list, err := s.Deployments(cmd.Context(), s.app, 50)
			if err != nil {
				return err
			}
			rows := [][]string{}
			for _, d := range list {
				why := d.Waiting
				if d.Failure != nil {
					why = d.Failure.Message
				}
				rows = append(rows, []string{strconv.FormatInt(d.ID, 10), d.Kind, d.State, release(d.Release), ago(d.CreatedAt), d.By, orDash(why)})
			}
			return s.out.table(v1.Deployments{Deployments: list}, []string{"ID", "KIND", "STATE", "RELEASE", "AGE", "WHO", "WHY"}, rows)
		},
	})
}

func newCancelCmd() *cobra.Command {
	return ofApp(&cobra.Command{
		Use: "cancel DEPLOYMENT", Short: "Cancel a deployment that is not live yet", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil {
				return usageError{fmt.Errorf("%q is not the number of a deployment", args[0])}
			}
			s, err := openApp(cmd, ".")
			if err != nil {
				return err
			}
			d, err := s.CancelDeployment(cmd.Context(), s.app, id)
			if err != nil {
				return err
			}
			return s.out.done(d, "deployment %d is %s", d.ID, d.State)
		},
	})
}
