package main

import (
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sigild/sigild/cmd/internal/manual"
)

const (
	defaultSocket  = "/run/sigild/sigild.sock"
	defaultTimeout = time.Minute
)

// app is one run of the program.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer

	socket  string
	json    bool
	timeout time.Duration
	// identity is the identity key that --identity gives, in hexadecimal.
	identity string
}

const about = `sigilctl is the command-line client of the signing daemon sigild.

PINs are sealed to the daemon, under the identity key of its installation; see
sigilctl trust. They are asked for on the terminal, or read from a file descriptor: --pin-fd 3
reads one line, as in  sigilctl sign tx WALLET tx.json --pin-fd 3 3<pin-file`

const exitCodes = `
Exit codes:
  0  done
  1  failed: what to do is in the message
  2  usage: the command line, the input or the form of the PIN is wrong
  3  refused: wrong PIN, locked or frozen wallet, policy, or not allowed to connect
  4  unavailable: the daemon or a device; the same call may succeed later
`

func (a *app) rootCommand() *cobra.Command {
	root := group("sigilctl", "Client of the signing daemon sigild",
		a.statusCommand(), a.topCommand(), a.bundleCommand(), a.trustCommand(),
		group("wallet", "Create, look at, change and delete wallets", a.createCommand(), a.importCommand(), a.showCommand(),
			a.listCommand(), a.updateCommand(), a.deleteCommand(), a.restoreCommand()),
		group("account", "Derive, name and export accounts", a.deriveCommand(), a.labelCommand(), a.exportCommand()),
		group("sign", "Sign transactions, messages and other payloads", a.signTransactionCommand(), a.signMessageCommand(),
			a.signPayloadCommand(typedDataPayload()), a.signPayloadCommand(authorizationPayload()),
			a.signPayloadCommand(userOperationPayload()), a.signDigestCommand(), a.signBatchCommand()),
		group("pin", "Change PINs, give attempts back", a.changePINCommand(), a.giveBackCommand()),
		group("policy", "Show and set what a wallet may sign", a.policyShowCommand(), a.policySetCommand()),
		a.unlockCommand(), a.lockCommand(), a.freezeCommand(), a.unfreezeCommand(),
		group("receipt", "Verify receipts", a.verifyReceiptCommand()),
	)
	root.AddCommand(manual.Command("1", exitCodes))
	root.Long = about
	root.Version = releaseVersion()
	root.SetVersionTemplate("sigilctl {{.Version}}\n")
	root.SetUsageTemplate(root.UsageTemplate() + exitCodes)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return usage(c, "%v", err) })
	flags := root.PersistentFlags()
	flags.StringVar(&a.socket, "socket", defaultSocket, "the daemon's socket")
	flags.StringVar(&a.identity, "identity", "", "the installation's identity key (default: $SIGIL_IDENTITY, or the one remembered for the socket)")
	flags.BoolVar(&a.json, "json", false, "print the daemon's result or error object as one JSON value")
	flags.DurationVar(&a.timeout, "timeout", defaultTimeout, "how long to wait for the daemon, not for the PIN")
	root.PersistentPreRunE = func(c *cobra.Command, _ []string) error {
		if a.timeout <= 0 {
			return usage(c, "--timeout must be above zero")
		}
		return nil
	}
	return root
}

// group is a command that only holds others. Without its RunE, cobra would take
// a misspelt subcommand for a wish for help, and exit with 0.
func group(name, short string, commands ...*cobra.Command) *cobra.Command {
	names := make([]string, len(commands))
	for i, c := range commands {
		names[i] = c.Name()
	}
	g := &cobra.Command{Use: name, Short: short, Args: cobra.ArbitraryArgs}
	g.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usage(c, "%s needs a command: %s", c.CommandPath(), strings.Join(names, ", "))
		}
		return usage(c, "%s has no command %q, only: %s", c.CommandPath(), args[0], strings.Join(names, ", "))
	}
	g.AddCommand(commands...)
	return g
}

// arguments refuses a command line without exactly the named arguments.
func arguments(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) == len(names):
			return nil
		case len(names) == 0:
			return usage(c, "%s takes no argument", c.CommandPath())
		}
		return usage(c, "%s takes %s, and was given %d of %d arguments", c.CommandPath(),
			strings.Join(names, " and "), len(args), len(names))
	}
}
