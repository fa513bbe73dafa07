package eth

import (
	"encoding/json"
	"math/big"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
)

// Transaction is a complete transaction that only lacks its signature. It is
// made by ParseTransaction and never changed.
type Transaction struct {
	tx     *types.Transaction
	signer types.Signer
	from   *common.Address
	digest [32]byte
	facts  Facts
}

// ParseTransaction reads a transaction in the field names of Ethereum JSON-RPC.
// Nothing is filled in or estimated, except that an absent value is 0, absent
// data is empty and an absent access list has no entries.
//
//   - All types: chainId (always; legacy transactions are signed with the replay
//     protection of EIP-155 only), nonce, gas or gasLimit (equal, if both are
//     given), to, value, data or input (equal, if both are given), from.
//   - "type" may be left out: maxFeePerGas or maxPriorityFeePerGas mean 0x2,
//     gasPrice with accessList 0x1, gasPrice alone 0x0, any blob field 0x3,
//     authorizationList 0x4. A field that the type does not have is an error.
//   - 0x0 and 0x1 need gasPrice, 0x2 to 0x4 maxFeePerGas and
//     maxPriorityFeePerGas, the latter not above the former.
//   - Without "to" it creates a contract, and its data must be given and not be
//     empty. Types 0x3 and 0x4 cannot create contracts.
//   - 0x3 (EIP-4844) needs maxFeePerBlobGas and blobVersionedHashes, and takes
//     the sidecar: blobs, commitments and proofs, one proof per blob (version 0)
//     or 128 cell proofs per blob (version 1, EIP-7594). A sidecar is verified,
//     which takes some 4 ms a blob in version 0 and 30 ms in version 1; the first
//     in a process takes seconds, in which go-ethereum loads the trusted setup.
//   - 0x4 (EIP-7702) needs authorizationList, of signed authorizations that are
//     for the transaction's chain or all; CheckAuthorizations looks at the
//     signatures.
//
// The gas limit must not be 0; what least gas a chain asks for is the chain's
// matter (21,000 until EIP-2780 lowers it). Value and gas together must not
// exceed 2^256-1 wei, which no account can hold.
//
// Errors are of type *FieldError with paths below "transaction".
func ParseTransaction(raw json.RawMessage) (*Transaction, error) {
	transaction, err := parseTransaction(raw)
	if err != nil {
		return nil, at("transaction", err)
	}
	return transaction, nil
}

func parseTransaction(raw json.RawMessage) (*Transaction, error) {
	tree, err := parseJSON(raw)
	if err != nil {
		return nil, err
	}
	f, err := rootFields(tree, allFields())
	if err != nil {
		return nil, err
	}
	body, err := parseBody(f)
	if err != nil {
		return nil, err
	}
	data, err := body.txData(f)
	if err != nil {
		return nil, err
	}
	return newTransaction(types.NewTx(data), body)
}

func newTransaction(tx *types.Transaction, b body) (*Transaction, error) {
	cost := tx.Cost()
	if cost.BitLen() > 256 {
		return nil, problem("costs more than 2^256-1 wei: value and gas at the highest price are more than any account can hold")
	}
	signer := types.LatestSignerForChainID(new(big.Int).SetUint64(b.chainID))
	return &Transaction{tx: tx, signer: signer, from: b.from, digest: signer.Hash(tx), facts: transactionFacts(tx, b, cost)}, nil
}

// CheckAuthorizations refuses an authorization that no account has signed, which
// the chain would skip. Each costs the recovery of a key, some 0.1 ms: this is for
// after it is known that the caller may use the account. Errors are as those of
// ParseTransaction.
func (t *Transaction) CheckAuthorizations() error {
	for i, authorization := range t.tx.SetCodeAuthorizations() {
		if _, err := authorization.Authority(); err != nil {
			return at("transaction", at("authorizationList",
				atIndex(i, problem("is not signed by any account: r, s and yParity do not recover to an address"))))
		}
	}
	return nil
}

// SigningDigest returns the 32 bytes to sign: Keccak-256 of the unsigned
// transaction's encoding (EIP-155 for type 0x0, EIP-2718 for the others).
func (t *Transaction) SigningDigest() [32]byte { return t.digest }

// From returns the sender that the caller named, or nil. WithSignature refuses
// to be signed by any other.
func (t *Transaction) From() *common.Address { return copyAddress(t.from) }

// Facts returns what a policy may decide on.
func (t *Transaction) Facts() Facts { return t.facts.clone() }

func copyAddress(address *common.Address) *common.Address {
	if address == nil {
		return nil
	}
	clone := *address
	return &clone
}
