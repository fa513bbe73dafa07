package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sigild/sigild/ipc"
)

func walletParams(id ipc.Hex) any { return ipc.WalletParams{WalletID: id} }

func (a *app) freezeCommand() *cobra.Command {
	var all bool
	c := a.walletCommand(&cobra.Command{
		Use:   "freeze WALLET|ADDRESS | --all",
		Short: "Stop every use of a wallet at once; no PIN is needed",
		Long: `Stop every use of a wallet at once and end its unlocks. It stays frozen until an
operator unfreezes it. --all freezes the wallets of every relay; only an operator
may do that, and repeating it does no harm. unfreeze --all takes it back.`,
		Example: "  sigilctl freeze 0x9858EfFD232B4033E47d90003D41EC34EcaEda94\n  sigilctl freeze --all",
		Args:    walletOrAll(&all),
	}, ipc.MethodFreezeWallet, walletParams)
	one := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		if all {
			return a.freezeAll(c.Context())
		}
		return one(c, args)
	}
	c.Flags().BoolVar(&all, "all", false, "every wallet of this host")
	return c
}

func (a *app) freezeAll(ctx context.Context) error {
	client, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	total, err := a.freezeEverything(ctx, client)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(total)
	if err != nil {
		return err
	}
	if err := a.print(raw, func() string { return frozenText(total) }); err != nil || total.Corrupt == 0 {
		return err
	}
	f := fail(exitFailed, "recordCorrupt", "", "%d wallets could not be frozen: their record was changed outside the daemon, so they do not sign", total.Corrupt)
	f.answered = true
	return f
}

// freezeEverything repeats the call until the daemon is through.
func (a *app) freezeEverything(ctx context.Context, client *ipc.Client) (*ipc.FreezeAllResult, error) {
	p := a.progress()
	defer p.end()
	total := new(ipc.FreezeAllResult)
	for cursor := ""; ; {
		r, _, err := call[ipc.FreezeAllResult](ctx, a, client, ipc.MethodFreezeAll, ipc.FreezeAllParams{Cursor: cursor})
		if err != nil {
			return nil, someFrozen(err, total.Wallets)
		}
		total.Wallets, total.Corrupt = total.Wallets+r.Wallets, total.Corrupt+r.Corrupt
		p.show("frozen so far: %d wallets", total.Wallets)
		if r.Cursor == "" {
			return total, nil
		}
		if r.Cursor == cursor {
			return nil, fmt.Errorf("%w: sigild_freezeAll does not go on", ipc.ErrProtocol)
		}
		cursor = r.Cursor
	}
}

// someFrozen says of a failure half-way what holds already.
func someFrozen(err error, wallets int) error {
	if wallets == 0 {
		return err
	}
	f := *explain(err)
	wire := *f.wire
	wire.Message = fmt.Sprintf("%s; %d wallets are frozen, others may not be", wire.Message, wallets)
	f.wire, f.next = &wire, "repeat sigilctl freeze --all: it begins anew and does no harm"
	return &f
}

func frozenText(r *ipc.FreezeAllResult) string {
	var t sheet
	t.addf("frozen", "%d wallets", r.Wallets)
	if r.Corrupt > 0 {
		t.addf("corrupt", "%d wallets", r.Corrupt)
	}
	return t.String()
}
