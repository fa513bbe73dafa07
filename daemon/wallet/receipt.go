package wallet

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"

	"github.com/sigild/sigild/daemon/seal"
)

// ReceiptLabel stands before a statement in what the identity key signs.
const ReceiptLabel = "sigild/receipt/v1\n"

// Receipt is a signed statement of what a request made. The signature is
// ECDSA P-256 with SHA-256 (ASN.1 DER) over ReceiptLabel ‖ Statement.
type Receipt struct {
	Statement string // Statement as JSON; verify these bytes, then parse them
	Signature []byte
}

// Statement is what a receipt says.
type Statement struct {
	Method        string `json:"method"`
	Installation  string `json:"installation"`
	RequestDigest string `json:"requestDigest"`
	Wallet        string `json:"walletId"`
	Account       uint32 `json:"account"`
	Address       string `json:"address"`
	PublicKey     string `json:"publicKey"`
	Time          string `json:"time"`
	// Accounts are all that the request made, when it could make several;
	// Account, Address and PublicKey are those of the first.
	Accounts []StatedAccount `json:"accounts,omitempty"`
}

// StatedAccount is one account in a receipt.
type StatedAccount struct {
	Account   uint32 `json:"account"`
	Address   string `json:"address"`
	PublicKey string `json:"publicKey"`
}

// receipt signs what is stored for a request, so that a repeated request gets
// the same statement again.
func (s *Service) receipt(ctx context.Context, method string, d *done, info *Info) (*Receipt, error) {
	return s.receiptFor(ctx, method, d, info, 0)
}

// receiptFor is receipt with a list of the count accounts that were made.
func (s *Service) receiptFor(ctx context.Context, method string, d *done, info *Info, count int) (*Receipt, error) {
	last := int64(d.Account) + int64(max(count, 1))
	if last > int64(len(info.Header.Accounts)) {
		return nil, seal.ErrCorrupt
	}
	a := info.Header.Accounts[d.Account]
	var made []StatedAccount
	for _, a := range info.Header.Accounts[d.Account:last] {
		made = append(made, StatedAccount{a.Index, hexText(a.Address), hexText(a.Public)})
	}
	if count == 0 {
		made = nil
	}
	text, err := json.Marshal(Statement{
		Accounts: made,
		Method:   method, Installation: hexText(s.Installation[:]), RequestDigest: hexText(d.Digest[:]),
		Wallet: hexText(d.Wallet[:]), Account: d.Account, Address: hexText(a.Address),
		PublicKey: hexText(a.Public), Time: time.Unix(d.Time, 0).UTC().Format(time.RFC3339),
	})
	if err != nil {
		return nil, err
	}
	sig, err := s.Token.SignReceipt(ctx, sha256.Sum256(append([]byte(ReceiptLabel), text...)))
	if err != nil {
		return nil, err
	}
	return &Receipt{Statement: string(text), Signature: sig}, nil
}

func hexText(b []byte) string { return "0x" + hex.EncodeToString(b) }
