// Package channel is the PIN channel: how a PIN travels from the user's device
// to the daemon through a relay that must neither read it nor use it for
// anything else. It holds both ends; the daemon and the Go client use it.
//
// The daemon has a key pair that lives in memory only, new at every start and
// every hour, and announces the public half in a statement that the
// installation's identity key signs, with the daemon's time. A client that pins the identity key seals
// {PIN, new PIN} by HPKE (RFC 9180, base mode) with
//
//	KEM   MLKEM768-X25519 (X-Wing, 0x647a)   post-quantum hybrid
//	KDF   HKDF-SHA256 (0x0001)
//	AEAD  AES-256-GCM (0x0002)
//	info  "sigild/pin/v1" ‖ installation (16) ‖ key id (16)
//	aad   "sigild/pin/v1" ‖ len (1) ‖ method ‖ key id (16) ‖ expires (8) ‖ digest (32)
//
// where digest is SHA-256 over the RFC 8785 form of the parameters without
// pin, newPin and sealedPin: wallet, account, transaction and terms are
// parameters, so a block is good for one payload on one wallet. The plaintext
// is 160 bytes: len (1) ‖ PIN ‖ len (1) ‖ new PIN ‖ len (1) ‖ key ‖ zeros. The
// key is the 32 bytes of a private key to bring in; where there is none, its
// length is the first of the zeros.
//
// A block works once: its nonce is SHA-256(enc), which X-Wing binds to the
// shared secret. It expires at most 120 seconds ahead.
//
// The answer carries proof, an HMAC-SHA256 under a key that only the two ends
// can export from the HPKE context:
//
//	key    Export("sigild/pin-answer/v1", 32)
//	proof  HMAC(key, kind (1) ‖ SHA-256(aad) ‖ SHA-256(JCS(answer without proof)))
//
// with kind 1 for a result and 2 for the data member of an error object.
//
// A private key that goes out is sealed by the same suite to a key pair of whoever
// asked for it; see Export.
//
// docs/rpc.md gives the same for implementers, with vectors in
// testdata/vectors/pin-channel.json that Go and JavaScript read.
package channel
