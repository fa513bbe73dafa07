package main

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/spf13/cobra"

	"github.com/sigild/sigild/cmd/internal/ask"
	"github.com/sigild/sigild/ipc"
)

// byAll is who froze a wallet that freeze --all froze.
const byAll = "freezeAll"

func unfreezeParams(id ipc.Hex) any { return ipc.UnfreezeParams{WalletID: id} }

func (a *app) unfreezeCommand() *cobra.Command {
	var all, yes bool
	c := a.walletCommand(&cobra.Command{
		Use:   "unfreeze WALLET | --all",
		Short: "Let a frozen wallet be used again; for operators",
		Long: `Let a frozen wallet be used again; only an operator may do that. --all takes back
what freeze --all did: a wallet that a relay or an operator froze by itself, before or
after that, stays frozen. "unfreeze" has to be typed, unless --yes is given.`,
		Args: walletOrAll(&all),
	}, ipc.MethodUnfreezeWallet, unfreezeParams)
	one := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		if !all {
			return one(c, args)
		}
		if err := confirmUnfreezing(c.Context(), yes); err != nil {
			return err
		}
		return a.unfreezeAll(c.Context())
	}
	c.Flags().BoolVar(&all, "all", false, "every wallet that freeze --all froze")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask to type the word")
	return c
}

func confirmUnfreezing(ctx context.Context, yes bool) error {
	if yes {
		return nil
	}
	source := ask.Source{FD: ask.Terminal}
	err := source.Confirm(ctx, "This lets all wallets be used again that freeze --all froze. Type unfreeze to go on", []byte("unfreeze"))
	switch {
	case errors.Is(err, ask.ErrNotConfirmed):
		return fail(exitFailed, "notConfirmed", "", "not confirmed; nothing was unfrozen")
	case errors.Is(err, ask.ErrNoTerminal):
		return fail(exitUsage, "notConfirmed", "give --yes if you are sure", "there is no terminal to confirm on; nothing was unfrozen")
	}
	return err
}

func (a *app) unfreezeAll(ctx context.Context) error {
	client, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	l := listing{app: a, client: client, filter: ipc.ListWalletsParams{AllRelays: true, State: "frozen"}}
	if err := l.read(ctx); err != nil {
		return err
	}
	n, err := a.unfreezeThese(ctx, client, l.wallets)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(ipc.CountResult{Wallets: n})
	if err != nil {
		return err
	}
	err = a.print(raw, func() string {
		var t sheet
		t.addf("unfrozen", "%d wallets", n)
		return t.String()
	})
	if err != nil {
		return err
	}
	return l.failure()
}

// unfreezeThese has the daemon look at each once more: it may be frozen by somebody
// else by now.
func (a *app) unfreezeThese(ctx context.Context, client *ipc.Client, wallets []ipc.WalletInfo) (unfrozen int, err error) {
	p := a.progress()
	defer p.end()
	for _, w := range wallets {
		if w.FrozenBy != byAll {
			continue
		}
		now, _, err := call[ipc.WalletInfo](ctx, a, client, ipc.MethodUnfreezeWallet, ipc.UnfreezeParams{WalletID: w.WalletID, FrozenBy: byAll})
		if err != nil {
			return unfrozen, err
		}
		if now.State != "frozen" {
			unfrozen++
		}
		p.show("unfrozen so far: %d wallets", unfrozen)
	}
	return unfrozen, nil
}
