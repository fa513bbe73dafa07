package ipc

import (
	"fmt"
	"log/slog"
	"unicode/utf8"
)

const redacted = "[redacted]"

// Secret is a PIN or another short secret: a JSON string on the wire, bytes in
// memory. It prints, logs and marshals as "[redacted]"; only AppendJSON writes
// it out. It is decoded without a Go string, which could not be wiped. The
// holder calls Wipe, in a defer on the line after the value was made.
//
// The client sends a Secret that is a field of the parameters' struct, and
// refuses parameters that hold one deeper inside. A field with the tag "sealed" is
// no member of the parameters: it is sent in a sealed block or not at all.
type Secret []byte

// Wipe overwrites the bytes.
func (s Secret) Wipe() { clear(s) }

// String returns "[redacted]".
func (s Secret) String() string { return redacted }

// GoString returns "[redacted]".
func (s Secret) GoString() string { return redacted }

// Format writes "[redacted]" for every verb.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }

// LogValue returns "[redacted]".
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON returns "[redacted]" as a JSON string.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// AppendJSON appends s as a JSON string to dst and returns the longer slice;
// the caller wipes it. Give dst a capacity of at least JSONLen more, or append
// leaves a copy behind. It returns ErrEncoding if s is not UTF-8.
func (s Secret) AppendJSON(dst []byte) ([]byte, error) {
	if !utf8.Valid(s) {
		return dst, ErrEncoding
	}
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	for _, b := range s {
		switch {
		case b == '"' || b == '\\':
			dst = append(dst, '\\', b)
		case b < 0x20:
			dst = append(dst, '\\', 'u', '0', '0', digits[b>>4], digits[b&0xf])
		default:
			dst = append(dst, b)
		}
	}
	return append(dst, '"'), nil
}

// JSONLen returns an upper bound of what AppendJSON appends, in bytes.
func (s Secret) JSONLen() int { return 6*len(s) + 2 }

// UnmarshalJSON reads a JSON string. It returns ErrEncoding, which says
// nothing of the content, for anything else.
func (s *Secret) UnmarshalJSON(b []byte) error {
	if len(b) < 2 || b[0] != '"' || b[len(b)-1] != '"' {
		return ErrEncoding
	}
	out, ok := unquote(make([]byte, 0, len(b)), b)
	if !ok {
		clear(out[:cap(out)])
		return ErrEncoding
	}
	*s = out
	return nil
}
