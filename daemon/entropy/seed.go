package entropy

import (
	"fmt"
	"log/slog"
	"slices"
)

// Seed is the result of one mix. Whoever receives one calls Wipe with defer on
// the next line. It is used by one goroutine at a time. Printing, logging or
// marshalling it says "redacted".
type Seed struct {
	seed       []byte
	feed       []byte
	provenance []Provenance
}

// Bytes returns the 64-byte seed, not a copy; after Wipe it returns nil, and
// what it returned before is zero.
func (s Seed) Bytes() []byte { return s.seed }

// TokenFeed returns 64 bytes for the token's own generator (PKCS#11
// C_SeedRandom). They come from the same mix under another label and tell
// nothing about the seed. After Wipe it returns nil.
func (s Seed) TokenFeed() []byte { return s.feed }

// Provenance returns one entry per source, sorted by name. It stays after Wipe.
func (s Seed) Provenance() []Provenance { return slices.Clone(s.provenance) }

// Wipe overwrites the secrets. It may be called more than once.
func (s *Seed) Wipe() {
	clear(s.seed)
	clear(s.feed)
	s.seed, s.feed = nil, nil
}

// Format implements [fmt.Formatter] so that no verb can print the secrets.
func (s Seed) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// String says "redacted".
func (s Seed) String() string { return redacted }

// LogValue implements [slog.LogValuer].
func (s Seed) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON implements [json.Marshaler].
func (s Seed) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
