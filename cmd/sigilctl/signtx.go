package main

import (
	"github.com/spf13/cobra"

	"github.com/sigild/sigild/ipc"
)

// maxTransaction is the size of the largest transaction file, in bytes: what
// the daemon reads of a transaction at most, with room for white space.
const maxTransaction = 4 << 20

func (a *app) signTransactionCommand() *cobra.Command {
	s := &signing{app: a}
	c := &cobra.Command{
		Use:   "tx WALLET|ADDRESS FILE|-",
		Short: "Sign a transaction",
		Long: `Sign a transaction, which FILE holds as a JSON object in the field names of
Ethereum JSON-RPC, complete: nothing is filled in. It is not sent to any chain.`,
		Example: "  sigilctl sign tx 0x5290…2ba9 tx.json\n  jq .tx request.json | sigilctl sign tx 0x5290…2ba9 - --pin-fd 3 3<pin-file",
		Args:    arguments("WALLET|ADDRESS", "FILE|-"),

		ValidArgsFunction: a.completeWalletThenFile,
	}
	c.RunE = s.runFile(s.transaction)
	s.flags(c)
	return c
}

func (s *signing) transaction(c *cobra.Command, t target, tx []byte) error {
	text, err := describe(tx, s.signer(c, t))
	if err != nil {
		return err
	}
	return s.authorise(c.Context(), t, text, func(client *ipc.Client, pin ipc.Secret) error {
		p := ipc.SignTransactionParams{WalletID: t.wallet, Address: t.address, Account: s.index(c), Transaction: tx, PIN: pin}
		r, raw, err := call[ipc.SignTransactionResult](c.Context(), s.app, client, ipc.MethodSignTransaction, p)
		if err != nil {
			return err
		}
		return s.app.print(raw, func() string {
			var t sheet
			t.add("hash", r.Hash.String())
			t.add("raw", r.Raw.String())
			t.addf("attempts left", "%d", r.AttemptsLeft)
			return t.String()
		})
	})
}
