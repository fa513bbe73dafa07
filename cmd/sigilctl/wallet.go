package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sigild/sigild/ipc"
)

func (a *app) createCommand() *cobra.Command {
	var owner, label string
	var pin pinSource
	var request requestID
	c := &cobra.Command{
		Use:     "create --owner OWNER",
		Short:   "Make a wallet",
		Example: "  sigilctl wallet create --owner user-17 --label savings",
		Args:    arguments(),
	}
	c.RunE = func(c *cobra.Command, _ []string) error {
		if owner == "" {
			return usage(c, "--owner is missing: whose wallet will it be?")
		}
		if err := pin.check(c, false); err != nil {
			return err
		}
		if err := request.show(c, a); err != nil {
			return err
		}
		return request.retry(a.create(c, &pin, ipc.CreateWalletParams{RequestID: request.id, Owner: owner, Label: label}))
	}
	c.Flags().StringVar(&owner, "owner", "", "the user whose wallet it will be (required)")
	c.Flags().StringVar(&label, "label", "", "a name for people")
	pin.flag(c)
	request.flag(c)
	return c
}

func (a *app) create(c *cobra.Command, source *pinSource, p ipc.CreateWalletParams) error {
	ctx := c.Context()
	client, err := a.connectForPIN(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	pin, err := source.newPIN(ctx)
	defer clear(pin)
	if err != nil {
		return err
	}
	p.PIN = pin
	r, raw, err := call[ipc.CreateWalletResult](ctx, a, client, ipc.MethodCreateWallet, p)
	if err != nil {
		return err
	}
	return a.print(raw, func() string {
		t := walletText(&r.Wallet)
		if r.Existing {
			t.add("existing", "yes: an earlier request with this id made it, and its PIN stays")
		}
		addReceipt(t, r.Receipt)
		return t.String()
	})
}

func (a *app) showCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show WALLET|ADDRESS",
		Short: "Show one wallet, by its id or one of its addresses",
		Args:  arguments("WALLET|ADDRESS"),
		RunE: func(c *cobra.Command, args []string) error {
			t, err := parseTarget(c, args[0])
			if err != nil {
				return err
			}
			w, raw, err := query[ipc.WalletInfo](c.Context(), a, ipc.MethodGetWallet,
				ipc.GetWalletParams{WalletID: t.wallet, Address: t.address})
			if err != nil {
				return err
			}
			return a.print(raw, func() string { return walletText(w).String() })
		},
	}
}

func walletText(w *ipc.WalletInfo) *sheet {
	t := new(sheet)
	t.add("wallet", w.WalletID.String())
	t.add("state", w.State)
	t.add("owner", w.Owner)
	t.add("label", w.Label)
	t.add("created", moment(w.CreatedAt))
	t.addf("attempts left", "%d", w.AttemptsLeft)
	t.add("custody", w.Custody)
	t.add("exportable", yesNo(w.Exportable))
	for i := range w.Accounts {
		addAccount(t, &w.Accounts[i])
	}
	for _, p := range w.Provenance {
		t.add("provenance", provenanceText(p))
	}
	t.add("left out", strings.Join(w.Dropped, ", "))
	return t
}

func addAccount(t *sheet, account *ipc.AccountInfo) {
	t.addf(fmt.Sprintf("account %d", account.Index), "%s (%s, %s)", account.Address, account.Curve, account.Custody)
	t.add("public key", account.PublicKey.String())
}

// provenanceText is such as "kms 64 bytes, request 5b1e…, eu-central-1, time".
func provenanceText(p ipc.ProvenanceRecord) string {
	request := p.RequestID
	if request != "" {
		request = "request " + request
	}
	return joined(", ", fmt.Sprintf("%s %d bytes", p.Source, p.Count), request, p.Region,
		joined(" ", p.Manufacturer, p.Model, p.Version), moment(p.Time))
}

func addReceipt(t *sheet, r ipc.Receipt) {
	t.add("receipt", r.Statement)
	t.add("signature", r.Signature.String())
	t.add("signed by", r.Key.String())
}

func (a *app) listCommand() *cobra.Command {
	var p ipc.ListWalletsParams
	c := &cobra.Command{
		Use:   "list",
		Short: "List the wallets",
		Args:  arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			if p.Limit < 0 {
				return usage(c, "--limit must not be negative")
			}
			return a.list(c, p.Owner, p.Limit)
		},
	}
	c.Flags().StringVar(&p.Owner, "owner", "", "only the wallets of this user")
	c.Flags().IntVar(&p.Limit, "limit", 0, "the most wallets to show (default: all)")
	return c
}

func (a *app) list(c *cobra.Command, owner string, limit int) error {
	client, err := a.connect(c.Context())
	if err != nil {
		return err
	}
	defer client.Close()
	l := listing{app: a, client: client, owner: owner, limit: limit, raw: []json.RawMessage{}}
	if err := l.read(c.Context()); err != nil {
		return err
	}
	raw, err := json.Marshal(map[string]any{"wallets": l.raw})
	if err != nil {
		return err
	}
	if err := a.print(raw, l.String); err != nil {
		return err
	}
	if l.more && !a.json {
		fmt.Fprintf(a.stderr, "there are more wallets: raise --limit\n")
	}
	return nil
}
