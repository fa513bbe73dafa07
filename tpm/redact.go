package tpm

import (
	"fmt"
	"io"
	"log/slog"
)

// A counter's authorisation must not get into a log by way of the value that
// holds it: whatever the verb, both types print their handle and nothing else.

// Format implements fmt.Formatter.
func (s CounterSpec) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.redacted()) }

// LogValue implements slog.LogValuer.
func (s CounterSpec) LogValue() slog.Value { return slog.StringValue(s.redacted()) }

// MarshalJSON gives the redacted form: a CounterSpec is not stored as it is.
func (s CounterSpec) MarshalJSON() ([]byte, error) { return fmt.Appendf(nil, "%q", s.redacted()), nil }

func (s CounterSpec) redacted() string { return fmt.Sprintf("NV counter %#x (redacted)", s.Handle) }

// Format implements fmt.Formatter.
func (c *Counter) Format(f fmt.State, verb rune) { CounterSpec{Handle: c.Handle()}.Format(f, verb) }

// LogValue implements slog.LogValuer.
func (c *Counter) LogValue() slog.Value { return CounterSpec{Handle: c.Handle()}.LogValue() }
