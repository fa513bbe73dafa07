package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sigild/sigild/ipc"
)

// onWallet connects, finds the wallet that t names, and hands both to do.
func (a *app) onWallet(ctx context.Context, t target, do func(*ipc.Client, ipc.Hex) error) error {
	client, err := a.connect(ctx)
	if err != nil {
		return err
	}
	return a.onWalletOf(ctx, client, t, do)
}

// onWalletWithPIN is onWallet for what needs a PIN.
func (a *app) onWalletWithPIN(ctx context.Context, t target, do func(*ipc.Client, ipc.Hex) error) error {
	client, err := a.connectForPIN(ctx)
	if err != nil {
		return err
	}
	return a.onWalletOf(ctx, client, t, do)
}

func (a *app) onWalletOf(ctx context.Context, client *ipc.Client, t target, do func(*ipc.Client, ipc.Hex) error) error {
	defer client.Close()
	id, err := a.walletOf(ctx, client, t)
	if err != nil {
		return err
	}
	return do(client, id)
}

// walletOf gives the id of the wallet: most methods take nothing else.
func (a *app) walletOf(ctx context.Context, client *ipc.Client, t target) (ipc.Hex, error) {
	if t.wallet != nil {
		return t.wallet, nil
	}
	w, _, err := call[ipc.WalletInfo](ctx, a, client, ipc.MethodGetWallet, ipc.GetWalletParams{Address: t.address})
	if err != nil {
		return nil, err
	}
	return w.WalletID, nil
}

// walletCommand is a command that names a wallet and shows it as it then is.
func (a *app) walletCommand(c *cobra.Command, method string, params func(ipc.Hex) any) *cobra.Command {
	c.ValidArgsFunction = a.completeWallet
	c.RunE = func(c *cobra.Command, args []string) error {
		t, err := parseTarget(c, args[0])
		if err != nil {
			return err
		}
		return a.onWallet(c.Context(), t, func(client *ipc.Client, id ipc.Hex) error {
			return a.callAndShow(c.Context(), client, method, params(id))
		})
	}
	return c
}

// callAndShow calls a method that answers with the wallet.
func (a *app) callAndShow(ctx context.Context, client *ipc.Client, method string, params any) error {
	w, raw, err := call[ipc.WalletInfo](ctx, a, client, method, params)
	if err != nil {
		return err
	}
	return a.print(raw, func() string { return walletText(w).String() })
}

// existing is what a repeated request shows.
const existing = "yes: an earlier request with this id did it"

// sendChange calls a method whose answer is a wallet with a receipt. existing is
// what it shows when the request was carried out before.
func (a *app) sendChange(ctx context.Context, client *ipc.Client, method string, params any, existing string) error {
	r, raw, err := call[ipc.ChangedWalletResult](ctx, a, client, method, params)
	if err != nil {
		return err
	}
	return a.print(raw, func() string {
		t := walletText(&r.Wallet)
		if r.Existing {
			t.add("existing", existing)
		}
		addReceipt(t, r.Receipt)
		return t.String()
	})
}

// walletOrAll takes a wallet or the flag --all, and not both.
func walletOrAll(all *bool) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if *all && len(args) == 0 || !*all && len(args) == 1 {
			return nil
		}
		return usage(c, "%s takes either WALLET|ADDRESS or --all", c.CommandPath())
	}
}

// attempts is such as "1 attempt left".
func attempts(n int) string {
	if n == 1 {
		return "1 attempt left"
	}
	return fmt.Sprintf("%d attempts left", n)
}
