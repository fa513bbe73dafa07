package eth

import (
	"math/big"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
)

// CheckSignature returns nil if (r, s) with recovery id recid is a signature
// over digest by the key of signer, in the one form that Ethereum accepts: low
// S, recovery id 0 or 1. It returns ErrInvalidSignature or ErrWrongSigner if it
// is not. r and s are big-endian.
func CheckSignature(digest, r, s [32]byte, recid byte, signer common.Address) error {
	if err := checkRange(r, s, recid); err != nil {
		return err
	}
	compact := compactSignature(r, s, recid)
	pub, err := crypto.SigToPub(digest[:], compact[:])
	if err != nil {
		return ErrInvalidSignature
	}
	if crypto.PubkeyToAddress(*pub) != signer {
		return ErrWrongSigner
	}
	return nil
}

// SignatureBytes returns the 65 bytes r ‖ s ‖ v, v = 27 + recid, in which
// signatures over messages, typed data and user operations are written. It
// returns ErrInvalidSignature for values out of range, and does not know who
// signed: see CheckSignature.
func SignatureBytes(r, s [32]byte, recid byte) ([]byte, error) {
	if err := checkRange(r, s, recid); err != nil {
		return nil, err
	}
	compact := compactSignature(r, s, recid+27)
	return compact[:], nil
}

func checkRange(r, s [32]byte, recid byte) error {
	const homestead = true // low S only, EIP-2
	bigR, bigS := new(big.Int).SetBytes(r[:]), new(big.Int).SetBytes(s[:])
	if recid > 1 || !crypto.ValidateSignatureValues(recid, bigR, bigS, homestead) {
		return ErrInvalidSignature
	}
	return nil
}

func compactSignature(r, s [32]byte, v byte) (signature [65]byte) {
	copy(signature[:32], r[:])
	copy(signature[32:64], s[:])
	signature[64] = v
	return signature
}
