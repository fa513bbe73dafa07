package channel

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"strings"

	"github.com/gowebpki/jcs"
)

// ErrCanonical is returned for parameters or an answer without a form by
// RFC 8785.
var ErrCanonical = errors.New("cannot be put into canonical form (RFC 8785)")

// ErrNumber is returned for parameters with a number that RFC 8785 may round:
// two payloads would have one digest.
var ErrNumber = errors.New("beside a sealed PIN, numbers must be whole and at most 9007199254740991: write others as strings")

// hidden are the members of parameters that Digest leaves out.
var hidden = []string{"pin", "newPin", "sealedPin"}

// Digest is SHA-256 over the canonical form (RFC 8785) of an object without
// pin, newPin and sealedPin. The caller has checked that no member is there
// twice.
func Digest(object []byte) ([32]byte, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(object, &members); err != nil || members == nil {
		return [32]byte{}, ErrCanonical
	}
	for _, name := range hidden {
		clear(members[name])
		delete(members, name)
	}
	return digestOf(members)
}

func digestOf(members map[string]json.RawMessage) ([32]byte, error) {
	text, err := json.Marshal(members)
	if err != nil {
		return [32]byte{}, ErrCanonical
	}
	canonical, err := jcs.Transform(text)
	if err != nil {
		return [32]byte{}, ErrCanonical
	}
	return sha256.Sum256(canonical), nil
}

// CheckNumbers reports ErrNumber when a number in value is not exact in
// canonical form, or is spelled in another way than JavaScript would.
func CheckNumbers(value []byte) error {
	d := json.NewDecoder(bytes.NewReader(value))
	d.UseNumber()
	for {
		t, err := d.Token()
		if err != nil {
			return nil // the end: whoever decoded it has found other errors
		}
		if n, ok := t.(json.Number); ok && !exact(string(n)) {
			return ErrNumber
		}
	}
}

// exact takes 0 and whole numbers up to 2^53-1 in either direction.
func exact(n string) bool {
	digits := strings.TrimPrefix(n, "-")
	if strings.ContainsAny(digits, ".eE") || n == "-0" {
		return false
	}
	const most = "9007199254740991"
	return len(digits) < len(most) || len(digits) == len(most) && digits <= most
}
