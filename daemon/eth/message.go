package eth

import (
	"strconv"

	"github.com/ethereum/go-ethereum/crypto"
)

// MessageDigest returns the digest of a personal message (EIP-191, version
// 0x45): Keccak-256 over 0x19 ‖ "Ethereum Signed Message:\n" ‖ the length of
// msg in decimal ‖ msg.
func MessageDigest(msg []byte) [32]byte {
	prefix := "\x19Ethereum Signed Message:\n" + strconv.Itoa(len(msg))
	return crypto.Keccak256Hash([]byte(prefix), msg)
}

// MessageFacts returns the facts of a personal message: it is bound to no chain
// and to no recipient, so only its length is known.
func MessageFacts(msg []byte) Facts {
	return Facts{Operation: OperationMessage, AllChains: true, DataLength: len(msg)}
}
