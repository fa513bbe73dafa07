package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sigild/sigild/cmd/internal/ask"
	"github.com/sigild/sigild/daemon"
)

func newRecover() *cobra.Command {
	c := &cobra.Command{
		Use:   "recover",
		Short: "Bind the host anew to its present measured state, with the recovery code",
		Long: "After an update of firmware, boot loader or kernel that was not announced with `sigild reseal`, the TPM\n" +
			"refuses the host key and the token's PIN. This asks for the recovery code, makes both anew under the present\n" +
			"state, and begins a new epoch. Do it only when you know why the PCRs that sigild names have changed.\n" +
			"Where the code was split, it asks for as many shares as are needed.\n\n" +
			"Where the TPM keeps the token's user PIN (token.pin = \"tpm\"), this also gives it a new one after the PIN was changed\n" +
			"on the token: with --pin-fd, or asked for once the token has refused the old one. The code protects the new PIN then.\n" +
			"As at provisioning it must be at least 128 random bits, unless --accept-weak-token-pin says otherwise.\n\n" +
			"With --replace-code nothing is bound anew: the code that you give is replaced by a new one, shown once.\n" +
			"Copies of the database from before still open with the old code. --shares and --threshold split the new one.\n\n" +
			"Stop the daemon first.",
		Args: cobra.NoArgs,
	}
	fd := pinFlag(c)
	weak := weakPINFlag(c)
	codeFD := c.Flags().Int("code-fd", -1, "read the recovery code, or its shares, from this file descriptor, one a line, instead of asking")
	newTPM := c.Flags().Bool("new-tpm", false, "the TPM is another one than at provisioning, or was cleared")
	replace := c.Flags().Bool("replace-code", false, "replace the recovery code, and do nothing else")
	newCodeFD := c.Flags().Int("new-code-fd", -1, "write the new code, or its shares, to this file descriptor, one a line, without asking to confirm it")
	split := splitFlags(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := maySplit(*split, *replace); err != nil {
			return &usageError{err}
		}
		cfg, err := load(c)
		if err != nil {
			return err
		}
		code, pin := ask.Source{FD: *codeFD}, ask.Source{FD: *fd}
		o := daemon.RecoverOptions{AskCode: code.Secret, Ask: pin.Secret, GivenPIN: *fd != ask.Terminal, WeakPIN: *weak, NewTPM: *newTPM,
			Progress: func(line string) { fmt.Fprintln(c.ErrOrStderr(), line) }}
		if *codeFD == ask.Terminal {
			o.AskAgain = func(err error) { fmt.Fprintf(c.ErrOrStderr(), "%v\n", err) }
		}
		done := "recovered: start the daemon"
		if *replace {
			o.Split = *split
			o.ShowCode = func(parts [][]byte) error { return showCode(c, *newCodeFD, *split, parts) }
			done = "provisioned with the new recovery code; destroy the old one, or its shares"
		}
		if err := daemon.Recover(c.Context(), cfg, o); err != nil {
			return err
		}
		fmt.Fprintln(c.ErrOrStderr(), done)
		return nil
	}
	return c
}

// maySplit says whether the shares can be made that the flags ask for.
func maySplit(split daemon.Split, replace bool) error {
	if split != (daemon.Split{}) && !replace {
		return errors.New("--shares and --threshold go with --replace-code")
	}
	return split.Check()
}

func newReseal() *cobra.Command {
	c := &cobra.Command{
		Use:   "reseal",
		Short: "Approve a measured state ahead of a planned update, or list what is approved",
		Long: "Approves the present state with the PCRs that you name replaced by the values they will have after an update,\n" +
			"such as those that systemd-measure or systemd-pcrlock predict. After the reboot the host signs without the recovery\n" +
			"code. At the first good start after it, what is not in force is removed. Without --pcr the approved states are\n" +
			"listed. Stop the daemon first, and start it again until the reboot.",
		Args: cobra.NoArgs,
	}
	fd := pinFlag(c)
	pcrs := c.Flags().StringArray("pcr", nil, "INDEX=VALUE, a SHA-256 PCR's value after the update in hexadecimal; may be repeated")
	remove := c.Flags().Bool("clear", false, "first remove the states that were approved ahead before")
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := load(c)
		if err != nil {
			return err
		}
		values, err := parsePCRs(*pcrs)
		if err != nil {
			return &usageError{err}
		}
		source := ask.Source{FD: *fd}
		return daemon.Reseal(c.Context(), cfg, daemon.ResealOptions{Ask: source.Secret, PCRs: values, Clear: *remove,
			Progress: func(line string) { fmt.Fprintln(c.OutOrStdout(), line) }})
	}
	return c
}

// parsePCRs reads INDEX=VALUE, each index once.
func parsePCRs(words []string) (map[int][32]byte, error) {
	values := map[int][32]byte{}
	for _, word := range words {
		index, text, _ := strings.Cut(word, "=")
		pcr, err := strconv.Atoi(index)
		value, hexErr := hex.DecodeString(text)
		if err != nil || hexErr != nil || len(value) != 32 {
			return nil, fmt.Errorf("--pcr %q is not INDEX=VALUE with 64 hexadecimal digits", word)
		}
		if _, twice := values[pcr]; twice {
			return nil, fmt.Errorf("--pcr names PCR %d twice", pcr)
		}
		values[pcr] = [32]byte(value)
	}
	return values, nil
}
