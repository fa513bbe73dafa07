// Package eth turns what an Ethereum wallet is asked to sign into the 32 bytes
// that its key signs, and into the facts that a policy decides on.
//
// Seven kinds of payload are read: transactions of types 0x0 to 0x4
// ([ParseTransaction]), EIP-191 messages ([MessageDigest]) and data for a
// validator ([ValidatorDataDigest]), EIP-712 typed data ([TypedDataDigest]),
// EIP-7702 authorizations ([ParseAuthorization]), ERC-4337 user operations
// ([ParseUserOperation]) and headers that clique seals ([CliqueHeaderDigest]).
// RLP, Keccak-256 and the transaction types themselves are go-ethereum's.
//
// # Reading
//
// The readers are strict, since a signature cannot be taken back: an unknown
// field, a field twice, a missing or contradictory field, a number that is not
// in its one accepted form, an address whose EIP-55 checksum is wrong, or text
// that is not valid Unicode is an error and never a guess. Such errors are of
// type [*FieldError] and name the field by its path. A JSON null stands for an
// absent field only in the outermost object of a transaction or user operation,
// because go-ethereum's own clients send it so; anywhere else it is an error.
//
//   - A quantity is a string "0x…" in hexadecimal without leading zeros, zero
//     is "0x0" (Ethereum JSON-RPC, "hex value encoding"). JSON numbers are not
//     quantities.
//   - Data is a string "0x…" of whole bytes.
//   - An address is "0x" and 40 hexadecimal digits. If its letters are of mixed
//     case they must be the EIP-55 checksum.
//
// No input makes the package panic; its size, depth and number of values are
// bounded by [MaxInput], [MaxDepth] and [MaxValues].
//
// # Concurrency
//
// The package keeps no state. A parsed payload is never changed and may be used
// by several goroutines.
package eth
