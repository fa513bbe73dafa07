package hsm

import (
	"encoding/binary"
	"fmt"
)

// Purpose is what a long-lived key is for; each key has exactly one. The codes
// are part of CKA_ID on the token and never change.
type Purpose byte

// The purposes. The zero value is none.
const (
	Wrap             Purpose = 1  // wraps EC private keys of wallets
	WrapSecret       Purpose = 2  // wraps derivation keys of wallets
	WrapExport       Purpose = 3  // as Wrap, for wallets that were made exportable
	WrapExportSecret Purpose = 4  // as WrapSecret, for wallets that were made exportable
	WrapTransit      Purpose = 5  // encrypts keys that the token cannot wrap (AES-GCM)
	PIN              Purpose = 6  // HMAC: the pepper of PINs
	Record           Purpose = 7  // HMAC: authenticates records
	Identity         Purpose = 8  // P-256: signs PIN-channel keys and receipts
	Audit            Purpose = 9  // P-256: signs the audit log
	Policy           Purpose = 10 // P-256: signs policy
	Probe            Purpose = 11 // secp256k1: the health probe's signature
)

// Purposes returns all purposes in the order of their codes.
func Purposes() []Purpose {
	return []Purpose{Wrap, WrapSecret, WrapExport, WrapExportSecret, WrapTransit,
		PIN, Record, Identity, Audit, Policy, Probe}
}

// String returns the purpose's name, as in "wrap-secret".
func (p Purpose) String() string {
	switch p {
	case Wrap:
		return "wrap"
	case WrapSecret:
		return "wrap-secret"
	case WrapExport:
		return "wrap-export"
	case WrapExportSecret:
		return "wrap-export-secret"
	case WrapTransit:
		return "wrap-transit"
	case PIN:
		return "pin"
	case Record:
		return "record"
	case Identity:
		return "identity"
	case Audit:
		return "audit"
	case Policy:
		return "policy"
	case Probe:
		return "probe"
	}
	return fmt.Sprintf("purpose(%d)", byte(p))
}

// keyIDSize is the length of CKA_ID in bytes.
const keyIDSize = 16 + 1 + 4

// KeyID returns the CKA_ID of a long-lived key, 21 bytes:
//
//	installation (16) ‖ purpose (1) ‖ generation (4, big endian)
//
// Keys are found by it, and never by their label.
func KeyID(installation [16]byte, p Purpose, generation uint32) []byte {
	id := make([]byte, 0, keyIDSize)
	id = append(id, installation[:]...)
	id = append(id, byte(p))
	return binary.BigEndian.AppendUint32(id, generation)
}

// label is for people who list the token's objects.
func label(p Purpose, generation uint32) []byte {
	return fmt.Appendf(nil, "sigild %v g%d", p, generation)
}
