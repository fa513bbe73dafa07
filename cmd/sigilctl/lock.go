package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sigild/sigild/ipc"
)

func (a *app) lockCommand() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "lock WALLET|ADDRESS | --all",
		Short: "End the unlocks of a wallet",
		Long: `End the unlocks of a wallet. --all ends those of all wallets of this user, and
those of everybody if this user is an operator.`,
		Args:              walletOrAll(&all),
		ValidArgsFunction: a.completeWallet,
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		if all {
			return a.lockAll(c.Context())
		}
		t, err := parseTarget(c, args[0])
		if err != nil {
			return err
		}
		return a.onWallet(c.Context(), t, func(client *ipc.Client, id ipc.Hex) error {
			return a.lock(c.Context(), client, id)
		})
	}
	c.Flags().BoolVar(&all, "all", false, "all wallets")
	return c
}

func (a *app) lock(ctx context.Context, client *ipc.Client, id ipc.Hex) error {
	r, raw, err := call[ipc.LockResult](ctx, a, client, ipc.MethodLock, ipc.WalletParams{WalletID: id})
	if err != nil {
		return err
	}
	return a.print(raw, func() string {
		if r.Locked {
			return "locked\n"
		}
		return "it was not unlocked\n"
	})
}

func (a *app) lockAll(ctx context.Context) error {
	r, raw, err := query[ipc.CountResult](ctx, a, ipc.MethodLockAll, ipc.NoParams{})
	if err != nil {
		return err
	}
	return a.print(raw, func() string { return fmt.Sprintf("locked: %d wallets\n", r.Wallets) })
}
