package entropy

import (
	"context"
	"errors"
	"fmt"
)

var (
	// ErrPart is returned when what is given to [Mix] or [Mixer.Seed] cannot
	// be mixed: no parts, a name or a length outside its limits, a name given
	// twice, or an empty binding.
	ErrPart = errors.New("entropy: cannot be mixed")

	// ErrAnswers is returned when the digests of the answers could not be
	// compared and stored. No seed is made, because a repeating source would
	// not be noticed.
	ErrAnswers = errors.New("entropy: last answers could not be stored; check the database's disk")
)

// Reason says why the answer of a source was not taken. The zero value is
// ReasonUnknown and never means that the answer was good.
type Reason uint8

// The reasons of a [SourceError].
const (
	ReasonUnknown    Reason = iota
	ReasonFailed            // the source returned an error
	ReasonTimeout           // no answer within the deadline
	ReasonBusy              // earlier reads still occupy the source
	ReasonShort             // fewer or more bytes than asked for
	ReasonConstant          // all bytes are equal
	ReasonPattern           // a block of at most 16 bytes repeats
	ReasonRepeated          // equal to the last answer of that source
	ReasonDuplicate         // equal to another source's answer in this mix
	ReasonProvenance        // the source does not say where the bytes came from
)

// Reasons lists them.
func Reasons() []Reason {
	return []Reason{ReasonUnknown, ReasonFailed, ReasonTimeout, ReasonBusy, ReasonShort, ReasonConstant, ReasonPattern,
		ReasonRepeated, ReasonDuplicate, ReasonProvenance}
}

// String returns the reason as one stable lower-case word.
func (r Reason) String() string {
	switch r {
	case ReasonFailed:
		return "failed"
	case ReasonTimeout:
		return "timeout"
	case ReasonBusy:
		return "busy"
	case ReasonShort:
		return "short"
	case ReasonConstant:
		return "constant"
	case ReasonPattern:
		return "pattern"
	case ReasonRepeated:
		return "repeated"
	case ReasonDuplicate:
		return "duplicate"
	case ReasonProvenance:
		return "provenance"
	default:
		return "unknown"
	}
}

// Passing reports whether the source gave no answer, rather than one that was
// refused: then it may give a good one later.
func (r Reason) Passing() bool {
	return r == ReasonFailed || r == ReasonTimeout || r == ReasonBusy
}

// advice tells the operator what to do about a reason.
func (r Reason) advice() string {
	switch r {
	case ReasonFailed, ReasonTimeout:
		return "check the device or service; no wallet is made without it"
	case ReasonBusy:
		return "earlier reads have not returned; check the device, restart sigild if it stays"
	case ReasonShort, ReasonProvenance:
		return "the device or service does not keep its contract; check its driver and version"
	case ReasonRepeated, ReasonConstant, ReasonPattern, ReasonDuplicate:
		return "its random generator is broken or replaced; take it out of service and look into it before making wallets"
	default:
		return "no wallet is made"
	}
}

// SourceError is returned when the answer of one source stops the creation. It
// names the source, never the bytes. Err is the underlying error, if any.
type SourceError struct {
	Source string
	Reason Reason
	Err    error
}

// Error says which source failed, why, and what to do.
func (e *SourceError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("entropy: source %s: %s; %s", e.Source, e.Reason, e.Reason.advice())
	}
	return fmt.Sprintf("entropy: source %s: %s: %v; %s", e.Source, e.Reason, e.Err, e.Reason.advice())
}

// Unwrap returns the source's own error.
func (e *SourceError) Unwrap() error { return e.Err }

// readFailure turns the error of a source's Read into a SourceError.
func readFailure(source string, err error) *SourceError {
	reason := ReasonFailed
	if errors.Is(err, context.DeadlineExceeded) {
		reason = ReasonTimeout
	}
	return &SourceError{Source: source, Reason: reason, Err: err}
}
