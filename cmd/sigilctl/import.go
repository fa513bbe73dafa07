package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sigild/sigild/ipc"
)

// importation is one run of wallet import.
type importation struct {
	app     *app
	key     keySource
	pin     pinSource
	request requestID
	params  ipc.ImportWalletParams
	policy  string
	address string // that the key must have; "": it is shown
}

func (a *app) importCommand() *cobra.Command {
	i := &importation{app: a}
	c := &cobra.Command{
		Use:   "import --owner OWNER",
		Short: "Make a wallet of a private key that exists elsewhere",
		Long: `Make a wallet of a private key that exists elsewhere, where the daemon's operator
allows it (custody.import). The key is asked for on the terminal, without echo, or
read from a file; it is 64 hexadecimal digits, with or without 0x, as geth's and
sigilctl's own exports are. It is sealed to the daemon beside the new PIN. The address
is shown before the PIN is asked for: compare it.

Whoever has the key elsewhere can use it elsewhere. To be safe from that, move what the
address holds to an address of a wallet that the daemon made.`,
		Example: "  sigilctl wallet import --owner user-17 --key-file exported.hex",
		Args:    arguments(),
	}
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := i.check(c); err != nil {
			return err
		}
		if err := i.request.show(c, a); err != nil {
			return err
		}
		i.params.RequestID = i.request.id
		return i.request.retry(i.run(c))
	}
	i.flags(c)
	return c
}

func (i *importation) flags(c *cobra.Command) {
	c.Flags().StringVar(&i.params.Owner, "owner", "", "the user whose wallet it will be (required)")
	c.Flags().StringVar(&i.address, "address", "", "the `ADDRESS` that the key must have; refused otherwise")
	c.Flags().StringVar(&i.params.Label, "label", "", "a name for people")
	c.Flags().StringVar(&i.params.ExternalID, "external-id", "", "your own name for the wallet; no two have the same")
	c.Flags().StringArrayVar(&i.params.Tags, "tag", nil, "a `WORD` to find it by; may be repeated")
	c.Flags().StringVar(&i.policy, "policy", "", "a `FILE`, or - for standard input, with what the wallet may sign (see policy set)")
	c.Flags().BoolVar(&i.params.Exportable, "exportable", false, exportableHelp)
	i.key.flags(c)
	i.pin.flag(c)
	i.request.flag(c)
}

// check refuses what can be seen before any secret is asked for.
func (i *importation) check(c *cobra.Command) error {
	if i.params.Owner == "" {
		return usage(c, "--owner is missing: whose wallet will it be?")
	}
	if err := i.key.check(c, i.policy == fromStdin); err != nil {
		return err
	}
	if err := i.pin.check(c, i.policy == fromStdin); err != nil {
		return err
	}
	if i.policy == "" {
		return nil
	}
	var err error
	i.params.Policy, err = i.app.readPolicy(c, i.policy)
	return err
}

func (i *importation) run(c *cobra.Command) error {
	ctx := c.Context()
	client, err := i.app.connectForPIN(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	key, err := i.key.key(ctx)
	defer clear(key)
	if err != nil {
		return err
	}
	i.params.Key, i.params.Address = key, addressOf(key)
	if i.address != "" && !sameAddress(i.address, i.params.Address) {
		return fail(exitUsage, "addressMismatch", "", "the key is that of %s, not of %s; nothing was sent", i.params.Address, plain(i.address))
	}
	if !i.app.json {
		fmt.Fprintf(i.app.stderr, "address: %s\n", i.params.Address)
	}
	pin, err := i.pin.newPIN(ctx, "PIN of the new wallet")
	defer clear(pin)
	if err != nil {
		return err
	}
	i.params.PIN = pin
	return i.app.sendCreation(ctx, client, ipc.MethodImportWallet, i.params)
}
