package eth

import (
	"encoding/json"
	"strings"

	"github.com/ethereum/go-ethereum/crypto"
)

// ValidatorDataDigest reads {address, message}, data for one intended validator,
// and returns its digest by EIP-191, version 0x00: Keccak-256 over 0x19 ‖ 0x00 ‖
// address ‖ message. No other payload begins with these two bytes: transactions
// begin with their type or an RLP list, messages and typed data with 0x19 and
// another version.
//
// Errors are of type *FieldError with paths below "data".
func ValidatorDataDigest(raw json.RawMessage) (digest [32]byte, facts Facts, err error) {
	digest, facts, err = validatorDataDigest(raw)
	if err != nil {
		err = at("data", err)
	}
	return digest, facts, err
}

func validatorDataDigest(raw json.RawMessage) (digest [32]byte, facts Facts, err error) {
	tree, err := parseJSON(raw)
	if err != nil {
		return digest, facts, err
	}
	f, err := exactFields(tree, "address", "message")
	if err != nil {
		return digest, facts, err
	}
	address, err := read(f, "address", value.address)
	if err != nil {
		return digest, facts, err
	}
	message, err := read(f, "message", value.bytes)
	if err != nil {
		return digest, facts, err
	}
	facts = Facts{Operation: OperationValidatorData, AllChains: true, Recipient: strings.ToLower(address.Hex()), DataLength: len(message)}
	return crypto.Keccak256Hash([]byte{0x19, 0x00}, address[:], message), facts, nil
}
