// Package argon2 is Argon2id (RFC 9106, version 0x13) for a process whose memory
// must not tell a PIN afterwards.
//
// Whoever has a kilobyte of what Argon2 computes on the way, and the salt, tries
// PINs without token and TPM. So all of it is in one piece of memory that is cleared
// and given back before Key returns, and every lane is computed on the caller's
// goroutine, one after another, where runtime/secret erases stack and registers
// (package wipe). golang.org/x/crypto/argon2 starts a goroutine for each
// lane, also for the only one, whose stack keeps the last block's state; and its memory
// is garbage that a later collection erases.
//
// The compression is plain Go. Functions and names follow the sections of the RFC
// that they cite.
package argon2
