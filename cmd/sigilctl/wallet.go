package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sigild/sigild/ipc"
)

func (a *app) createCommand() *cobra.Command {
	var p ipc.CreateWalletParams
	var policy string
	var pin pinSource
	var request requestID
	c := &cobra.Command{
		Use:     "create --owner OWNER",
		Short:   "Make a wallet",
		Example: "  sigilctl wallet create --owner user-17 --label savings",
		Args:    arguments(),
	}
	c.RunE = func(c *cobra.Command, _ []string) error {
		if p.Owner == "" {
			return usage(c, "--owner is missing: whose wallet will it be?")
		}
		if err := pin.check(c, policy == fromStdin); err != nil {
			return err
		}
		if policy != "" {
			var err error
			if p.Policy, err = a.readPolicy(c, policy); err != nil {
				return err
			}
		}
		if err := request.show(c, a); err != nil {
			return err
		}
		p.RequestID = request.id
		return request.retry(a.create(c, &pin, p))
	}
	c.Flags().StringVar(&p.Owner, "owner", "", "the user whose wallet it will be (required)")
	c.Flags().StringVar(&p.Label, "label", "", "a name for people")
	c.Flags().StringVar(&p.ExternalID, "external-id", "", "your own name for the wallet; no two have the same")
	c.Flags().StringArrayVar(&p.Tags, "tag", nil, "a `WORD` to find it by; may be repeated")
	c.Flags().StringVar(&policy, "policy", "", "a `FILE`, or - for standard input, with what the wallet may sign (see policy set)")
	c.Flags().BoolVar(&p.Exportable, "exportable", false, exportableHelp)
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
	pin, err := source.newPIN(ctx, "PIN of the new wallet")
	defer clear(pin)
	if err != nil {
		return err
	}
	p.PIN = pin
	return a.sendCreation(ctx, client, ipc.MethodCreateWallet, p)
}

// sendCreation calls a method that makes a wallet.
func (a *app) sendCreation(ctx context.Context, client *ipc.Client, method string, params any) error {
	r, raw, err := call[ipc.CreateWalletResult](ctx, a, client, method, params)
	if err != nil {
		return err
	}
	return a.print(raw, func() string {
		t := walletText(&r.Wallet)
		if r.Existing {
			t.add("existing", "yes: an earlier request with this id made it, with this PIN")
		}
		addReceipt(t, r.Receipt)
		return t.String()
	})
}

func (a *app) showCommand() *cobra.Command {
	var externalID string
	c := &cobra.Command{
		Use:               "show WALLET|ADDRESS | --external-id ID",
		Short:             "Show one wallet, by its id, one of its addresses or your own name for it",
		ValidArgsFunction: a.completeWallet,
	}
	c.Args = func(c *cobra.Command, args []string) error {
		if c.Flags().Changed("external-id") == (len(args) == 0) && len(args) <= 1 {
			return nil
		}
		return usage(c, "%s takes either WALLET|ADDRESS or --external-id", c.CommandPath())
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		p := ipc.GetWalletParams{ExternalID: externalID}
		if len(args) == 1 {
			t, err := parseTarget(c, args[0])
			if err != nil {
				return err
			}
			p.WalletID, p.Address = t.wallet, t.address
		}
		w, raw, err := query[ipc.WalletInfo](c.Context(), a, ipc.MethodGetWallet, p)
		if err != nil {
			return err
		}
		return a.print(raw, func() string { return walletText(w).String() })
	}
	c.Flags().StringVar(&externalID, "external-id", "", "your own name for the wallet")
	return c
}

func walletText(w *ipc.WalletInfo) *sheet {
	t := new(sheet)
	t.add("wallet", w.WalletID.String())
	t.add("state", stateText(w))
	t.add("owner", w.Owner)
	t.add("label", w.Label)
	t.add("external id", w.ExternalID)
	t.add("tags", strings.Join(w.Tags, ", "))
	t.add("created", moment(w.CreatedAt))
	t.addf("attempts left", "%d", w.AttemptsLeft)
	if w.PINSetAt != nil {
		t.add("PIN set", moment(*w.PINSetAt))
	}
	t.add("custody", w.Custody)
	t.add("exportable", yesNo(w.Exportable))
	if w.ExportedAt != nil {
		t.add("exported", moment(*w.ExportedAt)+": a key of it exists elsewhere")
	}
	for i := range w.Accounts {
		addAccount(t, &w.Accounts[i])
	}
	if w.Policy != nil {
		addPolicy(t, w.Policy)
	}
	for _, p := range w.Provenance {
		t.add("provenance", provenanceText(p))
	}
	t.add("left out", strings.Join(w.Dropped, ", "))
	return t
}

func addAccount(t *sheet, account *ipc.AccountInfo) {
	t.add(fmt.Sprintf("account %d", account.Index), joined(" ",
		fmt.Sprintf("%s (%s, %s)", account.Address, account.Curve, account.Custody), account.Label))
	t.add("public key", account.PublicKey.String())
	if account.ExportedAt != nil {
		t.add("exported", moment(*account.ExportedAt))
	}
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

// stateText says since when a wallet does not sign, and by whom.
func stateText(w *ipc.WalletInfo) string {
	switch {
	case w.State == "frozen" && w.FrozenAt != nil:
		by := "the " + w.FrozenBy
		if w.FrozenBy == byAll {
			by = "freeze --all"
		}
		return joined(" ", "frozen since", moment(*w.FrozenAt), "by", by)
	case w.State == "deleted" && w.DeletedAt != nil:
		return "deleted at " + moment(*w.DeletedAt)
	}
	return w.State
}
