// Package guard counts PIN checks. Every check is charged durably before it is
// made, so that a crash, a kill or a full disk gives no attempt back; a passed
// check then clears the failures in a row, and a check that a device's fault
// kept from happening is given back.
//
// A wallet's counts are its row: deterministic CBOR with a MAC by the token's
// record key. A row that is missing, changed or of another wallet locks the
// wallet. The root stands over all rows; docs/format.md gives both layouts.
package guard
