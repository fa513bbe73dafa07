package eth

import (
	"bytes"
	"math/big"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/rlp"
)

// vanityLength is how many bytes of a header's extra data come before the list of
// signers (EIP-225).
const vanityLength = 32

// cliqueHeader is a block's header without the signature of its sealer, which
// otherwise ends its extra data: 15 fields, 16 since EIP-1559.
type cliqueHeader struct {
	ParentHash, UncleHash        common.Hash
	Coinbase                     common.Address
	Root, TxHash, ReceiptHash    common.Hash
	Bloom                        types.Bloom
	Difficulty, Number           *big.Int
	GasLimit, GasUsed, Timestamp uint64
	Extra                        []byte
	MixDigest                    common.Hash
	Nonce                        types.BlockNonce
	BaseFee                      *big.Int `rlp:"optional"`
}

// CliqueHeaderDigest reads the RLP of a header that is to be sealed by clique
// (EIP-225), without a signature, and returns its digest: the Keccak-256 of that
// encoding.
//
// The encoding is that of no other payload: a legacy transaction is signed as a
// list of 6 or 9 elements, typed transactions and authorizations begin with their
// type, all else with 0x19. What EIP-225 asks of every such header is checked
// too, so that nothing but a header can be signed as one.
//
// Errors are of type *FieldError with paths below "data".
func CliqueHeaderDigest(encoded []byte) (digest [32]byte, facts Facts, err error) {
	var h cliqueHeader
	if err := rlp.DecodeBytes(encoded, &h); err != nil {
		return digest, facts, at("data", problem("is not the RLP of a block's header without fields of later forks"))
	}
	if err := h.check(encoded); err != nil {
		return digest, facts, at("data", err)
	}
	return crypto.Keccak256Hash(encoded), Facts{Operation: OperationCliqueHeader, AllChains: true, DataLength: len(encoded)}, nil
}

// check holds the header against EIP-225.
func (h *cliqueHeader) check(encoded []byte) error {
	again, err := rlp.EncodeToBytes(h)
	switch extra := len(h.Extra) - vanityLength; {
	case err != nil || !bytes.Equal(again, encoded):
		return problem("is not the one RLP encoding of the header")
	case h.UncleHash != types.EmptyUncleHash:
		return at("sha3Uncles", problem("must be that of no uncles (EIP-225)"))
	case !h.Difficulty.IsUint64() || h.Difficulty.Uint64() < 1 || h.Difficulty.Uint64() > 2:
		return at("difficulty", problem("must be 1 or 2 (EIP-225)"))
	case h.MixDigest != common.Hash{}:
		return at("mixHash", problem("must be zero (EIP-225)"))
	case h.Nonce != types.BlockNonce{} && h.Nonce != types.EncodeNonce(1<<64-1):
		return at("nonce", problem("must be all zeros or all ones (EIP-225)"))
	case extra < 0 || extra%common.AddressLength != 0:
		return at("extraData", problem("must be %d bytes and the addresses of signers, without a signature (EIP-225)", vanityLength))
	}
	return nil
}
