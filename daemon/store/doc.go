// Package store keeps wallets in one bbolt file. A write is on disk, whole,
// when its function returns, or it did not happen. The package treats records,
// attempt counters and requests as opaque bytes: who wrote them authenticates
// them. Its indexes carry no MAC; whoever follows one compares what it finds
// with the record.
//
// Buckets (all integers big endian):
//
//	meta       schema, installation, guard-root, login
//	records    wallet (16)                                → record
//	guard      wallet (16)                                → attempt counter
//	tree       depth (1) ‖ nibbles (0 to 4)               → node of the hash tree
//	addresses  relay (4) ‖ address (20)                   → wallet (16)
//	relays     relay (4) ‖ created (8) ‖ wallet (16)      → ""
//	owners     relay (4) ‖ SHA-256(owner)[:16] ‖ created (8) ‖ wallet (16) → ""
//	tags          relay (4) ‖ SHA-256(tag)[:16] ‖ created (8) ‖ wallet (16) → ""
//	external-ids  relay (4) ‖ SHA-256(external id)        → wallet (16)
//	tombstones    deleted (8) ‖ wallet (16)               → ""
//	requests   request key (32)                           → request
//	nonces     key (16)                                   → value (16)
//	answers    source name                                → digest (32)
package store
