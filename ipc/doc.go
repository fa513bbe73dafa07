// Package ipc is the socket between sigild and the programs that use it: a
// JSON-RPC 2.0 server on a Unix socket with its limits and peer credentials,
// the wire types, and a Go client.
//
// The stream is a bare sequence of JSON values, as geth, ethers, viem and
// web3.py speak it over IPC: values may be split over reads, several may
// arrive in one, and nothing or any whitespace stands between them.
//
// Of the project the package imports nothing but the PIN channel
// (daemon/channel), so that a client is built from it without cgo, without
// Argon2 and without go-ethereum.
//
// # What a connection may do
//
// The kernel says who the peer is (SO_PEERCRED, read once in Accept). A peer
// that Options.Allow does not accept gets one error with reason
// "peerNotAllowed" and is disconnected. Every resource that a peer can hold is
// bounded by Limits. A notification (a request without an id) is read and
// dropped: no method of a signing daemon is useful without its answer.
//
// # Secrets
//
// Request bytes may hold a PIN. They live in buffers of this package, which
// are wiped when the request is answered; Secret decodes a JSON string without
// making a Go string of it. Neither is ever logged.
package ipc
