package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sigild/sigild/daemon"
)

func newClearTokenFault() *cobra.Command {
	return &cobra.Command{
		Use:   "clear-token-fault",
		Short: "Put a token back into service that signed wrongly or repeated a nonce",
		Long: "A token that gives a wrong signature or uses a nonce twice may give a key away at its next signature, so\n" +
			"the daemon takes it out of service. Find out why it did, replace it if need be, and then allow it to sign\n" +
			"again with this. The decision is written to the audit log. The daemon must be stopped.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := load(c)
			if err != nil {
				return err
			}
			was, err := daemon.ClearTokenFault(c.Context(), cfg)
			if err != nil {
				return err
			}
			if was == "" {
				fmt.Fprintln(c.OutOrStdout(), "the token is in service: no fault is recorded")
				return nil
			}
			fmt.Fprintf(c.OutOrStdout(), "the token is in service again; the fault was of %s\n", was)
			return nil
		},
	}
}
