package channel

import "errors"

var (
	// ErrPIN is returned for a PIN that a block cannot carry.
	ErrPIN = errors.New("a PIN has 1 to 64 bytes")
	// ErrKey is returned for a private key that a block cannot carry.
	ErrKey = errors.New("a private key has 32 bytes, and no new PIN beside it")
	// ErrSealed is returned for a block that does not open: it was changed, or was
	// sealed for another request. It says nothing about the PIN.
	ErrSealed = errors.New("the sealed PIN does not open for this request")
)

// PINs are what a block carries; secret until wiped.
type PINs struct {
	PIN []byte
	New []byte // nil: none
	Key []byte // a private key to bring in, KeySize bytes; nil: none
}

// Wipe overwrites the PINs and the key.
func (p *PINs) Wipe() {
	clear(p.PIN)
	clear(p.New)
	clear(p.Key)
}

func (p *PINs) check() error {
	if len(p.PIN) < 1 || len(p.PIN) > MaxPIN || len(p.New) > MaxPIN || (p.New != nil && len(p.New) == 0) {
		return ErrPIN
	}
	if p.Key != nil && (len(p.Key) != KeySize || p.New != nil) {
		return ErrKey
	}
	return nil
}

// encode pads to PlaintextSize; the caller wipes the result.
func (p *PINs) encode() ([]byte, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	b := make([]byte, PlaintextSize)
	n := put(b, 0, p.PIN)
	n = put(b, n, p.New)
	if p.Key != nil {
		put(b, n, p.Key)
	}
	return b, nil
}

// put writes a part behind its length and gives the place after it.
func put(b []byte, at int, part []byte) int {
	b[at] = byte(len(part))
	return at + 1 + copy(b[at+1:], part)
}

// decode is encode's exact inverse: one plaintext for one set of parts. These
// are copies. What was before there were keys has a zero where their length is.
func (p *PINs) decode(b []byte) error {
	if len(b) != PlaintextSize {
		return ErrSealed
	}
	first, rest := take(b)
	second, rest := take(rest)
	third, padding := take(rest)
	for _, c := range padding {
		if c != 0 {
			return ErrSealed
		}
	}
	got := PINs{PIN: part(first), New: part(second), Key: part(third)}
	if got.check() != nil {
		got.Wipe()
		return ErrSealed
	}
	*p = got
	return nil
}

// take splits a part off that stands behind its length. A part that is longer
// than what is there takes nothing, and leaves its length as padding that is not
// zero.
func take(b []byte) (part, rest []byte) {
	if len(b) == 0 || int(b[0]) > len(b)-1 {
		return nil, b
	}
	return b[1 : 1+b[0]], b[1+b[0]:]
}

// part is a copy that the caller wipes; nil for none.
func part(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return append(make([]byte, 0, len(b)), b...)
}
