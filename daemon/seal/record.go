package seal

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/sigild/sigild/daemon/wipe"
)

// MACSize is the size in bytes of a record's MAC (HMAC-SHA256).
const MACSize = 32

const recordLabel = "sigild/record/v1"

// ErrOpen is returned when the AEAD refuses a box. For a record whose MAC was
// verified, that means a wrong PIN or a false factor.
var ErrOpen = errors.New("the record does not open")

// Record is what is stored for a wallet: a header that only the PIN can change,
// the sealed box, a state that changes without the PIN, and a MAC over all.
type Record struct {
	_      struct{} `cbor:",toarray"`
	Format uint8
	Header []byte // Header, encoded; the box's associated data, verbatim
	Box    []byte // 12-byte nonce ‖ AES-256-GCM(Wrapped, encoded) ‖ 16-byte tag
	State  []byte // State, encoded
	MAC    []byte // HMAC-SHA256 by the token's record key over MACInput
}

// State is the part of a record that changes without the PIN.
type State struct {
	Revision   uint64   `cbor:"1,keyasint"` // 1 at creation, one more at each write of the record
	Label      string   `cbor:"2,keyasint,omitempty"`
	ExternalID string   `cbor:"3,keyasint,omitempty"`
	Tags       []string `cbor:"4,keyasint,omitempty"`
	Frozen     int64    `cbor:"5,keyasint,omitempty"` // Unix seconds, 0 when not
	FrozenBy   string   `cbor:"6,keyasint,omitempty"`
	Deleted    int64    `cbor:"7,keyasint,omitempty"` // Unix seconds of the tombstone
	PINSet     int64    `cbor:"8,keyasint,omitempty"` // Unix seconds of the last PIN change
	// AccountLabels holds a label for each account index, as far as any is set.
	AccountLabels []string `cbor:"9,keyasint,omitempty"`
	// Exported holds for each account index, as far as any was, when its key was
	// last given out: Unix seconds, 0 when never.
	Exported []int64 `cbor:"10,keyasint,omitempty"`
}

// Wrapped is the plaintext of a box: the token's ciphertexts of the wallet's
// keys. Secret (it is one of the factors); wipe it.
type Wrapped struct {
	Derivation []byte   `cbor:"1,keyasint"` // the derivation key K
	Roots      [][]byte `cbor:"2,keyasint"` // the root private key of each account
}

// size is an upper bound of the encoding's bytes: each CBOR head has at most 9.
func (w *Wrapped) size() int {
	n := 64 + len(w.Derivation)
	for _, r := range w.Roots {
		n += 9 + len(r)
	}
	return n
}

// Wipe overwrites the wrapped keys.
func (w *Wrapped) Wipe() {
	clear(w.Derivation)
	for _, r := range w.Roots {
		clear(r)
	}
}

// MAC computes HMAC-SHA256 by the token's record key.
type MAC func(ctx context.Context, message []byte) ([32]byte, error)

// NewSalt fills the Argon2 salt for one sealing.
func NewSalt() []byte {
	salt := make([]byte, saltSize)
	rand.Read(salt) // never fails since Go 1.24: it ends the program instead
	return salt
}

// Close seals wrapped under key with the header as associated data.
func Close(key *Key, header []byte, wrapped *Wrapped) (box []byte, err error) {
	wipe.Do(func() { box, err = closeBox(key, header, wrapped) })
	return box, err
}

func closeBox(key *Key, header []byte, wrapped *Wrapped) ([]byte, error) {
	plain, err := encodeSecret(wrapped, wrapped.size())
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	return seal(key[:], plain, header)
}

// Open undoes Close; ErrOpen when key, box or header is not the one of Close.
func Open(key *Key, header, box []byte) (w *Wrapped, err error) {
	wipe.Do(func() { w, err = openBox(key, header, box) })
	return w, err
}

func openBox(key *Key, header, box []byte) (*Wrapped, error) {
	plain, err := open(key[:], box, header)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	var w Wrapped
	if err := decode(plain, &w); err != nil {
		w.Wipe()
		return nil, ErrFormat // without detail: it is about a secret
	}
	return &w, nil
}

func seal(key, plain, ad []byte) ([]byte, error) {
	aead, err := newGCM(key)
	if err != nil {
		return nil, err
	}
	box := make([]byte, aead.NonceSize(), aead.NonceSize()+len(plain)+aead.Overhead())
	rand.Read(box)
	return aead.Seal(box, box, plain, ad), nil
}

func open(key, box, ad []byte) ([]byte, error) {
	aead, err := newGCM(key)
	if err != nil {
		return nil, err
	}
	if len(box) < aead.NonceSize() {
		return nil, ErrOpen
	}
	plain, err := aead.Open(nil, box[:aead.NonceSize()], box[aead.NonceSize():], ad)
	if err != nil {
		return nil, ErrOpen
	}
	return plain, nil
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// MACInput gives the bytes that the record's MAC covers: a label, then header,
// box and state, each after its length (4 bytes, big endian).
func (r *Record) MACInput() []byte {
	n := len(recordLabel) + 12 + len(r.Header) + len(r.Box) + len(r.State)
	b := append(make([]byte, 0, n), recordLabel...)
	for _, part := range [][]byte{r.Header, r.Box, r.State} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(part)))
		b = append(b, part...)
	}
	return b
}

// Encode authenticates the record with mac and gives the bytes to store.
func (r *Record) Encode(ctx context.Context, mac MAC) ([]byte, error) {
	sum, err := mac(ctx, r.MACInput())
	if err != nil {
		return nil, fmt.Errorf("MAC of the record: %w", err)
	}
	r.Format, r.MAC = Format, sum[:]
	return encode(r)
}

// EncodeState gives the state's only encoding.
func EncodeState(s *State) ([]byte, error) { return encode(s) }
