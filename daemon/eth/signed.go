package eth

import (
	"encoding/json"
	"fmt"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
)

// Signed is a signed transaction. Its JSON form has the fields' names below.
type Signed struct {
	// Raw is what eth_sendRawTransaction takes: the EIP-2718 encoding, for a
	// blob transaction with a sidecar the network form that includes it.
	Raw hexutil.Bytes `json:"raw"`
	// Hash is the transaction's hash.
	Hash common.Hash `json:"hash"`
	// From is the account that signed.
	From common.Address `json:"from"`
	// Transaction is the transaction with its signature as go-ethereum's
	// eth_signTransaction shows it, without a sidecar.
	Transaction json.RawMessage `json:"transaction"`
}

// WithSignature puts the signature in, after recovering the sender from it: an
// error is returned unless that is signer, and unless signer is the
// transaction's From, where one was given. r and s are big-endian, recid is the
// recovery id 0 or 1. The errors are ErrInvalidSignature and ErrWrongSigner.
func (t *Transaction) WithSignature(r, s [32]byte, recid byte, signer common.Address) (*Signed, error) {
	if t.from != nil && *t.from != signer {
		return nil, fmt.Errorf("%w: the transaction names another sender", ErrWrongSigner)
	}
	if err := checkRange(r, s, recid); err != nil {
		return nil, err
	}
	compact := compactSignature(r, s, recid)
	tx, err := t.tx.WithSignature(t.signer, compact[:])
	if err != nil {
		return nil, ErrInvalidSignature
	}
	sender, err := types.Sender(t.signer, tx)
	if err != nil {
		return nil, ErrInvalidSignature
	}
	if sender != signer {
		return nil, ErrWrongSigner
	}
	return encodeSigned(tx, sender)
}

func encodeSigned(tx *types.Transaction, sender common.Address) (*Signed, error) {
	raw, err := tx.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("eth: the signed transaction cannot be encoded: %v", err)
	}
	shown, err := tx.WithoutBlobTxSidecar().MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("eth: the signed transaction cannot be shown: %v", err)
	}
	return &Signed{Raw: raw, Hash: tx.Hash(), From: sender, Transaction: shown}, nil
}
