package eth

import (
	"encoding/json"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/holiman/uint256"
)

// maxAuthorizations bounds the authorizations of one transaction. Each costs
// one signature recovery (CheckAuthorizations) and 25,000 gas on the chain.
const maxAuthorizations = 256

// Authorization is an unsigned EIP-7702 authorization: who signs it lets the
// code at an address act as their account, until they sign another.
type Authorization struct {
	tuple types.SetCodeAuthorization
}

// ParseAuthorization reads the object {chainId, address, nonce}. All three are
// required. Chain id 0 makes the authorization valid on every chain, which the
// facts show as AllChains; the zero address takes a delegation back.
//
// Errors are of type *FieldError with paths below "authorization".
func ParseAuthorization(raw json.RawMessage) (*Authorization, error) {
	tree, err := parseJSON(raw)
	if err != nil {
		return nil, at("authorization", err)
	}
	f, err := exactFields(tree, "chainId", "address", "nonce")
	if err != nil {
		return nil, at("authorization", err)
	}
	tuple, err := authorizationTuple(f)
	if err != nil {
		return nil, at("authorization", err)
	}
	return &Authorization{tuple: tuple}, nil
}

func authorizationTuple(f fields) (tuple types.SetCodeAuthorization, err error) {
	chainID, err := read(f, "chainId", value.chainID)
	if err != nil {
		return tuple, err
	}
	tuple.ChainID = *uint256.NewInt(chainID)
	if tuple.Address, err = read(f, "address", value.address); err != nil {
		return tuple, err
	}
	tuple.Nonce, err = read(f, "nonce", value.nonce)
	return tuple, err
}

// SigningDigest returns the 32 bytes to sign: Keccak-256 over 0x05 ‖
// rlp([chain id, address, nonce]) (EIP-7702).
func (a *Authorization) SigningDigest() [32]byte { return a.tuple.SigHash() }

// Facts returns what a policy may decide on. The recipient is the contract that
// is delegated to.
func (a *Authorization) Facts() Facts {
	facts := Facts{
		Operation: OperationAuthorization,
		AllChains: a.tuple.ChainID.IsZero(),
		Recipient: lowerHex(a.tuple.Address),
	}
	if !facts.AllChains {
		facts.setChain(a.tuple.ChainID.Uint64())
	}
	return facts
}

// WithSignature returns the signed authorization as the JSON object {chainId,
// address, nonce, yParity, r, s}, which fits into a transaction's
// authorizationList. The signature is checked as CheckSignature does.
func (a *Authorization) WithSignature(r, s [32]byte, recid byte, signer common.Address) (json.RawMessage, error) {
	if err := CheckSignature(a.SigningDigest(), r, s, recid, signer); err != nil {
		return nil, err
	}
	signed := a.tuple
	signed.V = recid
	signed.R.SetBytes(r[:])
	signed.S.SetBytes(s[:])
	return json.Marshal(signed)
}

// authorizationList reads the signed authorizations of a type 0x4 transaction.
func (b *body) authorizationList(v value) ([]types.SetCodeAuthorization, error) {
	if v.kind == list && len(v.items) == 0 {
		return nil, problem("must not be empty (EIP-7702)")
	}
	return each(v, maxAuthorizations, b.signedAuthorization)
}

// signedAuthorization refuses what the chain would skip: an authorization for
// another chain can only be a mistake.
func (b *body) signedAuthorization(v value) (types.SetCodeAuthorization, error) {
	var none types.SetCodeAuthorization
	f, err := exactFields(v, "chainId", "address", "nonce", "yParity", "r", "s")
	if err != nil {
		return none, err
	}
	tuple, err := authorizationTuple(f)
	if err != nil {
		return none, err
	}
	if !tuple.ChainID.IsZero() && tuple.ChainID.Uint64() != b.chainID {
		return none, at("chainId", problem("must be the transaction's chainId or 0x0"))
	}
	return withTupleSignature(f, tuple)
}

func withTupleSignature(f fields, tuple types.SetCodeAuthorization) (types.SetCodeAuthorization, error) {
	parity, err := read(f, "yParity", value.uint64)
	if err != nil {
		return tuple, err
	}
	if parity > 1 {
		return tuple, at("yParity", problem("must be 0x0 or 0x1"))
	}
	r, err := read(f, "r", value.word)
	if err != nil {
		return tuple, err
	}
	s, err := read(f, "s", value.word)
	if err != nil {
		return tuple, err
	}
	tuple.V, tuple.R, tuple.S = uint8(parity), *r, *s
	return tuple, nil
}
