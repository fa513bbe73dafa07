package eth

import (
	"fmt"
	"slices"

	"github.com/ethereum/go-ethereum/core/types"
)

// form says which fields a transaction of one type has beyond the common ones.
type form struct {
	allowed, required []string
}

func commonFields() form {
	return form{
		allowed:  []string{"type", "from", "to", "value", "data", "input"},
		required: []string{"chainId", "nonce"},
	}
}

// formOf returns the fields of a transaction type besides gas, which has two
// names.
func formOf(txType uint8) form {
	fee := []string{"maxFeePerGas", "maxPriorityFeePerGas"}
	switch txType {
	case types.LegacyTxType: // EIP-155
		return form{required: []string{"gasPrice"}}
	case types.AccessListTxType: // EIP-2930
		return form{required: []string{"gasPrice"}, allowed: []string{"accessList"}}
	case types.DynamicFeeTxType: // EIP-1559
		return form{required: fee, allowed: []string{"accessList"}}
	case types.BlobTxType: // EIP-4844
		return form{
			required: append(fee, "to", "maxFeePerBlobGas", "blobVersionedHashes"),
			allowed:  []string{"accessList", "blobVersion", "blobs", "commitments", "proofs"},
		}
	default: // EIP-7702; typeOf has refused all others
		return form{required: append(fee, "to", "authorizationList"), allowed: []string{"accessList"}}
	}
}

// allFields are the names that any transaction type knows.
func allFields() []string {
	return []string{
		"type", "chainId", "from", "to", "nonce", "gas", "gasLimit", "value", "data", "input", "accessList",
		"gasPrice", "maxFeePerGas", "maxPriorityFeePerGas", "maxFeePerBlobGas", "blobVersionedHashes",
		"blobVersion", "blobs", "commitments", "proofs", "authorizationList",
	}
}

// typeOf returns the EIP-2718 type that the "type" field names or, without it,
// the only one that the other fields fit.
func typeOf(f fields) (uint8, error) {
	if !f.has("type") {
		return inferType(f)
	}
	named, err := read(f, "type", value.transactionType)
	if err != nil {
		return 0, err
	}
	if named > types.SetCodeTxType {
		return 0, at("type", problem("must be one of 0x0, 0x1, 0x2, 0x3 and 0x4"))
	}
	return uint8(named), nil
}

func inferType(f fields) (uint8, error) {
	_, blob := f.hasAny("maxFeePerBlobGas", "blobVersionedHashes", "blobVersion", "blobs", "commitments", "proofs")
	_, dynamic := f.hasAny("maxFeePerGas", "maxPriorityFeePerGas")
	switch {
	case blob:
		return types.BlobTxType, nil
	case f.has("authorizationList"):
		return types.SetCodeTxType, nil
	case dynamic:
		return types.DynamicFeeTxType, nil
	case f.has("gasPrice") && f.has("accessList"):
		return types.AccessListTxType, nil
	case f.has("gasPrice"):
		return types.LegacyTxType, nil
	default:
		return 0, problem("lacks its fees: give maxFeePerGas and maxPriorityFeePerGas, or gasPrice")
	}
}

// checkForm returns an error that names the fields which a transaction of this
// type lacks or must not have.
func checkForm(f fields, txType uint8) error {
	shared, own := commonFields(), formOf(txType)
	var foreign []string
	for name := range f {
		known := name == "gas" || name == "gasLimit" ||
			slices.Contains(shared.allowed, name) || slices.Contains(shared.required, name) ||
			slices.Contains(own.allowed, name) || slices.Contains(own.required, name)
		if !known {
			foreign = append(foreign, name)
		}
	}
	if len(foreign) > 0 {
		return at(slices.Min(foreign), problem("contradicts the other fields: a transaction of %s has no such field", typeName(txType)))
	}
	required := slices.Concat(shared.required, own.required)
	if !f.has("gasLimit") {
		required = append(required, "gas")
	}
	return f.require(required...)
}

func typeName(txType uint8) string { return fmt.Sprintf("type %#x", txType) }
