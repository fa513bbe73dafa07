package wallet_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"testing"

	"github.com/sigild/sigild/daemon/policy"
	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/wallet"
)

type receiptRequest struct {
	method string
	ask    func(context.Context) (*wallet.Receipt, error)
}

// withReceipts are the requests that a receipt proves, in an order in which the
// wallet allows them.
func withReceipts(b *bench, id seal.ID) []receiptRequest {
	const next = "837261"
	digest := func(text string) [32]byte { return sha256.Sum256([]byte(text)) }
	return []receiptRequest{
		{"deriveAccount", func(ctx context.Context) (*wallet.Receipt, error) {
			r, err := b.Derive(ctx, &wallet.DeriveRequest{Peer: b.peer, RequestID: "1", Wallet: id, Count: 2,
				PIN: []byte(goodPIN), Digest: digest("deriveAccount"), Repetition: wallet.Repetition{Unproven: true}})
			if err != nil {
				return nil, err
			}
			return r.Receipt, nil
		}},
		{"setPolicy", func(ctx context.Context) (*wallet.Receipt, error) {
			r, err := b.SetPolicy(ctx, &wallet.SetPolicyRequest{Peer: b.peer, RequestID: "1", Wallet: id, Policy: policy.Default(),
				PIN: []byte(goodPIN), Digest: digest("setPolicy"), Repetition: wallet.Repetition{Unproven: true}})
			if err != nil {
				return nil, err
			}
			return r.Receipt, nil
		}},
		{"changePin", func(ctx context.Context) (*wallet.Receipt, error) {
			r, err := b.ChangePIN(ctx, &wallet.ChangePINRequest{Peer: b.peer, RequestID: "1", Wallet: id,
				PIN: []byte(goodPIN), NewPIN: []byte(next), Digest: digest("changePin"), Repetition: wallet.Repetition{Unproven: true}})
			if err != nil {
				return nil, err
			}
			return r.Receipt, nil
		}},
		{"deleteWallet", func(ctx context.Context) (*wallet.Receipt, error) {
			r, err := b.Delete(ctx, &wallet.DeleteRequest{Actor: wallet.Actor{Peer: b.peer}, RequestID: "1", Wallet: id,
				PIN: []byte(next), Digest: digest("deleteWallet"), Repetition: wallet.Repetition{Unproven: true}})
			if err != nil {
				return nil, err
			}
			return r.Receipt, nil
		}},
	}
}

// Every receipt is signed by the identity key over what was asked and done, and
// a repetition gets the same statement, signed too.
func TestReceiptsAreSigned(t *testing.T) {
	b := newBench(t)
	created := b.create(t, "createWallet")
	id := created.Info.Header.Wallet
	b.checkReceipt(t, "createWallet", id, created.Receipt)
	for _, r := range withReceipts(b, id) {
		first, err := r.ask(t.Context())
		if err != nil {
			t.Fatalf("%s: %v", r.method, err)
		}
		again, err := r.ask(t.Context())
		if err != nil || again.Statement != first.Statement {
			t.Fatalf("%s again: %+v, %v", r.method, again, err)
		}
		b.checkReceipt(t, r.method, id, first)
		b.checkReceipt(t, r.method, id, again)
	}
}

func (b *bench) checkReceipt(t *testing.T, method string, id seal.ID, r *wallet.Receipt) {
	t.Helper()
	digest := sha256.Sum256([]byte(wallet.ReceiptLabel + r.Statement))
	if !ecdsa.VerifyASN1(&b.token.identity.PublicKey, digest[:], r.Signature) {
		t.Errorf("%s: the receipt's signature is not the identity key's", method)
	}
	var s wallet.Statement
	if err := json.Unmarshal([]byte(r.Statement), &s); err != nil {
		t.Fatal(err)
	}
	asked := sha256.Sum256([]byte(method))
	if s.Method != method || s.Wallet != "0x"+hex.EncodeToString(id[:]) || s.RequestDigest != "0x"+hex.EncodeToString(asked[:]) {
		t.Errorf("%s: the receipt says %+v", method, s)
	}
}
