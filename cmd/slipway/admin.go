package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/slipway-paas/slipway/api"
	"github.com/slipway-paas/slipway/internal/paas"
)

// newAdminCmd has the verbs of whoever owns the machine: they work on the data
// folder and need no token.
func newAdminCmd() *cobra.Command {
	admin := &cobra.Command{Use: "admin", Short: "Manage the installation on this machine"}
	var c config
	var user, label string
	token := &cobra.Command{
		Use: "token", Short: "Make an administrator's token and print it once", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.load(cmd); err != nil {
				return err
			}
			if err := c.recall(cmd); err != nil {
				return err
			}
			s, err := openStore(cmd.Context(), &c)
			if err != nil {
				return paas.Errorf(paas.CodeUnavailable, "cannot open the store of %s", c.Data).WithHint("run it as the server's user, with the server's --data and --database").WithCause(err)
			}
			defer s.Close()
			text, hash := api.NewToken()
			if _, err := s.EnsureAdmin(cmd.Context(), user, label, hash); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), text)
			return nil
		},
	}
	c.register(token.Flags())
	token.Flags().String("config", "", "YAML file of the server")
	token.Flags().StringVar(&user, "user", "admin", "whose token")
	token.Flags().StringVar(&label, "label", "slipway admin token", "what it is for")
	admin.AddCommand(token)
	return admin
}
