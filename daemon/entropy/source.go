package entropy

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

const (
	// MinBytes is the least number of bytes that a source may contribute:
	// 256 bits, the strength of the keys that the seed makes.
	MinBytes = 32

	// DefaultBytes is the number of bytes asked of each source unless
	// configured. At 64 bytes each single source carries the full 512 bits of
	// the seed. KMS charges the same for 1 to 1,024 bytes, and a TPM gives 64
	// in one or two commands.
	DefaultBytes = 64

	// MaxBytes is the most that a source is asked for: the limit of KMS
	// GenerateRandom.
	MaxBytes = 1024
)

// redacted is what every secret of this package says when it is printed.
const redacted = "redacted"

// Source is one origin of randomness. It is safe for concurrent use.
type Source interface {
	// Name identifies the source in the mix, in errors and in provenance. It
	// is 1 to 32 bytes of a-z, 0-9, '-' and '_', and never changes, because
	// it is mixed into the seed and keys the stored digest of the last answer.
	Name() string

	// Read returns exactly n bytes and says where they came from. The caller
	// wipes the bytes; on error nothing secret is returned. Read honours the
	// context's deadline.
	Read(ctx context.Context, n int) (Reading, error)
}

// Reading is one answer of a source. Bytes are secret; whoever receives a
// Reading wipes them. Printing, logging or marshalling a Reading shows only the
// name of the source.
type Reading struct {
	Bytes      []byte
	Provenance Provenance
}

// Provenance says where the bytes of one reading came from. It is not secret,
// never holds the bytes, and is kept with the wallet.
type Provenance struct {
	Source       string    // name of the source
	Count        int       // number of bytes contributed
	RequestID    string    // KMS: x-amzn-RequestId, to be found in CloudTrail
	Region       string    // KMS: the AWS region that answered
	Manufacturer string    // device: manufacturer as the device reports it
	Model        string    // device: model
	Version      string    // device: firmware version
	Time         time.Time // when the answer came, UTC, by this host's clock
}

// Format implements [fmt.Formatter] so that no verb can print the bytes.
func (r Reading) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "reading of %s: %s", r.Provenance.Source, redacted)
}

// LogValue implements [slog.LogValuer].
func (r Reading) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON implements [json.Marshaler].
func (r Reading) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// wipe overwrites the secret bytes.
func (r Reading) wipe() { clear(r.Bytes) }

// complete reports whether the provenance says all that an auditor needs: which
// source, how many bytes, when, and either the KMS request or the device.
func (p Provenance) complete(source string, count int) bool {
	fromKMS := p.RequestID != "" && p.Region != ""
	fromDevice := p.Manufacturer != "" || p.Model != ""
	return p.Source == source && p.Count == count && !p.Time.IsZero() && (fromKMS || fromDevice)
}

// validName reports whether a source's name is in the allowed alphabet, so that
// it is unambiguous in logs, in the database and in the mix.
func validName(name string) bool {
	if len(name) < 1 || len(name) > 32 {
		return false
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}
