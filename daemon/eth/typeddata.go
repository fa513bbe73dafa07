package eth

import (
	"encoding/json"
	"slices"

	"github.com/ethereum/go-ethereum/crypto"
)

// domainType is the name of the type of the domain (EIP-712, "Definition of
// domainSeparator").
const domainType = "EIP712Domain"

// TypedDataDigest reads the object {types, primaryType, domain, message} of
// eth_signTypedData_v4 and returns the 32 bytes to sign, Keccak-256 over 0x19 ‖
// 0x01 ‖ domain separator ‖ hashStruct(message) (EIP-712), and the facts.
//
// It reads more strictly than EIP-712 asks for, since wallets differ in what
// they make of the rest:
//
//   - types declares EIP712Domain, with one or more of name, version, chainId,
//     verifyingContract and salt in this order and with the standard's types.
//   - Every type that is named is declared, every field of a type is given, and
//     no other. Nothing is null.
//   - Integers are in the range of their type. They are JSON numbers up to
//     2^53-1, or strings in decimal or hexadecimal.
//   - bytesN are exactly N bytes, arrays of fixed length have that length.
//
// A PackedUserOperation of ERC-4337 is the operation userOperation here too, so
// that it cannot pass for something else.
//
// Errors are of type *FieldError with paths below "typedData".
func TypedDataDigest(raw json.RawMessage) (digest [32]byte, facts Facts, err error) {
	digest, facts, err = typedData(raw)
	if err != nil {
		return [32]byte{}, Facts{}, at("typedData", err)
	}
	return digest, facts, nil
}

func typedData(raw json.RawMessage) (digest [32]byte, facts Facts, err error) {
	tree, err := parseJSON(raw)
	if err != nil {
		return digest, facts, err
	}
	f, err := exactFields(tree, "types", "primaryType", "domain", "message")
	if err != nil {
		return digest, facts, err
	}
	set, err := read(f, "types", parseTypes)
	if err != nil {
		return digest, facts, err
	}
	primary, err := read(f, "primaryType", set.primaryType)
	if err != nil {
		return digest, facts, err
	}
	separator, facts, err := set.domain(f["domain"])
	if err != nil {
		return digest, facts, err
	}
	message, err := set.hashStruct(primary, f["message"])
	if err != nil {
		return digest, facts, at("message", err)
	}
	if set[primary].hash == packedUserOperationTypeHash() {
		facts.Operation = OperationUserOperation
	}
	return typedDigest(separator, message), facts, nil
}

// typedDigest puts EIP-191's version 0x01 in front of the two hashes.
func typedDigest(separator, message [32]byte) [32]byte {
	return crypto.Keccak256Hash([]byte{0x19, 0x01}, separator[:], message[:])
}

func (set typeSet) primaryType(v value) (string, error) {
	name, err := v.string()
	switch {
	case err != nil:
		return "", err
	case name == domainType:
		return "", problem("must not be the domain: there is nothing to sign beside it")
	case set[name] == nil:
		return "", problem("is not declared in types")
	default:
		return name, nil
	}
}

// domain checks the domain, hashes it and reads the facts from it.
func (set typeSet) domain(v value) (separator [32]byte, facts Facts, err error) {
	if err = set.checkDomainType(); err != nil {
		return separator, facts, at("types", at(domainType, err))
	}
	if separator, err = set.hashStruct(domainType, v); err == nil {
		facts, err = domainFacts(v)
	}
	if err != nil {
		return separator, facts, at("domain", err)
	}
	return separator, facts, nil
}

// checkDomainType checks that the domain's fields are those of the standard, in
// its order.
func (set typeSet) checkDomainType() error {
	standard := []string{"string name", "string version", "uint256 chainId", "address verifyingContract", "bytes32 salt"}
	declared := set[domainType]
	if declared == nil || len(declared.fields) == 0 {
		return problem("must be declared, with one field or more")
	}
	next := 0
	for i, field := range declared.fields {
		place := slices.Index(standard[next:], field.typ.text+" "+field.name)
		if place < 0 {
			return atIndex(i, problem("must be one of name, version, chainId, verifyingContract and salt, in this order and of the types in EIP-712"))
		}
		next += place + 1
	}
	return nil
}

// domainFacts reads the facts from a domain that hashStruct has accepted.
func domainFacts(v value) (Facts, error) {
	facts := Facts{Operation: OperationTypedData, AllChains: true}
	if chain := v.member("chainId"); chain.kind != absent {
		number, err := chain.integer()
		if err != nil {
			return Facts{}, at("chainId", err)
		}
		id, err := boundChainID(number)
		if err != nil {
			return Facts{}, at("chainId", err)
		}
		facts.AllChains = false
		facts.setChain(id)
	}
	if contract := v.member("verifyingContract"); contract.kind != absent {
		address, err := contract.address()
		if err != nil {
			return Facts{}, at("verifyingContract", err)
		}
		facts.Recipient = lowerHex(address)
	}
	return facts, nil
}
