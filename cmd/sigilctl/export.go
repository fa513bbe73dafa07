package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/sigild/sigild/cmd/internal/ask"
	"github.com/sigild/sigild/ipc"
)

const exportableHelp = "make a wallet whose PIN can give its keys out (account export); it cannot be changed later"

// exportation is one run of account export.
type exportation struct {
	app     *app
	pin     pinSource
	account uint32
	out     string
	yes     bool
}

// exported is what --json prints: where the key is, never the key.
type exported struct {
	WalletID     ipc.Hex `json:"walletId"`
	Account      uint32  `json:"account"`
	Address      string  `json:"address"`
	File         string  `json:"file"`
	AttemptsLeft int     `json:"attemptsLeft"`
}

func (a *app) exportCommand() *cobra.Command {
	e := &exportation{app: a}
	c := &cobra.Command{
		Use:   "export WALLET|ADDRESS --out FILE",
		Short: "Write the private key of an exportable wallet's account to a new file",
		Long: `Write the private key of one account to a new file that only you can read: 64
hexadecimal digits and a line's end, as geth account import takes it. The wallet must
have been made exportable, and the daemon's operator must allow it (custody.export).

From then on the key exists outside the token, and nothing of what the daemon promises
holds for whoever has the file. It cannot be taken back: the daemon's record and audit
log say when it was done. The last four digits of the address have to be typed, unless
--yes is given.`,
		Example:           "  sigilctl account export 0x9858…da94 --out key.hex\n  geth account import key.hex",
		Args:              arguments("WALLET|ADDRESS"),
		ValidArgsFunction: a.completeWallet,
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		t, err := parseTarget(c, args[0])
		if err != nil {
			return err
		}
		if e.out == "" {
			return usage(c, "--out is missing: the new file for the key")
		}
		if err := e.pin.check(c, false); err != nil {
			return err
		}
		return e.run(c, t)
	}
	c.Flags().Uint32Var(&e.account, "account", 0, "the index of the account")
	c.Flags().StringVar(&e.out, "out", "", "the new `FILE` for the key (required); one that exists is not touched")
	c.Flags().BoolVar(&e.yes, "yes", false, "do not ask to type the digits")
	e.pin.flag(c)
	return c
}

func (e *exportation) run(c *cobra.Command, t target) error {
	ctx := c.Context()
	client, err := e.app.connectForPIN(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	p := ipc.ExportAccountParams{WalletID: t.wallet, Address: t.address}
	if c.Flags().Changed("account") {
		p.Account = &e.account
	}
	address, err := e.addressOf(ctx, client, t)
	if err != nil {
		return err
	}
	if err := e.confirm(ctx, address); err != nil {
		return err
	}
	f, err := os.OpenFile(e.out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fail(exitUsage, reasonUsage, "", "%v; nothing was sent", err)
	}
	result, err := e.into(ctx, client, t, p, f)
	if err != nil {
		return errors.Join(err, os.Remove(e.out))
	}
	return e.print(result)
}

// addressOf finds the account that a person is asked about.
func (e *exportation) addressOf(ctx context.Context, client *ipc.Client, t target) (string, error) {
	if t.address != "" {
		return t.address, nil
	}
	w, _, err := call[ipc.WalletInfo](ctx, e.app, client, ipc.MethodGetWallet, ipc.GetWalletParams{WalletID: t.wallet})
	if err != nil {
		return "", err
	}
	if int64(e.account) >= int64(len(w.Accounts)) {
		return "", fail(exitUsage, "notFound", "sigilctl wallet show lists its accounts", "the wallet has no account %d", e.account)
	}
	return w.Accounts[e.account].Address, nil
}

// confirm has the end of the address typed: what is given out cannot be taken
// back.
func (e *exportation) confirm(ctx context.Context, address string) error {
	if e.yes {
		return nil
	}
	source := ask.Source{FD: ask.Terminal}
	err := source.Confirm(ctx, "This gives the private key of "+address+" out, for good. Type the last four digits of the address to go on",
		[]byte(address[len(address)-4:]))
	switch {
	case errors.Is(err, ask.ErrNotConfirmed):
		return fail(exitFailed, "notConfirmed", "", "not confirmed; nothing was given out")
	case errors.Is(err, ask.ErrNoTerminal):
		return fail(exitUsage, "notConfirmed", "give --yes if you are sure", "there is no terminal to confirm on; nothing was given out")
	}
	return err
}

// into asks for the PIN and the key, and writes that to f, which it closes. A key
// that was given out and not written is lost to nobody: the call can be repeated.
func (e *exportation) into(ctx context.Context, client *ipc.Client, t target, p ipc.ExportAccountParams, f *os.File) (_ *ipc.ExportAccountResult, err error) {
	defer func() { err = errors.Join(err, f.Close()) }()
	pin, err := e.pin.pin(ctx, e.pin.question(ctx, e.app, client, t))
	defer clear(pin)
	if err != nil {
		return nil, err
	}
	p.PIN = pin
	bounded, cancel := context.WithTimeout(ctx, e.app.timeout)
	defer cancel()
	key, r, err := client.ExportAccount(bounded, p)
	defer key.Wipe()
	if err != nil {
		return nil, unsure(err)
	}
	if len(key) != keyBytes || !sameAddress(addressOf(key), r.Address) || t.address != "" && !sameAddress(t.address, r.Address) {
		return nil, fail(exitFailed, reasonProtocol, "", "the key that came is not that of the address; it was not written")
	}
	line := append(hex.AppendEncode(make([]byte, 0, hex.EncodedLen(keyBytes)+1), key), '\n')
	defer clear(line)
	if _, err := f.Write(line); err != nil {
		return nil, err
	}
	return r, f.Sync()
}

func (e *exportation) print(r *ipc.ExportAccountResult) error {
	raw, err := json.Marshal(exported{r.WalletID, r.Account, r.Address, e.out, r.AttemptsLeft})
	if err != nil {
		return err
	}
	return e.app.print(raw, func() string {
		var t sheet
		t.add("address", r.Address)
		t.add("account", fmt.Sprint(r.Account))
		t.add("wallet", r.WalletID.String())
		t.add("private key", "in "+e.out)
		t.addf("attempts left", "%d", r.AttemptsLeft)
		return t.String()
	})
}
