// Package seal turns a user's PIN and two hardware factors into the key that
// closes a wallet's record, and owns the bytes of that record.
//
// A record is opened with three things that no one place holds: the PIN, one
// operation of the PKCS#11 token's pin key and one of this host's TPM:
//
//	a  = Argon2id(PIN, salt)                                       32 bytes
//	h1 = HMAC-SHA256(token pin key, "sigild/pin/v1"  ‖ wallet ‖ a)  in the token
//	h2 = HMAC-SHA256(TPM host key,  "sigild/host/v1" ‖ wallet ‖ h1) in the TPM
//	k  = HKDF-SHA256(h1 ‖ h2, info "sigild/seal/v1" ‖ wallet)       32 bytes
//
// AES-256-GCM under k closes the wrapped keys, with the header's stored bytes
// as associated data. Nothing that verifies a PIN is stored: a wrong PIN is a
// failed AEAD, and the record's own MAC, by the token's record key, is checked
// before any of this, so that tampering and a wrong PIN are different answers.
//
// docs/format.md gives every byte, and testdata/vectors/record.json holds
// vectors that a test of this package reads.
package seal
