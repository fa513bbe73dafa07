package entropy

import (
	"cmp"
	"crypto/hkdf"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"log/slog"
	"slices"

	"github.com/sigild/sigild/daemon/wipe"
)

const (
	// SeedSize is the length of a seed in bytes.
	SeedSize = 64

	// FeedSize is the length in bytes of what is fed back to the token's own
	// generator.
	FeedSize = 64

	// MaxBinding is the longest binding in bytes.
	MaxBinding = 1024
)

// The labels of the mix. They are part of the format and never change; another
// construction gets another version.
const (
	saltMix   = "sigild/mix/v1"
	labelSeed = "sigild/seed/v1"
	labelFeed = "sigild/token-feed/v1"
)

// Part is one source's contribution to a mix. Bytes are secret: printing,
// logging or marshalling a Part shows only its name.
type Part struct {
	Name  string
	Bytes []byte
}

// Format implements [fmt.Formatter] so that no verb can print the bytes.
func (p Part) Format(f fmt.State, _ rune) { _, _ = fmt.Fprintf(f, "part %s: %s", p.Name, redacted) }

// LogValue implements [slog.LogValuer].
func (p Part) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON implements [json.Marshaler].
func (p Part) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// Mix derives a seed and a token feed from the parts by HKDF (RFC 5869) with
// HMAC-SHA-512. It is deterministic, does not depend on the order of the parts,
// and changes neither binding nor parts. The caller wipes both results.
//
// Bytes, where len32be is the length as 4 bytes, big-endian, and ‖ joins:
//
//	IKM  = for each part in ascending byte order of its name:
//	         len32be(name) ‖ name ‖ len32be(bytes) ‖ bytes
//	salt = "sigild/mix/v1"
//	PRK  = HKDF-Extract(salt, IKM)                                      64 bytes
//	seed = HKDF-Expand(PRK, "sigild/seed/v1"       ‖ len32be(binding) ‖ binding, 64)
//	feed = HKDF-Expand(PRK, "sigild/token-feed/v1" ‖ len32be(binding) ‖ binding, 64)
//
// The binding, 1 to [MaxBinding] bytes, binds the result to its use, such as
// the wallet id. Each part has [MinBytes] to [MaxBytes] bytes and a name of its
// own in the alphabet of [Source]. Anything else is [ErrPart], and nothing is
// derived.
func Mix(binding []byte, parts []Part) (seed, feed []byte, err error) {
	if err := checkBinding(binding); err != nil {
		return nil, nil, err
	}
	sorted, err := canonical(parts)
	if err != nil {
		return nil, nil, err
	}
	wipe.Do(func() { seed, feed, err = extract(binding, sorted) })
	return seed, feed, err
}

func extract(binding []byte, sorted []Part) (seed, feed []byte, err error) {
	ikm := inputKeyingMaterial(sorted)
	defer clear(ikm)
	prk, err := hkdf.Extract(sha512.New, ikm, []byte(saltMix))
	if err != nil {
		return nil, nil, fmt.Errorf("entropy: extract: %w", err)
	}
	defer clear(prk)
	return expand(prk, binding)
}

// expand derives the two outputs, or none.
func expand(prk, binding []byte) (seed, feed []byte, err error) {
	seed, err = hkdf.Expand(sha512.New, prk, info(labelSeed, binding), SeedSize)
	if err != nil {
		return nil, nil, fmt.Errorf("entropy: expand: %w", err)
	}
	feed, err = hkdf.Expand(sha512.New, prk, info(labelFeed, binding), FeedSize)
	if err != nil {
		clear(seed)
		return nil, nil, fmt.Errorf("entropy: expand: %w", err)
	}
	return seed, feed, nil
}

// info is label ‖ len32be(binding) ‖ binding.
func info(label string, binding []byte) string {
	b := binary.BigEndian.AppendUint32([]byte(label), uint32(len(binding)))
	return string(append(b, binding...))
}

// inputKeyingMaterial is made in one allocation of the exact size, so that
// growing leaves no copy of a secret behind.
func inputKeyingMaterial(sorted []Part) []byte {
	size := 0
	for _, p := range sorted {
		size += 4 + len(p.Name) + 4 + len(p.Bytes)
	}
	ikm := make([]byte, 0, size)
	for _, p := range sorted {
		ikm = binary.BigEndian.AppendUint32(ikm, uint32(len(p.Name)))
		ikm = append(ikm, p.Name...)
		ikm = binary.BigEndian.AppendUint32(ikm, uint32(len(p.Bytes)))
		ikm = append(ikm, p.Bytes...)
	}
	return ikm
}

// canonical checks the parts and returns them sorted by name; the caller's
// slice keeps its order.
func canonical(parts []Part) ([]Part, error) {
	if len(parts) == 0 {
		return nil, fmt.Errorf("%w: no source", ErrPart)
	}
	sorted := slices.SortedFunc(slices.Values(parts), func(a, b Part) int { return cmp.Compare(a.Name, b.Name) })
	for i, p := range sorted {
		switch {
		case !validName(p.Name):
			return nil, fmt.Errorf("%w: source name %q: 1 to 32 of a-z 0-9 - _", ErrPart, p.Name)
		case i > 0 && p.Name == sorted[i-1].Name:
			return nil, fmt.Errorf("%w: source %s is given twice", ErrPart, p.Name)
		case len(p.Bytes) < MinBytes || len(p.Bytes) > MaxBytes:
			return nil, fmt.Errorf("%w: source %s gives %d bytes, not %d to %d", ErrPart, p.Name, len(p.Bytes), MinBytes, MaxBytes)
		}
	}
	return sorted, nil
}

// checkBinding refuses a seed that is bound to nothing.
func checkBinding(binding []byte) error {
	if len(binding) < 1 || len(binding) > MaxBinding {
		return fmt.Errorf("%w: binding has %d bytes, not 1 to %d", ErrPart, len(binding), MaxBinding)
	}
	return nil
}
