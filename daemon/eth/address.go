package eth

import (
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
)

// Address returns the account address of a public key: the last 20 bytes of
// Keccak-256 over X ‖ Y (Yellow Paper, section 4.1). pub is the uncompressed
// SEC 1 point, 0x04 ‖ X ‖ Y. That it lies on the curve is for the caller to
// have checked.
func Address(pub [65]byte) common.Address {
	return common.BytesToAddress(crypto.Keccak256(pub[1:])[12:])
}

// ParseAddress reads an address: 0x and 40 hexadecimal digits. Letters of mixed
// case must be its EIP-55 checksum: a mistyped address fails there, and money sent
// to one is lost. The error is a FieldError without a path.
func ParseAddress(spelled string) (common.Address, error) {
	return value{kind: text, text: spelled}.address()
}

// checkCase compares letters of mixed case with the checksum.
func checkCase(text string, address common.Address) error {
	digits := text[2:]
	oneCase := digits == strings.ToLower(digits) || digits == strings.ToUpper(digits)
	if !oneCase && Checksum(address) != text {
		return problem("has a wrong EIP-55 checksum: check the address, or write it in lower case")
	}
	return nil
}

// Checksum returns address in the mixed-case form of EIP-55.
func Checksum(address common.Address) string { return address.Hex() }

// lowerHex is how facts write an address: one spelling per address.
func lowerHex(address common.Address) string {
	return "0x" + hex.EncodeToString(address[:])
}

// caip2 names a chain as CAIP-2 does: "eip155:" and the chain id in decimal.
func caip2(chainID uint64) string {
	return "eip155:" + strconv.FormatUint(chainID, 10)
}
