package main

import (
	"context"
	"crypto/subtle"

	"github.com/spf13/cobra"

	"github.com/sigild/sigild/ipc"
)

func (a *app) changePINCommand() *cobra.Command {
	var pin pinSource
	var request requestID
	c := &cobra.Command{
		Use:   "change WALLET|ADDRESS",
		Short: "Change a wallet's PIN; its addresses stay, its unlocks end",
		Long: `Change a wallet's PIN. The old PIN is asked for once, the new one twice. With
--pin-fd the first line is the old PIN, the second the new one.`,
		Example:           "  sigilctl pin change 0x5290…2ba9\n  sigilctl pin change 0x5290…2ba9 --pin-fd 3 3<two-lines",
		Args:              arguments("WALLET|ADDRESS"),
		ValidArgsFunction: a.completeWallet,
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		t, err := parseTarget(c, args[0])
		if err != nil {
			return err
		}
		if err := pin.check(c, false); err != nil {
			return err
		}
		if err := request.show(c, a); err != nil {
			return err
		}
		return request.retry(a.onWalletWithPIN(c.Context(), t, func(client *ipc.Client, id ipc.Hex) error {
			return a.changePIN(c.Context(), client, &pin, ipc.ChangePINParams{RequestID: request.id, WalletID: id})
		}))
	}
	pin.flag(c)
	request.flag(c)
	return c
}

func (a *app) changePIN(ctx context.Context, client *ipc.Client, source *pinSource, p ipc.ChangePINParams) error {
	old, err := source.pin(ctx, source.question(ctx, a, client, target{wallet: p.WalletID}))
	defer clear(old)
	if err != nil {
		return err
	}
	next, err := source.newPIN(ctx, "New PIN")
	defer clear(next)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(old, next) == 1 {
		return fail(exitUsage, reasonPINMismatch, "", "the new PIN is the old one")
	}
	p.PIN, p.NewPIN = old, next
	// Without an identity key the daemon answers a repetition without a look at the PIN.
	return a.sendChange(ctx, client, ipc.MethodChangePIN, p, existing+"; the PIN is the one that it set, whatever was typed now")
}
