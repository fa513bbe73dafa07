package main

import (
	"context"
	"errors"
	"fmt"
	"os"

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
			"the token can make a second host: keep it apart from both. It cannot be shown again.",
		Args: cobra.NoArgs,
	}
	fd := pinFlag(c)
	codeFD := c.Flags().Int("code-fd", -1, "write the recovery code to this file descriptor, without asking to confirm it")
	weak := c.Flags().Bool("accept-weak-token-pin", false, "accept a user PIN of under 128 bits, for tokens that take no longer one")
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := load(c)
		if err != nil {
			return err
		}
		source := ask.Source{FD: *fd}
		err = daemon.Provision(c.Context(), cfg, daemon.ProvisionOptions{
			Ask:      source.Secret,
			Progress: func(line string) { fmt.Fprintln(c.ErrOrStderr(), line) },
			ShowCode: func(code []byte) error { return showCode(c, *codeFD, code) },
			WeakPIN:  *weak,
		})
		if err == nil {
			fmt.Fprintln(c.ErrOrStderr(), "provisioned")
		}
		return err
	}
	return c
}

// showCode gives the recovery code to a person, who confirms having written it
// down, or to a descriptor.
func showCode(c *cobra.Command, fd int, code []byte) error {
	if fd >= 0 {
		return writeCode(fd, code)
	}
	if _, err := fmt.Fprintf(c.OutOrStdout(), "\nRecovery code (shown once; it is valid only after \"provisioned\"):\n\n    %s\n\n", code); err != nil {
		return err
	}
	return confirmCode(c.Context(), code)
}

func writeCode(fd int, code []byte) error {
	f := os.NewFile(uintptr(fd), "recovery code")
	if f == nil {
		return fmt.Errorf("--code-fd %d is not an open file descriptor", fd)
	}
	line := append(append(make([]byte, 0, len(code)+1), code...), '\n')
	defer clear(line)
	_, err := f.Write(line)
	return errors.Join(err, f.Close())
}

// confirmCode asks for the last group of the code.
func confirmCode(ctx context.Context, code []byte) error {
	last := code[len(code)-4:]
	terminal := ask.Source{FD: -1}
	return terminal.Confirm(ctx, "Write it down now. Type its last four characters to confirm", last)
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
