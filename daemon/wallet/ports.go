package wallet

import (
	"context"
	"time"

	"github.com/sigild/sigild/daemon/seal"
)

// Object is a session object in the token, opaque to this package.
type Object any

// Class says which of the token's wrap keys a session object belongs to. The
// zero value is no class.
type Class int

const (
	// Root is an account's root private key.
	Root Class = iota + 1
	// Derivation is a wallet's derivation key.
	Derivation
	// ExportableRoot and ExportableDerivation are those of a wallet that was made
	// exportable.
	ExportableRoot
	ExportableDerivation
)

// rootClass and derivationClass go by the wallet's header, which nobody can
// change without the PIN.
func rootClass(h *seal.Header) Class {
	if h.Exportable {
		return ExportableRoot
	}
	return Root
}

func derivationClass(h *seal.Header) Class {
	if h.Exportable {
		return ExportableDerivation
	}
	return Derivation
}

// Token is the PKCS#11 token as far as wallets need it. Implementations are
// safe for concurrent use and put a deadline on each call.
type Token interface {
	// Keys names the keys for new records.
	Keys() seal.KeyIDs
	// Mechanism is the CKM_ by which new records are wrapped.
	Mechanism() uint64
	// Custody says where a key of this token is in the clear.
	Custody() seal.Custody
	// GenerateRoot makes a secp256k1 key pair as a session object and gives
	// the public point, uncompressed (SEC 1).
	GenerateRoot(ctx context.Context) (Object, [65]byte, error)
	// ImportSecret brings in a secret that can only HMAC.
	ImportSecret(ctx context.Context, secret []byte) (Object, error)
	// CanImport and CanExport give nil, or ErrCustody with the token's own answer
	// when it does not do what ImportRoot and ExportRoot need.
	CanImport(ctx context.Context) error
	CanExport(ctx context.Context) error
	// ImportRoot brings in a secp256k1 private key, big endian, that can only
	// sign, and gives its public point, uncompressed, as its signatures show it.
	ImportRoot(ctx context.Context, scalar *[32]byte) (Object, [65]byte, error)
	// ExportRoot puts the value of a root that was unwrapped as ExportableRoot
	// into scalar, which the caller wipes.
	ExportRoot(ctx context.Context, o Object, scalar *[32]byte) error
	// Wrap encrypts an object under the named keys.
	Wrap(ctx context.Context, k seal.KeyIDs, c Class, o Object) ([]byte, error)
	Unwrap(ctx context.Context, k seal.KeyIDs, mechanism uint64, c Class, wrapped []byte) (Object, error)
	HMACSHA512(ctx context.Context, o Object, data []byte, mac *[64]byte) error
	// SignECDSA gives r ‖ s of the raw ECDSA over digest.
	SignECDSA(ctx context.Context, o Object, digest [32]byte) ([64]byte, error)
	// Distrust takes the token out of service at once: a signature of it was
	// wrong (ErrToken) or repeated a nonce (ErrNonceReused).
	Distrust(cause error)
	// Destroy removes session objects, also when ctx has ended.
	Destroy(ctx context.Context, objects ...Object) error
	// FeedRandom gives bytes to the token's generator where it takes them.
	FeedRandom(ctx context.Context, feed []byte) error
	// RecordMAC is HMAC-SHA256 by the record key.
	RecordMAC(ctx context.Context, message []byte) ([32]byte, error)
	// SignReceipt signs a SHA-256 digest by the identity key (ASN.1 DER).
	SignReceipt(ctx context.Context, digest [32]byte) ([]byte, error)
	// Factors gives the two factors that the named keys stand for, or an
	// error when this host does not have them.
	Factors(k seal.KeyIDs) (seal.Factors, error)
}

// Entropy mixes the sources into the seed of one wallet.
type Entropy interface {
	Seed(ctx context.Context, wallet seal.ID) (Seed, error)
	// Dropped names the sources that the configuration left out.
	Dropped() []string
}

// Seed is the mixed entropy of one wallet; secret until wiped.
type Seed interface {
	Bytes() []byte     // 64 bytes: the derivation key's value
	TokenFeed() []byte // 64 bytes for the token's generator, independent of Bytes
	Sources() []seal.Source
	Wipe()
}

// Attempts is what a user may be told of the PIN attempts.
type Attempts struct {
	Left     uint32
	Failures uint32        // since the last passed check
	Wait     time.Duration // until the next check is made; 0: at once
	LastPass time.Time
}

// Guard charges PIN checks; see package guard.
type Guard interface {
	NewRow(ctx context.Context, wallet seal.ID) ([]byte, error)
	Attempts(ctx context.Context, wallet seal.ID, l seal.Limits) (Attempts, error)
	// Turn lets one check of a wallet run at a time.
	Turn(ctx context.Context, wallet seal.ID) (release func(), err error)
	// Charge returns once the check is counted, for good. The caller holds the
	// wallet's turn.
	Charge(ctx context.Context, wallet seal.ID, l seal.Limits) (Charge, error)
	// GiveBack takes n failures back. The caller holds the wallet's turn.
	GiveBack(ctx context.Context, wallet seal.ID, l seal.Limits, n uint32) (Attempts, error)
}

