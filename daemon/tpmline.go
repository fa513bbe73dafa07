package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/sigild/sigild/tpm"
)

// Pauses between the attempts to get the TPM back.
const (
	firstTPMPause = 20 * time.Millisecond
	maxTPMPause   = 300 * time.Millisecond
	slowTPMPause  = 3 * time.Second // after longTPMOutage attempts, unless a caller waits
	longTPMOutage = 2000
	// watchTPM is how often an idle TPM is looked at.
	watchTPM = 15 * time.Second
)

// tpmLine keeps the TPM usable: one goroutine, run, opens it again after a reset
// or an absence and finds out whether the host keys can be used. Callers go
// through do.
type tpmLine struct {
	tpm   *tpm.TPM
	hosts []*tpm.HMACKey
	log   *slog.Logger
	gate  *gate
	told  func() // of each change of what the gate says
	chip  atomic.Pointer[tpm.Info]
	wake  chan struct{}
}

func newTPMLine(t *tpm.TPM, log *slog.Logger) *tpmLine {
	return &tpmLine{tpm: t, log: log, wake: make(chan struct{}, 1), told: func() {},
		gate: newGate(fmt.Errorf("%w: it was not opened yet", tpm.ErrUnavailable))}
}

// do runs a call that may be repeated. While the TPM is away it does not reach
// it; after a fault it waits a little for the recovery and tries once more.
func (l *tpmLine) do(ctx context.Context, call func(context.Context) error) error {
	for again := false; ; again = true {
		if open, _, _, cause := l.gate.look(); !open {
			l.kick()
			if !passing(cause) {
				return cause
			}
			if cause = l.gate.wait(ctx); cause != nil {
				return cause
			}
		}
		err := call(ctx)
		if err == nil || ctx.Err() != nil || !l.suspect(err) {
			return err
		}
		l.shut(err)
		if again || !passing(err) {
			return err
		}
	}
}

// suspect reports whether an error says something of the TPM itself.
func (l *tpmLine) suspect(err error) bool {
	var refused *tpm.CommandError
	return errors.Is(err, tpm.ErrUnavailable) || errors.Is(err, tpm.ErrPCRMismatch) || errors.As(err, &refused)
}

// passing reports whether a fault may be over within the patience of a caller.
func passing(err error) bool { return errors.Is(err, tpm.ErrUnavailable) }

// shut keeps callers off a TPM that failed one of them, and has it looked after.
func (l *tpmLine) shut(cause error) {
	if l.gate.set(cause) {
		l.told()
	}
	l.kick()
}

func (l *tpmLine) kick() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run keeps the TPM usable until ctx ends.
func (l *tpmLine) run(ctx context.Context) {
	for attempt := 0; ctx.Err() == nil; attempt++ {
		err := l.attempt(ctx)
		if ctx.Err() != nil {
			return
		}
		if l.gate.set(err) {
			l.report(ctx, err)
			l.told()
		}
		if err == nil {
			attempt = -1
			l.idle(ctx)
			continue
		}
		l.pause(ctx, attempt)
	}
}

func (l *tpmLine) report(ctx context.Context, err error) {
	if err != nil {
		l.log.WarnContext(ctx, "the TPM cannot be used", "error", err)
		return
	}
	l.log.InfoContext(ctx, "the TPM can be used")
}

// attempt looks at the host keys, on a new connection where the old one broke.
func (l *tpmLine) attempt(ctx context.Context) error {
	err := l.check(ctx)
	if !errors.Is(err, tpm.ErrUnavailable) {
		return err
	}
	if err := l.tpm.Reopen(ctx); err != nil {
		return err
	}
	chip, err := l.tpm.Info(ctx)
	if err != nil {
		return err
	}
	l.chip.Store(&chip)
	return l.check(ctx)
}

// check uses every host key once.
func (l *tpmLine) check(ctx context.Context) error {
	for n, key := range l.hosts {
		if err := key.Check(ctx); err != nil {
			return fmt.Errorf("TPM host key %d: %w", n+1, err)
		}
	}
	return nil
}

// idle waits until somebody saw a fault, or for the next look.
func (l *tpmLine) idle(ctx context.Context) {
	timer := time.NewTimer(watchTPM)
	defer timer.Stop()
	select {
	case <-l.wake:
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (l *tpmLine) pause(ctx context.Context, attempt int) {
	d := maxTPMPause
	if attempt < 5 {
		d = firstTPMPause << attempt
	}
	timer := time.NewTimer(d/2 + rand.N(d))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	if attempt < longTPMOutage {
		return
	}
	timer.Reset(slowTPMPause)
	select {
	case <-timer.C:
	case <-l.wake:
	case <-ctx.Done():
	}
}

// Random is the TPM as a source of randomness.
func (l *tpmLine) Random(ctx context.Context, n int) (b []byte, err error) {
	err = l.do(ctx, func(ctx context.Context) error {
		b, err = l.tpm.Random(ctx, n)
		return err
	})
	return b, err
}

// mac computes with a host key.
func (l *tpmLine) mac(ctx context.Context, key *tpm.HMACKey, message []byte, mac *[32]byte) error {
	return l.do(ctx, func(ctx context.Context) error { return key.HMACInto(ctx, message, mac) })
}

// probe asks the TPM for something that it has in every state.
func (l *tpmLine) probe(ctx context.Context) error {
	return l.do(ctx, func(ctx context.Context) error {
		_, err := l.tpm.Clock(ctx)
		return err
	})
}
