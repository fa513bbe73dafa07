package policy

import (
	"math/big"
	"strings"
)

// Operation is a kind of payload to sign.
type Operation string

// The operations. Their names are part of stored policies and of the wire, and
// never change.
const (
	// Transaction is a transaction of any type.
	Transaction Operation = "transaction"
	// Message is a personal message (EIP-191). It names no chain and no
	// recipient and moves nothing by itself, so that a policy's other rules do
	// not apply: listing the operation is the whole consent.
	Message Operation = "message"
	// TypedData is structured data (EIP-712). It moves no native coin by itself,
	// so that the rules on value and cost do not apply. It can, however, permit
	// a contract to move tokens.
	TypedData Operation = "typedData"
	// Authorization lets a contract's code act as the account (EIP-7702).
	Authorization Operation = "authorization"
	// UserOperation is an ERC-4337 user operation. What its call moves cannot be
	// seen, so that a policy which limits the value denies it.
	UserOperation Operation = "userOperation"
	// ValidatorData is data for one intended validator (EIP-191, version 0x00),
	// the contract that is to check it: the recipient. It names no chain, and what
	// the contract lets the signature do is the contract's affair.
	ValidatorData Operation = "validatorData"
	// CliqueHeader is the header of a block that the account seals as a signer of
	// a proof-of-authority chain (EIP-225). Like a message it names no chain and
	// no recipient and moves nothing: listing it is the whole consent.
	CliqueHeader Operation = "cliqueHeader"
	// RawDigest is 32 bytes of unknown meaning. It can be anything, so that a
	// policy which allows it cannot limit anything else: see Policy.Validate.
	RawDigest Operation = "rawDigest"
)

func (o Operation) known() bool {
	switch o {
	case Transaction, Message, TypedData, Authorization, UserOperation, ValidatorData, CliqueHeader, RawDigest:
		return true
	default:
		return false
	}
}

// Facts are what a policy decides on. They must come from the same bytes as the
// digest that is to be signed. A fact that is left out is unknown, and a rule
// that needs it does not allow.
type Facts struct {
	Operation Operation
	// Chain is the one chain on which the signature is valid, in CAIP-2 form,
	// for example "eip155:1".
	Chain string
	// AllChains says that the signature is valid on every chain.
	AllChains bool
	// Sender is the account that is to sign, in the spelling of Recipient.
	Sender string
	// Recipient is the account or contract concerned, in one spelling per
	// account: lower-case hexadecimal for eip155 chains.
	Recipient string
	// ContractCreation says that a transaction has no recipient because it
	// creates a contract.
	ContractCreation bool
	// Value is the amount moved and MaxCost that and all fees at most, both in
	// the chain's smallest unit (wei); nil means unknown.
	Value, MaxCost *big.Int
	// Selector is the first 4 bytes of the call data, nil if it is shorter.
	Selector []byte
	// DataLength is the length of the call data in bytes.
	DataLength int
	// Delegates says that the transaction gives accounts code before it runs (EIP-7702).
	Delegates bool
}

// Moved returns what the payload moves; nil means unknown. A transaction that calls
// its own sender runs the code that the account delegates to (EIP-7702), and that
// may move all there is, whatever value the transaction itself carries. Without
// call data, and authorizations, it is taken for a plain transfer, as those that replace
// a stuck transaction are.
func (f Facts) Moved() *big.Int {
	if f.Operation == Transaction && f.called() && (f.DataLength > 0 || f.Delegates) &&
		(f.Sender == "" || canonicalRecipient(f.Sender) == f.recipient()) {
		return nil
	}
	return f.Value
}

// recipient returns the recipient in the spelling of stored policies.
func (f Facts) recipient() string { return canonicalRecipient(f.Recipient) }

// canonicalRecipient folds the case of hexadecimal addresses only: other
// chains' addresses are case-sensitive.
func canonicalRecipient(recipient string) string {
	if strings.HasPrefix(recipient, "0x") || strings.HasPrefix(recipient, "0X") {
		return strings.ToLower(recipient)
	}
	return recipient
}

// unsound returns what is wrong with the facts themselves, or "".
func (f Facts) unsound() string {
	switch {
	case !f.Operation.known():
		return "the facts name no known operation"
	case f.Operation == Message || f.Operation == CliqueHeader || f.Operation == RawDigest:
		return ""
	case (f.Chain == "") != f.AllChains:
		return "the facts do not say which chain it is for"
	case negative(f.Value) || negative(f.MaxCost):
		return "the facts hold a negative amount"
	case len(f.Selector) != 0 && (len(f.Selector) != 4 || f.DataLength < 4):
		return "the facts hold a selector that does not fit the data"
	case f.DataLength < 0 || (f.DataLength >= 4 && len(f.Selector) == 0 && f.called()):
		return "the facts do not say what is called"
	case f.Operation == Transaction:
		return f.unsoundTransaction()
	default:
		return ""
	}
}

func (f Facts) unsoundTransaction() string {
	switch {
	case (f.Recipient == "") != f.ContractCreation:
		return "the facts do not say whom the transaction goes to"
	case f.Value == nil || f.MaxCost == nil:
		return "the facts do not say what the transaction moves and costs"
	case f.MaxCost.Cmp(f.Value) < 0:
		return "the facts say that the transaction costs less than it moves"
	default:
		return ""
	}
}

// called reports whether the data is the call data of a contract.
func (f Facts) called() bool {
	return f.Operation == UserOperation || (f.Operation == Transaction && !f.ContractCreation)
}

func negative(amount *big.Int) bool { return amount != nil && amount.Sign() < 0 }
