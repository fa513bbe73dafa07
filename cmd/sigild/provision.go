package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sigild/sigild/cmd/internal/ask"
	"github.com/sigild/sigild/daemon"
)

func newProvision() *cobra.Command {
	c := &cobra.Command{
		Use:   "provision",
		Short: "Make this host's installation, once",
		Long: "Makes the token's long-lived keys and the TPM's host key, binds both to the host's measured state,\n" +
			"and shows the recovery code once. It can be repeated after an interruption, and refuses a second time.\n\n" +
			"The recovery code rebuilds the TPM's part after a firmware change or on another machine. Who holds it and\n" +
			"the token can make a second host: keep it apart from both. It cannot be shown again.\n\n" +
			"With --shares and --threshold the code is shown as shares only, one to each keeper: any of them as many as the\n" +
			"threshold says give the code back, and fewer tell nothing about it.",
		Args: cobra.NoArgs,
	}
	fd := pinFlag(c)
	codeFD := c.Flags().Int("code-fd", -1, "write the recovery code, or its shares, to this file descriptor, one a line, without asking to confirm it")
	split := splitFlags(c)
	weak := weakPINFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := split.Check(); err != nil {
			return &usageError{err}
		}
		cfg, err := load(c)
		if err != nil {
			return err
		}
		source := ask.Source{FD: *fd}
		err = daemon.Provision(c.Context(), cfg, daemon.ProvisionOptions{
			Ask:      source.Secret,
			Progress: func(line string) { fmt.Fprintln(c.ErrOrStderr(), line) },
			Split:    *split,
			ShowCode: func(parts [][]byte) error { return showCode(c, *codeFD, *split, parts) },
			WeakPIN:  *weak,
		})
		if err == nil {
			fmt.Fprintln(c.ErrOrStderr(), "provisioned")
			notePlace(c.ErrOrStderr(), cfg)
		}
		return err
	}
	return c
}

func weakPINFlag(c *cobra.Command) *bool {
	return c.Flags().Bool("accept-weak-token-pin", false, "accept a user PIN of under 128 bits, for tokens that take no longer one")
}

func newForgetRefusal() *cobra.Command {
	return &cobra.Command{
		Use:   "forget-refusal",
		Short: "Allow the token's user PIN to be tried once more after the token refused it",
		Long: "A user PIN that the token refused, or may have, is not tried again, because a token locks after a few tries.\n" +
			"When you know that the PIN is right, this allows one more try. The daemon must be stopped.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := load(c)
			if err != nil {
				return err
			}
			was, err := daemon.ForgetRefusal(c.Context(), cfg)
			if err != nil {
				return err
			}
			if !was {
				fmt.Fprintln(c.OutOrStdout(), "no refusal is recorded")
				return nil
			}
			fmt.Fprintln(c.OutOrStdout(), "the refusal is forgotten: the next start tries the PIN once")
			return nil
		},
	}
}