// Charge is one counted check, settled by exactly one of its methods.
type Charge interface {
	Failed() Attempts
	Passed(ctx context.Context) (Attempts, error)
	Void(ctx context.Context) error
}

// RequestKey identifies a request for idempotency.
type RequestKey [32]byte

// Request is what is stored of a request that was carried out.
type Request struct {
	Key   RequestKey
	Value []byte // encoded, with a MAC
}

// Index is what a wallet is found by, besides its id and addresses.
type Index struct {
	Owner      string
	Created    int64    // Unix seconds
	ExternalID string   // unique for a relay; empty: none
	Tags       []string // without repetition
	Deleted    int64    // Unix seconds of the tombstone; 0: none
}

// NewWallet is all that a creation writes, in one transaction.
type NewWallet struct {
	Wallet  seal.ID
	Relay   uint32
	Index   Index
	Address [20]byte // of account 0
	Record  []byte
	Guard   []byte
	Request Request
}

// Change is a new record in the place of an old one, in one transaction.
type Change struct {
	Wallet     seal.ID
	Relay      uint32
	Prev, Next []byte
	Addresses  [][20]byte // of the accounts that the change adds
	Request    *Request   // the request that asked for it, if one did
	// Before and After are the old and the new index; nil when it stays.
	Before, After *Index
}

// Removal takes a wallet out for good.
type Removal struct {
	Wallet    seal.ID
	Relay     uint32
	Prev      []byte
	Index     Index
	Addresses [][20]byte
}

// Page asks for wallets of a relay in the order of their creation.
type Page struct {
	Relay uint32
	Owner string // empty: of all owners
	Tag   string // empty: with any tags or none
	From  int64  // created at or after, Unix seconds; 0: from the first
	Until int64  // created before, Unix seconds; 0: to the last
	After []byte // cursor of the page before; nil at first
	Limit int
}

// Store keeps records. Every write is on disk when it returns, whole or not at
// all, and no older copy of the database counts any more. Implementations are
// safe for concurrent use.
type Store interface {
	// Create writes a wallet; ErrRequestReused when the request's key exists,
	// ErrExternalID and ErrAddressTaken when the relay has another wallet, or one
	// with a tombstone, of that external id or address.
	Create(ctx context.Context, w NewWallet) error
	Record(ctx context.Context, wallet seal.ID) ([]byte, error)
	// Replace carries c out if the stored bytes still are c.Prev, else
	// ErrConflict; ErrRequestReused when the request's key exists, ErrAddressTaken
	// as in Create.
	Replace(ctx context.Context, c Change) error
	// Remove deletes the record, the attempt counter and the indexes if the
	// stored bytes still are r.Prev, else ErrConflict.
	Remove(ctx context.Context, r Removal) error
	ByAddress(ctx context.Context, relay uint32, address [20]byte) (seal.ID, error)
	ByExternalID(ctx context.Context, relay uint32, externalID string) (seal.ID, error)
	// Tombstones lists up to limit wallets that were deleted before a time,
	// after a cursor, and gives the next cursor, nil at the end.
	Tombstones(ctx context.Context, before int64, after []byte, limit int) (ids []seal.ID, next []byte, err error)
	// Everything lists up to limit wallets of all relays after a wallet id.
	Everything(ctx context.Context, after *seal.ID, limit int) ([]seal.ID, error)
	List(ctx context.Context, p Page) (wallets []seal.ID, cursor []byte, err error)
	// Settled waits until everything that is in the database is anchored.
	Settled(ctx context.Context) error
	// Request gives what Create or Replace stored for key, or nil. What was
	// done for it stays done.
	Request(ctx context.Context, key RequestKey) ([]byte, error)
	// Nonce remembers value under key and gives the value remembered before,
	// or nil when key is new.
	Nonce(ctx context.Context, key, value [16]byte) (before *[16]byte, err error)
}

// Event is one line of the audit log.
type Event struct {
	Time    time.Time
	Action  string
	Peer    Peer
	Wallet  seal.ID
	Account uint32
	Digest  []byte // what was signed, or the request's digest
	Result  string // "ok", or the reason of a refusal
	Detail  map[string]string
}

// Audit writes events; Write returns once all of them are on disk.
type Audit interface {
	Write(ctx context.Context, events ...Event) error
	// Newest is the latest time of the events that are known; zero: there is none.
	Newest() time.Time
}

// Peer is the process at the other end of the socket, as the kernel names it.
type Peer struct {
	UID uint32
	GID uint32
	PID int32
	// Connection ends when the peer's connection does; nil outside a socket.
	Connection context.Context
}
