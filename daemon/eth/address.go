package eth

import (
	"encoding/hex"
	"strconv"

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
