package channel

import "errors"

// ErrPIN is returned for a PIN that a block cannot carry.
var ErrPIN = errors.New("a PIN has 1 to 64 bytes")

// ErrSealed is returned for a block that does not open: it was changed, or was
// sealed for another request. It says nothing about the PIN.
var ErrSealed = errors.New("the sealed PIN does not open for this request")

// PINs are what a block carries; secret until wiped.
type PINs struct {
	PIN []byte
	New []byte // nil: none
}

// Wipe overwrites the PINs.
func (p *PINs) Wipe() {
	clear(p.PIN)
	clear(p.New)
}

// encode pads to PlaintextSize; the caller wipes the result.
func (p *PINs) encode() ([]byte, error) {
	if len(p.PIN) < 1 || len(p.PIN) > MaxPIN || len(p.New) > MaxPIN || (p.New != nil && len(p.New) == 0) {
		return nil, ErrPIN
	}
	b := make([]byte, PlaintextSize)
	b[0] = byte(len(p.PIN))
	n := 1 + copy(b[1:], p.PIN)
	b[n] = byte(len(p.New))
	copy(b[n+1:], p.New)
	return b, nil
}

// decode is encode's exact inverse: one plaintext for one pair of PINs. The
// PINs are copies.
func (p *PINs) decode(b []byte) error {
	if len(b) != PlaintextSize || b[0] < 1 || b[0] > MaxPIN {
		return ErrSealed
	}
	first := b[1 : 1+b[0]]
	rest := b[1+b[0]:]
	if rest[0] > MaxPIN {
		return ErrSealed
	}
	second, padding := rest[1:1+rest[0]], rest[1+rest[0]:]
	for _, c := range padding {
		if c != 0 {
			return ErrSealed
		}
	}
	p.PIN = append(make([]byte, 0, len(first)), first...)
	if len(second) > 0 {
		p.New = append(make([]byte, 0, len(second)), second...)
	}
	return nil
}
