package main

import (
	"strconv"

	"github.com/spf13/cobra"

	"github.com/sigild/sigild/ipc"
)

func (a *app) deriveCommand() *cobra.Command {
	var pin pinSource
	var request requestID
	p := ipc.DeriveAccountParams{}
	c := &cobra.Command{
		Use:               "derive WALLET|ADDRESS",
		Short:             "Add accounts to a wallet",
		Args:              arguments("WALLET|ADDRESS"),
		ValidArgsFunction: a.completeWallet,
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		t, err := parseTarget(c, args[0])
		if err != nil {
			return err
		}
		if c.Flags().Changed("count") && p.Count < 1 {
			return usage(c, "--count must be 1 or more")
		}
		if err := pin.check(c, false); err != nil {
			return err
		}
		if err := request.show(c, a); err != nil {
			return err
		}
		return request.retry(a.onWalletWithPIN(c.Context(), t, func(client *ipc.Client, id ipc.Hex) error {
			p.RequestID, p.WalletID = request.id, id
			return a.derive(c, client, &pin, p)
		}))
	}
	c.Flags().IntVar(&p.Count, "count", 0, "how many accounts (default: 1)")
	pin.flag(c)
	request.flag(c)
	return c
}

func (a *app) derive(c *cobra.Command, client *ipc.Client, source *pinSource, p ipc.DeriveAccountParams) error {
	ctx := c.Context()
	pin, err := source.pin(ctx, source.question(ctx, a, client, target{wallet: p.WalletID}))
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
		for n := range r.Accounts {
			addAccount(t, &r.Accounts[n])
		}
		if r.Existing {
			t.add("existing", "yes: an earlier request with this id made it")
		}
		addReceipt(t, r.Receipt)
		return t.String()
	})
}

func (a *app) labelCommand() *cobra.Command {
	c := &cobra.Command{
		Use:               "label WALLET|ADDRESS INDEX LABEL",
		Short:             "Name one account of a wallet; '' removes the name",
		Args:              arguments("WALLET|ADDRESS", "INDEX", "LABEL"),
		ValidArgsFunction: a.completeWallet,
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		t, err := parseTarget(c, args[0])
		if err != nil {
			return err
		}
		index, err := strconv.ParseUint(args[1], 10, 32)
		if err != nil {
			return usage(c, "%q is not the index of an account: 0, 1, 2 …", args[1])
		}
		return a.onWallet(c.Context(), t, func(client *ipc.Client, id ipc.Hex) error {
			return a.callAndShow(c.Context(), client, ipc.MethodLabelAccount,
				ipc.LabelAccountParams{WalletID: id, Account: uint32(index), Label: args[2]})
		})
	}
	return c
}
