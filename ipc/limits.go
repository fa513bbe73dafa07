package ipc

import (
	"errors"
	"fmt"
	"time"
)

// ErrLimits is returned when a Limits value cannot be served with.
var ErrLimits = errors.New("ipc: invalid limits")

// Limits bounds what peers can make the server hold. Request bytes of one uid
// never exceed InFlightBytesPerUID + ConnectionsPerUID × MessageBytes, and bytes of
// answers AnswerBytesPerUID + InFlightPerUID × the handlers' largest answer, where
// those of Options.Large count for a few only.
type Limits struct {
	// MessageBytes is the size of the largest request or batch, in bytes.
	// A larger one is answered with reason "tooLarge" and skipped; one without
	// an id that can be read, and one that goes on past 16 times the limit, ends
	// the connection.
	MessageBytes int
	// Depth is how deep arrays and objects may be nested, the request itself
	// and its batch included.
	Depth int
	// Batch is the number of requests in one batch.
	Batch int
	// InFlight is the number of requests of one connection that are read and
	// not yet answered. At the limit the server stops reading from it. A batch
	// that is longer than this is served alone.
	InFlight int
	// InFlightPerUID is the same over all connections of one uid. Requests
	// past it are answered at once with reason "overloaded".
	InFlightPerUID int
	// InFlightBytesPerUID is the size of these requests together, in bytes.
	InFlightBytesPerUID int
	// AnswerBytesPerUID is the size of the results of one uid that did not go out
	// yet, in bytes; a batch's go out together. Once they take this much, further
	// requests are not begun but answered with reason "overloaded".
	AnswerBytesPerUID int
	// Connections is the number of open connections.
	Connections int
	// ConnectionsPerUID is the number of open connections of one uid.
	ConnectionsPerUID int
	// IdleTimeout ends a connection that has sent nothing for this long and
	// waits for no answer.
	IdleTimeout time.Duration
	// WriteTimeout ends a connection whose peer does not take an answer.
	WriteTimeout time.Duration
	// RequestTimeout bounds the context of a handler, and the time from the
	// first byte of a request to its last.
	RequestTimeout time.Duration
}

// DefaultLimits returns the limits that suit one relay on the same host.
func DefaultLimits() Limits {
	return Limits{
		MessageBytes:        2 << 20, // room for a transaction of six blobs, in hexadecimal and with its sidecar
		Depth:               64,
		Batch:               64,
		InFlight:            32,
		InFlightPerUID:      128,
		InFlightBytesPerUID: 64 << 20,
		AnswerBytesPerUID:   32 << 20,
		Connections:         256,
		ConnectionsPerUID:   64,
		IdleTimeout:         10 * time.Minute,
		WriteTimeout:        30 * time.Second,
		RequestTimeout:      60 * time.Second,
	}
}

// Validate returns an error that wraps ErrLimits and names the first field
// that is not positive or contradicts another.
func (l Limits) Validate() error {
	if err := l.validateCounts(); err != nil {
		return err
	}
	for _, f := range []struct {
		name  string
		value time.Duration
	}{
		{"IdleTimeout", l.IdleTimeout},
		{"WriteTimeout", l.WriteTimeout},
		{"RequestTimeout", l.RequestTimeout},
	} {
		if f.value <= 0 {
			return fmt.Errorf("%w: %s is %v, set it above zero", ErrLimits, f.name, f.value)
		}
	}
	return nil
}

func (l Limits) validateCounts() error {
	for _, f := range []struct {
		name            string
		value, min, max int
	}{
		{"MessageBytes", l.MessageBytes, 256, 64 << 20},
		{"Depth", l.Depth, 3, 10_000},
		{"Batch", l.Batch, 1, 10_000},
		{"InFlight", l.InFlight, 1, 10_000},
		{"InFlightPerUID", l.InFlightPerUID, max(l.InFlight, l.Batch), 100_000},
		{"InFlightBytesPerUID", l.InFlightBytesPerUID, l.MessageBytes, 1 << 30},
		{"AnswerBytesPerUID", l.AnswerBytesPerUID, 1, 1 << 30},
		{"Connections", l.Connections, 1, 100_000},
		{"ConnectionsPerUID", l.ConnectionsPerUID, 1, l.Connections},
	} {
		if f.value < f.min || f.value > f.max {
			return fmt.Errorf("%w: %s is %d, set it between %d and %d", ErrLimits, f.name, f.value, f.min, f.max)
		}
	}
	return nil
}
