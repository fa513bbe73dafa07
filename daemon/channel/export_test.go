package channel

import (
	"time"
	"unsafe"
)

// SetBack gives t with its wall clock set back by d and its monotonic reading
// as it was. Package time has no way to make one, and a test has no other way
// to turn the clock: it is taken from the layout of time.Time, wall (1 bit of
// hasMonotonic, 33 of seconds since 1885, 30 of nanoseconds) and ext (monotonic).
func SetBack(t time.Time, d time.Duration) time.Time {
	wall := (*uint64)(unsafe.Pointer(&t))
	*wall -= uint64(d/time.Second) << 30
	return t
}

// Pairs is how many key pairs the receiver holds.
func (r *Receiver) Pairs() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.pairs)
}

// Install gives the receiver a key pair, 32 bytes, as if it had made it.
func (r *Receiver) Install(private []byte) (ID, error) {
	kem, _, _ := suite()
	key, err := kem.NewPrivateKey(private)
	if err != nil {
		return ID{}, err
	}
	p := &pair{id: keyID(key.PublicKey().Bytes()), private: key, made: r.Now()}
	r.pairs = append(r.pairs, p)
	return p.id, nil
}

// AAD is a block's associated data.
func AAD(r Request, key ID, expires int64) []byte { return r.aad(key, expires) }

// Info is the HPKE info of a key.
func Info(installation, key ID) []byte { return info(installation, key) }

// Check checks an answer by the daemon's end of the exporter.
func (u *Use) Check(kind Kind, answer []byte) error { return u.prover.Check(kind, answer) }

// Decode reads a plaintext and forgets it.
func Decode(b []byte) error { return new(PINs).decode(b) }

// InstallRecipient is a recipient with a given private key, 32 bytes.
func InstallRecipient(private []byte) (*Recipient, error) {
	kem, _, _ := suite()
	key, err := kem.NewPrivateKey(private)
	return &Recipient{key}, err
}

// ExportAAD is an export's associated data.
func ExportAAD(e *Export) []byte { return e.aad() }
