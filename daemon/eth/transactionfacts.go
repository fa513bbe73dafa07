package eth

import (
	"math/big"
	"slices"

	"github.com/ethereum/go-ethereum/core/types"
)

// transactionFacts reads the facts from the very transaction that was hashed.
func transactionFacts(tx *types.Transaction, b body, cost *big.Int) (Facts, error) {
	facts := Facts{
		Operation:        OperationTransaction,
		Sender:           copyAddress(b.from),
		ContractCreation: tx.To() == nil,
		Value:            tx.Value(),
		MaxCost:          cost,
		Gas:              tx.Gas(),
		Nonce:            new(big.Int).SetUint64(tx.Nonce()),
		TransactionType:  tx.Type(),
		Blobs:            len(tx.BlobHashes()),
	}
	if to := tx.To(); to != nil {
		facts.Recipient = lowerHex(*to)
	}
	facts.setChain(b.chainID)
	facts.setCallData(tx.Data())
	if facts.ContractCreation {
		facts.Selector = nil // init code is run, not called
	}
	for i, authorization := range tx.SetCodeAuthorizations() {
		carried, err := carriedFacts(authorization)
		if err != nil {
			return Facts{}, at("authorizationList", atIndex(i, err))
		}
		facts.Authorizations = append(facts.Authorizations, carried)
	}
	return facts, nil
}

func carriedFacts(authorization types.SetCodeAuthorization) (AuthorizationFacts, error) {
	authority, err := authorization.Authority()
	if err != nil {
		return AuthorizationFacts{}, problem("is not signed by any account: r, s and yParity do not recover to an address")
	}
	facts := AuthorizationFacts{
		Authority: lowerHex(authority),
		Delegate:  lowerHex(authorization.Address),
		Nonce:     authorization.Nonce,
		AllChains: authorization.ChainID.IsZero(),
	}
	if !facts.AllChains {
		facts.Chain = caip2(authorization.ChainID.Uint64())
	}
	return facts, nil
}

// clone copies what the facts refer to, so that no caller can change those of
// another.
func (f Facts) clone() Facts {
	f.Sender = copyAddress(f.Sender)
	f.Value, f.MaxCost, f.Nonce = copyNumber(f.Value), copyNumber(f.MaxCost), copyNumber(f.Nonce)
	f.Selector = slices.Clone(f.Selector)
	f.Authorizations = slices.Clone(f.Authorizations)
	return f
}

func copyNumber(number *big.Int) *big.Int {
	if number == nil {
		return nil
	}
	return new(big.Int).Set(number)
}
