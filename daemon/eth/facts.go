package eth

import "math/big"

// The operations that Facts tell apart. Their names are part of the stored
// policies and of the wire: they never change.
const (
	OperationTransaction   = "transaction"
	OperationMessage       = "message"
	OperationTypedData     = "typedData"
	OperationAuthorization = "authorization"
	OperationUserOperation = "userOperation"
	OperationValidatorData = "validatorData"
	OperationCliqueHeader  = "cliqueHeader"
)

// Facts are what a policy may decide on. They are read from the same parsed
// payload as the digest, so that the two cannot differ. What a payload does not
// say is left at its zero value; a nil number means unknown, not zero.
type Facts struct {
	// Operation is one of the Operation constants.
	Operation string
	// Chain is the chain that the signature is valid on in CAIP-2 form, such as
	// "eip155:1"; empty if there is no such single chain.
	Chain string
	// AllChains says that the signature is valid on every chain: an
	// authorization with chain id 0, typed data without a chain id, a message.
	AllChains bool
	// Recipient is the account or contract concerned, in lower-case hexadecimal:
	// "to" of a transaction, the verifying contract of typed data, the contract
	// that an authorization delegates to, the entry point of a user operation, the
	// intended validator of data.
	Recipient string
	// ContractCreation says that a transaction has no recipient.
	ContractCreation bool
	// Value is the wei that a transaction moves. Nil for all else: what the call
	// inside a user operation moves cannot be seen from outside.
	Value *big.Int
	// MaxCost is the most wei that the payload can cost its sender: value and
	// all gas at the highest price. Nil where it does not apply.
	MaxCost *big.Int
	// Selector is the first 4 bytes of the call data; nil if it is shorter.
	Selector []byte
	// DataLength is the number of bytes of call data, init code, message or header.
	DataLength int
	// Delegates says that a transaction carries authorizations (EIP-7702), by which
	// accounts get code before it runs.
	Delegates bool
}

// setChain records the chain that a payload is bound to.
func (f *Facts) setChain(chainID uint64) { f.Chain = caip2(chainID) }

// setCallData records the length and the selector of call data.
func (f *Facts) setCallData(data []byte) {
	f.DataLength = len(data)
	if len(data) >= 4 {
		f.Selector = append([]byte(nil), data[:4]...)
	}
}
