// Package daemon puts sigild together: it opens the database, the TPM and the
// token, checks that they belong to each other, and serves wallets on the
// socket. It is the composition root: packages below it do not know each other.
//
// Start order, each step needing the one before: configuration, database,
// installation document, TPM (its storage root key is the pinned one), the
// token's user PIN, token log-in (tried once), the token's keys (each unique
// and of the recorded fingerprint), the MACs of the installation document and
// of the guard root, the TPM host key, the sources of randomness, the socket.
package daemon
