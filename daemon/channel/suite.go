package channel

import (
	"crypto/hpke"
	"crypto/sha256"
	"encoding/binary"
)

// Labels of the protocol. They never change their meaning.
const (
	sealLabel      = "sigild/pin/v1"
	answerLabel    = "sigild/pin-answer/v1"
	keyIDLabel     = "sigild/pin-key-id/v1"
	StatementLabel = "sigild/pin-key/v1\n" // stands before a statement in what is signed
)

// Suite is the name of the HPKE suite in statements.
const Suite = "MLKEM768-X25519/HKDF-SHA256/AES-256-GCM"

// Sizes in bytes.
const (
	PublicKeySize  = 1216 // ML-KEM-768 encapsulation key ‖ X25519 point
	EncSize        = 1120 // ML-KEM-768 ciphertext ‖ X25519 point
	PlaintextSize  = 160
	CiphertextSize = PlaintextSize + 16
	ProofSize      = sha256.Size
)

// MaxPIN is the longest PIN that a block carries, in bytes. Both fit, and so do
// one and a key.
const MaxPIN = 64

// KeySize is the size of a private key in bytes.
const KeySize = 32

// MaxMethod is the longest name of a method, in bytes.
const MaxMethod = 255

// ID is 16 bytes: an installation, or a key of the channel.
type ID [16]byte

func suite() (hpke.KEM, hpke.KDF, hpke.AEAD) {
	return hpke.MLKEM768X25519(), hpke.HKDFSHA256(), hpke.AES256GCM()
}

// Block is a sealed PIN as it travels.
type Block struct {
	KeyID      []byte // 16 bytes
	Enc        []byte // EncSize bytes
	Ciphertext []byte // CiphertextSize bytes
	Expires    int64  // Unix seconds
}

// Request is what a block is sealed for.
type Request struct {
	Method string
	Digest [32]byte // of the parameters, by Digest
}

func info(installation, key ID) []byte {
	b := append([]byte(sealLabel), installation[:]...)
	return append(b, key[:]...)
}

func (r Request) aad(key ID, expires int64) []byte {
	b := append([]byte(sealLabel), byte(len(r.Method)))
	b = append(b, r.Method...)
	b = append(b, key[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(expires))
	return append(b, r.Digest[:]...)
}

func keyID(public []byte) ID {
	sum := sha256.Sum256(append([]byte(keyIDLabel), public...))
	return ID(sum[:16])
}
