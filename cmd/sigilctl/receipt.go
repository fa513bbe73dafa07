package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/json"

	"github.com/spf13/cobra"

	"github.com/sigild/sigild/ipc"
)

const (
	// receiptLabel stands before a statement in what the identity key signs.
	receiptLabel = "sigild/receipt/v1\n"
	// maxReceipt is the size of the largest file with a receipt, in bytes.
	maxReceipt = 1 << 20

	reasonReceipt = "receiptInvalid"
)

func (a *app) verifyReceiptCommand() *cobra.Command {
	var key string
	c := &cobra.Command{
		Use:   "verify [FILE|-]",
		Short: "Verify a receipt, without the daemon",
		Long: `Verify a receipt, which FILE (default: standard input) holds by itself or inside a
result, as wallet create --json prints it. The key is the installation's identity
key: that of --key or --identity, or the one remembered for --socket (sigilctl
trust). One that comes with the receipt proves nothing.`,
		Example: "  sigilctl receipt verify created.json --key 0x04…",
		Args:    cobra.MaximumNArgs(1),
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		public, err := a.receiptKey(c, key)
		if err != nil {
			return err
		}
		text, err := a.readFile(c, append(args, fromStdin)[0], maxReceipt)
		if err != nil {
			return err
		}
		r, err := findReceipt(c, text)
		if err != nil {
			return err
		}
		if err := verifyReceipt(r, public); err != nil {
			return err
		}
		return a.printReceipt(r)
	}
	c.Flags().StringVar(&key, "key", "", "the identity `KEY`: 0x04 and 128 hexadecimal digits")
	return c
}

// receiptKey is the identity key that --key gives, or the pinned one: an
// uncompressed P-256 point (SEC 1, section 2.3.4).
func (a *app) receiptKey(c *cobra.Command, text string) (*ecdsa.PublicKey, error) {
	var point ipc.Hex
	var err error
	if text != "" {
		err = point.UnmarshalText([]byte(text))
	} else if point, err = a.pinnedIdentity(); err != nil {
		return nil, err
	}
	if err == nil && point == nil {
		return nil, usage(c, "no identity key is known: give --key, or remember the daemon's by sigilctl trust")
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return nil, usage(c, "this is not an identity key: 0x04 and 128 hexadecimal digits")
	}
	return key, nil
}

// pinnedIdentity is the key that is trusted without asking the daemon, or nil.
func (a *app) pinnedIdentity() (ipc.Hex, error) {
	if key, err := a.givenIdentity(); key != nil || err != nil {
		return key, err
	}
	file, err := knownFile()
	if err != nil {
		return nil, err
	}
	return file.lookup(a.socket)
}

// findReceipt takes a receipt, or an object with a member "receipt".
func findReceipt(c *cobra.Command, text []byte) (*ipc.Receipt, error) {
	var o struct {
		ipc.Receipt
		Inner *ipc.Receipt `json:"receipt"`
	}
	if err := json.Unmarshal(text, &o); err != nil {
		return nil, usage(c, "the receipt is not one JSON object of this kind")
	}
	r := &o.Receipt
	if o.Inner != nil {
		r = o.Inner
	}
	if r.Statement == "" || len(r.Signature) == 0 {
		return nil, usage(c, "there is no receipt: an object with statement and signature")
	}
	return r, nil
}

// verifyReceipt checks ECDSA P-256 with SHA-256 over receiptLabel ‖ statement.
func verifyReceipt(r *ipc.Receipt, key *ecdsa.PublicKey) error {
	digest := sha256.Sum256([]byte(receiptLabel + r.Statement))
	if ecdsa.VerifyASN1(key, digest[:], r.Signature) {
		return nil
	}
	pinned, err := key.Bytes()
	if err != nil || len(r.Key) > 0 && !bytes.Equal(r.Key, pinned) {
		return fail(exitFailed, reasonReceipt, "it comes from another installation, or --key is wrong",
			"the receipt was not signed by this key, and names another one")
	}
	return fail(exitFailed, reasonReceipt, "do not believe it: it was changed, or never made by this installation",
		"the receipt was not signed by this key")
}

func (a *app) printReceipt(r *ipc.Receipt) error {
	statement := json.RawMessage(r.Statement)
	if !json.Valid(statement) {
		return fail(exitFailed, reasonReceipt, "", "the signature is right, but the statement is not JSON")
	}
	raw, err := json.Marshal(map[string]any{"valid": true, "statement": statement})
	if err != nil {
		return err
	}
	return a.print(raw, func() string {
		var t sheet
		t.add("valid", "yes: this key signed it")
		flatten(&t, "statement", statement)
		return t.String()
	})
}
