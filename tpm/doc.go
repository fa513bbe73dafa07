// Package tpm is sigild's TPM 2.0 side: randomness, a keyed HMAC that the chip
// computes only in an approved measured state, sealed data under the same
// condition, and NV counters.
//
// # Trust
//
// Everything hangs on the storage root key (SRK), the ECC P-256 primary key of
// the owner hierarchy. Its private part never leaves the chip, and every secret
// on the bus travels inside a session salted to it: AES-128-CFB parameter
// encryption, HMAC-SHA256 over commands and responses (TPM 2.0 Part 1, sections
// 19 and 21). That proves something only while the SRK is the one seen at
// provisioning, so callers store [TPM.SRKName] then and hand it to
// [TPM.PinSRK] at every start.
//
// # Authorisation
//
// Objects carry a PolicyAuthorize policy (Part 3, TPM2_PolicyAuthorize): they
// work in any platform state that the owner of a P-256 policy key has approved
// by a signature. See [Authority], [Approve] and [Approval]. A firmware or
// kernel update needs a new approval, not new objects. An approval never
// expires: whoever can boot an approved state can use the objects in it.
//
// # Concurrency
//
// All exported methods may be called from several goroutines. One sequence of
// commands runs at a time; a caller waits for its turn until its context ends.
// A command that is already with the TPM is not abandoned when a caller's
// context ends, because that would cost every other caller the connection: it
// is awaited, at most for [Config].Timeout. A command that takes longer than
// that leaves the TPM in the state [ErrUnavailable], until [TPM.Reopen].
//
// Handles are bound to the connection that made them and die with it.
package tpm
