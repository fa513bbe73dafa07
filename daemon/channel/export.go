package channel

import (
	"crypto/hpke"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"

	"github.com/sigild/sigild/daemon/wipe"
)

// exportLabel is the HPKE info of a key that goes out, and begins its associated
// data.
const exportLabel = "sigild/export/v1"

var (
	// ErrRecipient is returned for bytes that are no public key to seal to.
	ErrRecipient = errors.New("the recipient must be an MLKEM768-X25519 public key of 1216 bytes")
	// ErrExport is returned for a sealed key that does not open: it was changed, or
	// sealed to another recipient or for another request.
	ErrExport = errors.New("the sealed key does not open for this request")
)

// Export is what a private key that goes out is bound to.
//
//	info  "sigild/export/v1"
//	aad   "sigild/export/v1" ‖ installation (16) ‖ wallet (16) ‖ account (4) ‖ address (20) ‖ digest (32)
//
// Digest is that of the request's parameters, the recipient among them.
type Export struct {
	Installation, Wallet ID
	Account              uint32
	Address              [20]byte
	Digest               [32]byte
}

// SealedKey is a private key as it travels.
type SealedKey struct {
	Enc        []byte // EncSize bytes
	Ciphertext []byte // KeySize + 16 bytes
}

func (e *Export) aad() []byte {
	b := append([]byte(exportLabel), e.Installation[:]...)
	b = append(b, e.Wallet[:]...)
	b = binary.BigEndian.AppendUint32(b, e.Account)
	b = append(b, e.Address[:]...)
	return append(b, e.Digest[:]...)
}

// CheckRecipient reports ErrRecipient for a key that nothing can be sealed to,
// found by trying.
func CheckRecipient(recipient []byte) error {
	_, _, err := sendTo(recipient)
	return err
}

func sendTo(recipient []byte) (enc []byte, sender *hpke.Sender, err error) {
	kem, kdf, aead := suite()
	public, err := kem.NewPublicKey(recipient)
	if err != nil {
		return nil, nil, ErrRecipient
	}
	if enc, sender, err = hpke.NewSender(public, kdf, aead, []byte(exportLabel)); err != nil {
		return nil, nil, ErrRecipient
	}
	return enc, sender, nil
}

// Seal closes a private key for the holder of the recipient's private one.
// ErrRecipient.
func (e *Export) Seal(recipient []byte, key *[KeySize]byte) (s *SealedKey, err error) {
	wipe.Do(func() { s, err = e.seal(recipient, key) })
	return s, err
}

func (e *Export) seal(recipient []byte, key *[KeySize]byte) (*SealedKey, error) {
	enc, sender, err := sendTo(recipient)
	if err != nil {
		return nil, err
	}
	ciphertext, err := sender.Seal(e.aad(), key[:])
	if err != nil {
		return nil, err
	}
	return &SealedKey{Enc: enc, Ciphertext: ciphertext}, nil
}

// Recipient is a key pair to which one private key is sealed. It is secret, and
// goes with the collector: do not keep it.
type Recipient struct{ private hpke.PrivateKey }

// Format keeps the key pair out of every message, whatever verb prints it.
func (r *Recipient) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("redacted")) }

// LogValue keeps it out of logs.
func (r *Recipient) LogValue() slog.Value { return slog.StringValue("redacted") }

// NewRecipient makes a key pair.
func NewRecipient() (r *Recipient, err error) {
	wipe.Do(func() {
		kem, _, _ := suite()
		r = &Recipient{}
		r.private, err = kem.GenerateKey()
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// Public is what a request gives as its recipient, PublicKeySize bytes.
func (r *Recipient) Public() []byte { return r.private.PublicKey().Bytes() }

// Open gives a private key, KeySize bytes, that was sealed for e. The caller wipes
// it. ErrExport.
func (r *Recipient) Open(e *Export, s *SealedKey) (key []byte, err error) {
	wipe.Do(func() { key, err = r.open(e, s) })
	return key, err
}

func (r *Recipient) open(e *Export, s *SealedKey) ([]byte, error) {
	_, kdf, aead := suite()
	recipient, err := hpke.NewRecipient(s.Enc, r.private, kdf, aead, []byte(exportLabel))
	if err != nil {
		return nil, ErrExport
	}
	key, err := recipient.Open(e.aad(), s.Ciphertext)
	if err != nil || len(key) != KeySize {
		clear(key)
		return nil, ErrExport
	}
	return key, nil
}
