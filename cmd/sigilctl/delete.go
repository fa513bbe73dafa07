package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/sigild/sigild/cmd/internal/ask"
	"github.com/sigild/sigild/ipc"
)

// deletion is one run of wallet delete.
type deletion struct {
	app      *app
	pin      pinSource
	request  requestID
	operator bool
	yes      bool
}

func (a *app) deleteCommand() *cobra.Command {
	d := &deletion{app: a}
	c := &cobra.Command{
		Use:   "delete WALLET|ADDRESS",
		Short: "Delete a wallet, by its PIN or as an operator",
		Long: `Delete a wallet. It cannot be used any more at once; until the daemon's grace time
(wallets.delete_grace) is over an operator can restore it, and after that nobody
can: what its addresses hold is lost then. The last four digits of the wallet's id
have to be typed, unless --yes is given.`,
		Args:              arguments("WALLET|ADDRESS"),
		ValidArgsFunction: a.completeWallet,
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		t, err := parseTarget(c, args[0])
		if err != nil {
			return err
		}
		if err := d.pin.check(c, false); err != nil {
			return err
		}
		if d.operator && c.Flags().Changed("pin-fd") {
			return usage(c, "--operator needs no PIN: leave --pin-fd out")
		}
		if err := d.request.show(c, a); err != nil {
			return err
		}
		on := a.onWalletWithPIN
		if d.operator {
			on = a.onWallet
		}
		return d.request.retry(on(c.Context(), t, func(client *ipc.Client, id ipc.Hex) error {
			return d.run(c.Context(), client, id)
		}))
	}
	c.Flags().BoolVar(&d.operator, "operator", false, "delete without the PIN, as an operator of this host")
	c.Flags().BoolVar(&d.yes, "yes", false, "do not ask to type the digits")
	d.pin.flag(c)
	d.request.flag(c)
	return c
}

func (d *deletion) run(ctx context.Context, client *ipc.Client, id ipc.Hex) error {
	p := ipc.DeleteWalletParams{RequestID: d.request.id, WalletID: id}
	if err := d.confirm(ctx, id); err != nil {
		return err
	}
	if !d.operator {
		pin, err := d.pin.pin(ctx, d.pin.question(ctx, d.app, client, target{wallet: id}))
		defer clear(pin)
		if err != nil {
			return err
		}
		p.PIN = pin
	}
	return d.app.sendChange(ctx, client, ipc.MethodDeleteWallet, p, existing)
}

// confirm has the end of the id typed: a look at which wallet it is.
func (d *deletion) confirm(ctx context.Context, id ipc.Hex) error {
	if d.yes {
		return nil
	}
	text := id.String()
	source := ask.Source{FD: ask.Terminal}
	err := source.Confirm(ctx, "This deletes wallet "+text+". Type the last four digits of its id to go on", []byte(text[len(text)-4:]))
	switch {
	case errors.Is(err, ask.ErrNotConfirmed):
		return fail(exitFailed, "notConfirmed", "", "not confirmed; nothing was deleted")
	case errors.Is(err, ask.ErrNoTerminal):
		return fail(exitUsage, "notConfirmed", "give --yes if you are sure", "there is no terminal to confirm on; nothing was deleted")
	}
	return err
}

func (a *app) restoreCommand() *cobra.Command {
	return a.walletCommand(&cobra.Command{
		Use:   "restore WALLET",
		Short: "Take a deletion back, until the grace time is over; for operators",
		Args:  arguments("WALLET"),
	}, ipc.MethodRestoreWallet, walletParams)
}
