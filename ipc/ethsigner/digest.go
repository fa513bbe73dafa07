package ethsigner

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"encoding/asn1"
	"errors"
	"io"
	"math/big"
	"slices"

	ethcrypto "github.com/ethereum/go-ethereum/crypto"

	"github.com/sigild/sigild/ipc"
)

// ErrRawDigest is returned when the wallet's policy does not allow "rawDigest",
// which a crypto.Signer needs: who may have any 32 bytes signed may do anything
// with the account.
var ErrRawDigest = errors.New(`ethsigner: the wallet's policy does not allow raw digests ("rawDigest")`)

// ErrDigest is returned by a DigestSigner for a digest that is not of 32 bytes.
var ErrDigest = errors.New("ethsigner: a digest of 32 bytes is needed")

// A DigestSigner signs digests by ECDSA on secp256k1. It is a crypto.Signer.
type DigestSigner struct {
	account *Account
	ctx     context.Context
	public  *ecdsa.PublicKey
}

var _ crypto.Signer = (*DigestSigner)(nil)

// Digests returns the account as a crypto.Signer, after a look at its public key
// and its wallet's policy. crypto.Signer takes no context, so that ctx bounds
// this call and every signature.
func (a *Account) Digests(ctx context.Context) (*DigestSigner, error) {
	w, err := a.client.GetWallet(ctx, ipc.GetWalletParams{Address: a.address.Hex()})
	if err != nil {
		return nil, err
	}
	if w.Policy == nil || !slices.Contains(w.Policy.Operations, "rawDigest") {
		return nil, ErrRawDigest
	}
	for _, account := range w.Accounts {
		key, err := ethcrypto.UnmarshalPubkey(account.PublicKey)
		if err == nil && ethcrypto.PubkeyToAddress(*key) == a.address {
			return &DigestSigner{account: a, ctx: ctx, public: key}, nil
		}
	}
	return nil, ErrAnswer
}

// Public returns the *ecdsa.PublicKey, on go-ethereum's curve S256.
func (s *DigestSigner) Public() crypto.PublicKey { return s.public }

// Sign signs a digest of 32 bytes and returns r and s in ASN.1 DER, s in the
// lower half of the order. The token makes the nonce: the reader is not used.
func (s *DigestSigner) Sign(_ io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	if len(digest) != 32 || (o != nil && o.HashFunc() != 0 && o.HashFunc().Size() != len(digest)) {
		return nil, ErrDigest
	}
	out, err := ask(s.ctx, s.account, func(pin ipc.Secret) (*ipc.SignPayloadResult, error) {
		return s.account.client.SignDigest(s.ctx, ipc.SignDigestParams{Address: s.account.address.Hex(), Digest: digest, PIN: pin})
	})
	if err != nil {
		return nil, err
	}
	signature, err := s.account.checked(digest, out.Signature)
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:64])})
}
