package ipc

import (
	"encoding/hex"
	"errors"
	"time"
)

// ErrEncoding is returned when a JSON string is not what its type asks for.
var ErrEncoding = errors.New("ipc: malformed value")

// Hex is a byte string; on the wire "0x" and two lower-case hexadecimal digits
// per byte. Upper-case digits are accepted on input.
type Hex []byte

// String returns the wire form.
func (h Hex) String() string { return "0x" + hex.EncodeToString(h) }

// MarshalText returns the wire form.
func (h Hex) MarshalText() ([]byte, error) {
	out := make([]byte, 2+hex.EncodedLen(len(h)))
	copy(out, "0x")
	hex.Encode(out[2:], h)
	return out, nil
}

// UnmarshalText reads the wire form.
func (h *Hex) UnmarshalText(text []byte) error {
	if len(text) < 2 || text[0] != '0' || text[1] != 'x' {
		return ErrEncoding
	}
	out := make([]byte, hex.DecodedLen(len(text)-2))
	if _, err := hex.Decode(out, text[2:]); err != nil {
		return ErrEncoding
	}
	*h = out
	return nil
}

// Time is a moment; on the wire RFC 3339 in UTC with a "Z" and whole seconds.
type Time struct{ time.Time }

// At returns t as a Time, in UTC and cut to whole seconds.
func At(t time.Time) Time { return Time{t.UTC().Truncate(time.Second)} }

// MarshalText returns the wire form.
func (t Time) MarshalText() ([]byte, error) {
	return []byte(t.UTC().Format(time.RFC3339)), nil
}

// MarshalJSON returns the wire form as a JSON string.
func (t Time) MarshalJSON() ([]byte, error) {
	return []byte(`"` + t.UTC().Format(time.RFC3339) + `"`), nil
}

// UnmarshalText reads the wire form; an offset other than "Z" is an error.
func (t *Time) UnmarshalText(text []byte) error {
	if len(text) == 0 || text[len(text)-1] != 'Z' {
		return ErrEncoding
	}
	parsed, err := time.Parse(time.RFC3339, string(text))
	if err != nil {
		return ErrEncoding
	}
	t.Time = parsed.UTC()
	return nil
}

// UnmarshalJSON reads the wire form from a JSON string.
func (t *Time) UnmarshalJSON(b []byte) error {
	if len(b) < 2 || b[0] != '"' || b[len(b)-1] != '"' {
		return ErrEncoding
	}
	return t.UnmarshalText(b[1 : len(b)-1])
}
