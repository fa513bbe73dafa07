// Package ask gets secrets from a person at the terminal, without echo, or from
// a file descriptor that a script or a supervisor hands over. A secret is never
// a string, a command-line argument or an environment variable: the first could
// not be wiped, and the other two are open to other processes of the user.
package ask

import (
	"context"
	"crypto/subtle"
	"errors"
	"sync"
)

// Terminal is the Source.FD of a source that asks on the controlling terminal.
const Terminal = -1

// MaxBytes is the size of the longest secret, without its line ending.
const MaxBytes = 1024

var (
	// ErrNoTerminal is returned when the process has no controlling terminal,
	// as under a supervisor or in a pipeline of a job scheduler.
	ErrNoTerminal = errors.New("there is no terminal to ask on: hand the secret over by a file descriptor")
	// ErrInterrupted is returned when a signal (SIGINT, SIGTERM, SIGHUP,
	// SIGQUIT) came while the terminal waited for an answer.
	ErrInterrupted = errors.New("interrupted while asking")
	// ErrEmpty is returned for an empty line, and at the end of the input.
	ErrEmpty = errors.New("the secret is empty: expected one line with it")
	// ErrTooLong is returned for a line of more than MaxBytes.
	ErrTooLong = errors.New("the secret is longer than 1024 bytes")
	// ErrDescriptor is returned when the file descriptor cannot be read.
	ErrDescriptor = errors.New("cannot read the secret")
	// ErrEchoes is returned when the file descriptor is a terminal, which would
	// show the secret.
	ErrEchoes = errors.New("the file descriptor is a terminal and would show the secret: let the program ask for it instead")
	// ErrNotConfirmed is returned by Confirm for any other answer.
	ErrNotConfirmed = errors.New("not confirmed")
)

// Source is where secrets come from. Its methods are safe for concurrent use
// and answer one caller after the other; two sources of one descriptor, or of
// the terminal, must not be asked at the same time.
type Source struct {
	// FD is the descriptor that holds the secrets, one line each, in the order
	// in which they are asked for; Terminal (-1) asks on the terminal. The
	// source reads no byte beyond the line that it returns and does not close
	// the descriptor.
	FD int

	mu  sync.Mutex
	err error // of the descriptor: what follows a bad line is no secret
}

// Secret returns one line without its line ending (LF or CR LF), 1 to MaxBytes
// bytes, which the caller wipes. On the terminal question is shown, followed by
// a colon, and the answer is not; what was typed before the question is thrown
// away, because it was shown. The terminal gets its settings back on every
// return, also when ctx ends or a signal comes. Errors are this package's or
// ctx.Err(); after an error the descriptor is not read any more.
func (s *Source) Secret(ctx context.Context, question string) ([]byte, error) {
	return s.line(ctx, question, hidden)
}

// Confirm asks for the text expected to be typed, and returns nil only if it
// was: the last look before something that cannot be undone, or the proof that
// something was written down. On the terminal the answer is shown. From a
// descriptor it is the next line. Other errors are as those of Secret.
func (s *Source) Confirm(ctx context.Context, question string, expected []byte) error {
	answer, err := s.line(ctx, question, shown)
	defer clear(answer)
	if errors.Is(err, ErrEmpty) {
		return ErrNotConfirmed
	}
	if err != nil {
		return err
	}
	if len(expected) == 0 || subtle.ConstantTimeCompare(answer, expected) != 1 {
		return ErrNotConfirmed
	}
	return nil
}

func (s *Source) line(ctx context.Context, question string, mode echo) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.FD == Terminal {
		return onTerminal(ctx, question, mode)
	}
	if s.err != nil {
		return nil, s.err
	}
	answer, err := fromDescriptor(ctx, s.FD)
	s.err = err
	return answer, err
}
