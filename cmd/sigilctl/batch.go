package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sigild/sigild/ipc"
)

func (a *app) signBatchCommand() *cobra.Command {
	s := &signing{app: a}
	c := &cobra.Command{
		Use:   "batch WALLET|ADDRESS FILE|-",
		Short: "Sign several things with one PIN, all or none",
		Long: `Sign several things with one PIN, all or none. FILE holds a JSON array; each item is an
object with one of transaction, message (in hexadecimal), typedData, authorization
and userOperation, and the account's index in account (default: 0).`,
		Example:           "  sigilctl sign batch 0x5290…2ba9 items.json",
		Args:              arguments("WALLET|ADDRESS", "FILE|-"),
		ValidArgsFunction: a.completeWalletThenFile,
	}
	c.RunE = s.runFile(s.batch)
	s.common(c)
	return c
}

func (s *signing) batch(c *cobra.Command, t target, raw []byte) error {
	var items []ipc.BatchItem
	if err := strict(raw, &items); err != nil {
		return usage(c, "the batch: %v", err)
	}
	if len(items) == 0 {
		return usage(c, "the batch is empty")
	}
	text, err := batchText(t, items)
	if err != nil {
		return err
	}
	return s.authorise(c.Context(), t, text, func(client *ipc.Client, pin ipc.Secret) error {
		id, err := s.app.walletOf(c.Context(), client, t)
		if err != nil {
			return err
		}
		r, raw, err := call[ipc.SignBatchResult](c.Context(), s.app, client, ipc.MethodSignBatch,
			ipc.SignBatchParams{WalletID: id, Items: items, PIN: pin})
		if err != nil {
			return err
		}
		return s.app.print(raw, func() string { return signaturesText(r) })
	})
}

// batchText shows one item after the other.
func batchText(t target, items []ipc.BatchItem) (string, error) {
	var b strings.Builder
	for n := range items {
		text, err := itemText(&items[n], fmt.Sprintf("account %d of %s", items[n].Account, t))
		if err != nil {
			f := *explain(err)
			wire := *f.wire
			wire.Message = fmt.Sprintf("item %d of the batch: %s", n+1, wire.Message)
			f.wire = &wire
			return "", &f
		}
		fmt.Fprintf(&b, "--- %d of %d\n%s", n+1, len(items), text)
	}
	return b.String(), nil
}

func itemText(i *ipc.BatchItem, signer string) (string, error) {
	var texts []func() (string, error)
	add := func(raw json.RawMessage, describe func(json.RawMessage, string) (string, error)) {
		if raw != nil {
			texts = append(texts, func() (string, error) { return describe(raw, signer) })
		}
	}
	add(i.Transaction, describe)
	add(i.TypedData, describeTypedData)
	add(i.Authorization, describeAuthorization)
	add(i.UserOperation, describeUserOperation)
	if i.Message != nil {
		texts = append(texts, func() (string, error) { return messageText(*i.Message, signer), nil })
	}
	if len(texts) != 1 {
		return "", fail(exitUsage, reasonUsage, "", "it must have exactly one of transaction, message, typedData, authorization and userOperation")
	}
	return texts[0]()
}

func signaturesText(r *ipc.SignBatchResult) string {
	var t sheet
	for n, s := range r.Signatures {
		t.addf("item", "%d of %d", n+1, len(r.Signatures))
		t.add("signature", s.Signature.String())
		t.add("digest", s.Digest.String())
		if s.Raw != nil {
			t.add("hash", s.Hash.String())
			t.add("raw", s.Raw.String())
		}
		t.add("signed", compacted(s.Signed))
	}
	t.addf("attempts left", "%d", r.AttemptsLeft)
	return t.String()
}
