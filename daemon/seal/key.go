package seal

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/sigild/sigild/daemon/wipe"
)

// Domain labels of the PIN's way to the sealing key. They are part of the
// stored format and never change.
const (
	pinLabel  = "sigild/pin/v1"
	hostLabel = "sigild/host/v1"
	sealLabel = "sigild/seal/v1"
)

// ID names a wallet or an installation: 16 random bytes.
type ID [16]byte

// Factors are the two pieces of hardware that each guess of a PIN needs. Both put
// their result where the caller wipes it: a value that is returned is copied to the
// stack of each function on its way. Implementations are safe for concurrent use.
type Factors interface {
	// Pepper is HMAC-SHA256 over message by the token's pin key.
	Pepper(ctx context.Context, message []byte, h1 *[32]byte) error
	// Host is HMAC-SHA256 over message by the TPM's host key, which the TPM
	// uses only in the measured state that it was bound to.
	Host(ctx context.Context, message []byte, h2 *[32]byte) error
}

// Key closes and opens one wallet's record. It is secret; wipe it.
type Key [32]byte

// Wipe overwrites the key.
func (k *Key) Wipe() { clear(k[:]) }

// ErrFactor is returned when the token or the TPM did not answer. It says
// nothing about the PIN and costs no attempt; the device's own error is wrapped.
var ErrFactor = errors.New("a factor of the sealing key did not answer")

// DeriveKey computes a wallet's sealing key. It takes one Argon2id, one token
// operation and one TPM operation; ctx bounds the two devices.
func DeriveKey(ctx context.Context, pin []byte, wallet ID, a Argon2, f Factors) (*Key, error) {
	stretched, err := Stretch(pin, a)
	if err != nil {
		return nil, err
	}
	defer clear(stretched)
	var h1, h2 *[32]byte
	var key *Key
	wipe.Do(func() { h1, h2, key = new([32]byte), new([32]byte), new(Key) }) // erased once they are unreachable
	defer clear(h1[:])
	defer clear(h2[:])
	if err := apply(ctx, f.Pepper, pinLabel, wallet, stretched, h1); err != nil {
		return nil, fmt.Errorf("%w: token: %w", ErrFactor, err)
	}
	if err := apply(ctx, f.Host, hostLabel, wallet, h1[:], h2); err != nil {
		return nil, fmt.Errorf("%w: TPM: %w", ErrFactor, err)
	}
	wipe.Do(func() { err = expand(key, h1, h2, wallet) })
	if err != nil {
		return nil, err
	}
	return key, nil
}

type hmacFunc func(ctx context.Context, message []byte, mac *[32]byte) error

func apply(ctx context.Context, mac hmacFunc, label string, wallet ID, secret []byte, out *[32]byte) error {
	message := make([]byte, 0, len(label)+len(wallet)+len(secret))
	defer func() { clear(message) }()
	wipe.Do(func() { message = append(append(append(message, label...), wallet[:]...), secret...) })
	return mac(ctx, message, out)
}

func expand(key *Key, h1, h2 *[32]byte, wallet ID) error {
	ikm := make([]byte, 0, len(h1)+len(h2))
	defer func() { clear(ikm) }()
	ikm = append(append(ikm, h1[:]...), h2[:]...)
	okm, err := hkdf.Key(sha256.New, ikm, nil, sealLabel+string(wallet[:]), len(Key{}))
	defer clear(okm)
	if err != nil {
		return fmt.Errorf("HKDF: %w", err)
	}
	copy(key[:], okm)
	return nil
}
