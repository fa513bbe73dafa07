package eth

import (
	"math/big"
	"slices"

	"github.com/ethereum/go-ethereum/core/types"
)

// transactionFacts reads the facts from the very transaction that was hashed.
func transactionFacts(tx *types.Transaction, b body, cost *big.Int) Facts {
	facts := Facts{
		Operation:        OperationTransaction,
		ContractCreation: tx.To() == nil,
		Value:            tx.Value(),
		MaxCost:          cost,
		Delegates:        tx.Type() == types.SetCodeTxType,
	}
	if to := tx.To(); to != nil {
		facts.Recipient = lowerHex(*to)
	}
	facts.setChain(b.chainID)
	facts.setCallData(tx.Data())
	if facts.ContractCreation {
		facts.Selector = nil // init code is run, not called
	}
	return facts
}

// clone copies what the facts refer to, so that no caller can change those of
// another.
func (f Facts) clone() Facts {
	f.Value, f.MaxCost = copyNumber(f.Value), copyNumber(f.MaxCost)
	f.Selector = slices.Clone(f.Selector)
	return f
}

func copyNumber(number *big.Int) *big.Int {
	if number == nil {
		return nil
	}
	return new(big.Int).Set(number)
}
