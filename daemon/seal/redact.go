package seal

import (
	"fmt"
	"log/slog"
)

const redacted = "redacted"

// The methods below keep secrets out of every log and message, whatever verb,
// handler or encoder prints them, by value and by pointer.

// Format implements [fmt.Formatter].
func (k Key) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue implements [slog.LogValuer].
func (k Key) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON implements json.Marshaler.
func (k Key) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// Format implements [fmt.Formatter].
func (w Wrapped) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue implements [slog.LogValuer].
func (w Wrapped) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON implements json.Marshaler.
func (w Wrapped) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// Format implements [fmt.Formatter].
func (s HostSecret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue implements [slog.LogValuer].
func (s HostSecret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON implements json.Marshaler.
func (s HostSecret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
