package ipc

import (
	"context"
	"fmt"

	"github.com/sigild/sigild/daemon/channel"
)

// ImportWallet calls sigild_importWallet. The caller wipes the PIN and the key.
func (c *Client) ImportWallet(ctx context.Context, p ImportWalletParams) (*CreateWalletResult, error) {
	return invoke[CreateWalletResult](ctx, c, MethodImportWallet, p)
}

// ExportAccount calls sigild_exportAccount and opens the answer: it makes a key
// pair for this one call, and sets p.Recipient. It returns the private key of the
// account, 32 bytes, big endian, which the caller wipes, as it does the PIN. The
// daemon has proven that it answers this request, and checked that the key is the
// address's.
//
// For a key that somebody else shall open, Call sigild_exportAccount with their
// Recipient.
func (c *Client) ExportAccount(ctx context.Context, p ExportAccountParams) (Secret, *ExportAccountResult, error) {
	recipient, err := channel.NewRecipient()
	if err != nil {
		return nil, nil, err
	}
	p.Recipient = recipient.Public()
	digest, err := requestDigest(p)
	if err != nil {
		return nil, nil, err
	}
	if c.pins.identity == nil {
		return nil, nil, ErrNoIdentity
	}
	key, err := c.pinKey(ctx)
	if err != nil {
		return nil, nil, err
	}
	r, err := invoke[ExportAccountResult](ctx, c, MethodExportAccount, p)
	if err != nil {
		return nil, nil, err
	}
	secret, err := r.open(recipient, key.Installation, digest)
	if err != nil {
		return nil, nil, err
	}
	return secret, r, nil
}

// requestDigest is what the daemon binds to the answer of a request.
func requestDigest(params any) (digest [32]byte, err error) {
	_, err = encoder{seal: func(public []byte, secrets []namedSecret) (body []byte, err error) {
		body, digest, err = sealedBody(public, secrets)
		return body, err
	}}.params(params)
	return digest, err
}

// open gives the private key in an answer that was proven.
func (r *ExportAccountResult) open(recipient *channel.Recipient, installation channel.ID, digest [32]byte) (Secret, error) {
	e := channel.Export{Installation: installation, Account: r.Account, Digest: digest}
	var address Hex
	if err := address.UnmarshalText([]byte(r.Address)); err != nil || len(address) != len(e.Address) || len(r.WalletID) != len(e.Wallet) {
		return nil, fmt.Errorf("%w: wallet or address of an export", ErrProtocol)
	}
	e.Wallet, e.Address = channel.ID(r.WalletID), [20]byte(address)
	key, err := recipient.Open(&e, &channel.SealedKey{Enc: r.Key.Enc, Ciphertext: r.Key.Ciphertext})
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrProtocol, err)
	}
	return key, nil
}
