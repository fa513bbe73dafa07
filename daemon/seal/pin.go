package seal

import (
	"errors"
	"fmt"

	"github.com/sigild/sigild/daemon/seal/argon2"
	"github.com/sigild/sigild/daemon/wipe"
)

// PIN lengths in bytes; a PIN is printable ASCII (0x20 to 0x7e).
const (
	MinPIN = 6
	MaxPIN = 64
)

// ErrPINSyntax is returned for a PIN that no wallet can have: shorter than
// MinPIN, longer than MaxPIN, or with a byte outside printable ASCII. It costs
// no attempt, because it says nothing about the wallet's PIN.
var ErrPINSyntax = errors.New("a PIN has 6 to 64 printable ASCII characters")

// ErrPINWeak is returned for a new PIN that would be among a guesser's first.
var ErrPINWeak = errors.New("this PIN is too easy to guess")

// CheckSyntax reports whether pin could be the PIN of any wallet.
func CheckSyntax(pin []byte) error {
	if len(pin) < MinPIN || len(pin) > MaxPIN {
		return ErrPINSyntax
	}
	for _, c := range pin {
		if c < 0x20 || c > 0x7e {
			return ErrPINSyntax
		}
	}
	return nil
}

// CheckNew reports whether pin may be set on a wallet: CheckSyntax, and not one
// of the forms that people choose first (all equal, a run such as 345678 or
// 987654, a repeated block such as 121212 or 123123, or a common PIN).
func CheckNew(pin []byte) error {
	if err := CheckSyntax(pin); err != nil {
		return err
	}
	switch {
	case isRun(pin, 0), isRun(pin, 1), isRun(pin, -1):
		return fmt.Errorf("%w: it is one character repeated, or a run", ErrPINWeak)
	case isRepeatedBlock(pin):
		return fmt.Errorf("%w: it repeats a shorter block", ErrPINWeak)
	case isCommon(pin):
		return fmt.Errorf("%w: it is one of the commonest", ErrPINWeak)
	}
	return nil
}

// isRun reports whether each byte follows the one before it by step. Digits
// wrap, so that 890123 is a run too.
func isRun(pin []byte, step int) bool {
	for i := 1; i < len(pin); i++ {
		if !follows(int(pin[i-1]), int(pin[i]), step) {
			return false
		}
	}
	return true
}

func follows(a, b, step int) bool {
	if a+step == b {
		return true
	}
	digits := a >= '0' && a <= '9' && b >= '0' && b <= '9'
	return digits && (a-'0'+step+10)%10 == b-'0'
}

func isRepeatedBlock(pin []byte) bool {
	for size := 1; size <= len(pin)/2; size++ {
		if len(pin)%size == 0 && hasPeriod(pin, size) {
			return true
		}
	}
	return false
}

func hasPeriod(pin []byte, size int) bool {
	for i := size; i < len(pin); i++ {
		if pin[i] != pin[i-size] {
			return false
		}
	}
	return true
}

// Argon2 holds the cost of stretching one PIN with Argon2id (RFC 9106), and
// its salt. It is stored in the clear in the record's header.
type Argon2 struct {
	Time    uint32 `cbor:"1,keyasint"` // passes, 1 to 16
	Memory  uint32 `cbor:"2,keyasint"` // KiB, 8192 to 262144
	Threads uint8  `cbor:"3,keyasint"` // lanes, 1 to 4
	Salt    []byte `cbor:"4,keyasint"` // 16 random bytes, fresh at every sealing
}

// DefaultArgon2 is the cost of a new record: 19 MiB, two passes, one lane (the
// OWASP minimum). The hardware factors carry the weight; this slows down
// whoever holds the database, the token and the TPM together.
func DefaultArgon2() Argon2 { return Argon2{Time: 2, Memory: 19 * 1024, Threads: 1} }

// Check reports whether the costs are within what this program will spend.
func (a Argon2) Check() error {
	switch {
	case a.Time < 1 || a.Time > 16:
		return fmt.Errorf("argon2 time %d is outside 1 to 16", a.Time)
	case a.Memory < 8*1024 || a.Memory > 256*1024:
		return fmt.Errorf("argon2 memory %d KiB is outside 8192 to 262144", a.Memory)
	case a.Threads < 1 || a.Threads > 4:
		return fmt.Errorf("argon2 threads %d is outside 1 to 4", a.Threads)
	}
	return nil
}

// Stretch is Argon2id over pin: 32 secret bytes that the caller wipes. It takes
// Memory KiB for its duration; callers bound how many run at once. An error says
// nothing about the PIN.
func Stretch(pin []byte, a Argon2) ([]byte, error) {
	if err := a.Check(); err != nil {
		return nil, err
	}
	if len(a.Salt) != saltSize {
		return nil, fmt.Errorf("argon2 salt has %d bytes, want %d", len(a.Salt), saltSize)
	}
	out := make([]byte, argon2.TagSize)
	var err error
	wipe.Do(func() {
		err = argon2.Key((*[argon2.TagSize]byte)(out), pin, a.Salt, a.Time, a.Memory, a.Threads)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

const saltSize = 16
