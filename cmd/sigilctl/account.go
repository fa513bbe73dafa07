package main

import (
	"github.com/spf13/cobra"

	"github.com/sigild/sigild/ipc"
)

func (a *app) deriveCommand() *cobra.Command {
	var pin pinSource
	var request requestID
	c := &cobra.Command{
		Use:   "derive WALLET",
		Short: "Add an account to a wallet",
		Args:  arguments("WALLET"),
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		t, err := parseTarget(c, args[0])
		if err != nil {
			return err
		}
		if t.wallet == nil {
			return usage(c, "%s is an address: give the wallet's id, which sigilctl wallet show %s prints", t, t)
		}
		if err := pin.check(c, false); err != nil {
			return err
		}
		if err := request.show(c, a); err != nil {
			return err
		}
		return request.retry(a.derive(c, &pin, ipc.DeriveAccountParams{RequestID: request.id, WalletID: t.wallet}))
	}
	pin.flag(c)
	request.flag(c)
	return c
}

func (a *app) derive(c *cobra.Command, source *pinSource, p ipc.DeriveAccountParams) error {
	ctx := c.Context()
	client, err := a.connectForPIN(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	pin, err := source.pin(ctx)
	defer clear(pin)
	if err != nil {
		return err
	}
	p.PIN = pin
	r, raw, err := call[ipc.DeriveAccountResult](ctx, a, client, ipc.MethodDeriveAccount, p)
	if err != nil {
		return err
	}
	return a.print(raw, func() string {
		t := new(sheet)
		t.add("wallet", p.WalletID.String())
		addAccount(t, &r.Account)
		if r.Existing {
			t.add("existing", "yes: an earlier request with this id made it")
		}
		addReceipt(t, r.Receipt)
		return t.String()
	})
}
