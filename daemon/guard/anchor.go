package guard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
)

var (
	// ErrRefused is returned for every change while the database is not known
	// to be the latest. The errors below say why; errors.Is finds both.
	ErrRefused = errors.New("PINs are refused until an operator looks (`sigild check`) and accepts the database (`sigild check --accept`)")
	// ErrOlderCopy: the TPM's counter went on since this database was written.
	ErrOlderCopy = errors.New("the database is an older copy of itself: changes and wrong PINs since then are not in it")
	// ErrAnchorBehind: the database counted further than the TPM.
	ErrAnchorBehind = errors.New("the TPM's counter is behind the database: the TPM was cleared or replaced, or its state set back")
	// ErrAnchorMissing: the TPM has no such counter.
	ErrAnchorMissing = errors.New("the TPM does not have the counter that anchors this database")
	// ErrAnchorMoved: the counter moved while this daemon ran, and not by it.
	ErrAnchorMoved = errors.New("the TPM's counter was moved by somebody else while the daemon ran: is a copy of the database in use?")
	// ErrSync: the disk took a change and did not confirm it.
	ErrSync = errors.New("the disk did not confirm a write: see that it is whole, then start the daemon anew")
	// ErrUnclean: too many starts had to be trusted after a power cut.
	ErrUnclean = fmt.Errorf("the TPM lost power without an orderly shutdown more than %d times since an operator last acknowledged it", UncleanMax)
	// ErrUnanchored is returned when a change is on disk and the TPM did not
	// confirm its step. It is confirmed before anything else counts.
	ErrUnanchored = errors.New("the TPM did not confirm the change")
	// ErrUnconfirmed is returned while the TPM does not confirm an earlier
	// change. Nothing was written.
	ErrUnconfirmed = errors.New("the TPM does not confirm an earlier change yet")
)

const (
	// UncleanMax is how many unclean starts are allowed between two
	// acknowledgements.
	UncleanMax = 3
	// jumpMax is how far an orderly counter jumps ahead at a power cut: the
	// TPM writes it to flash every MAX_ORDERLY_COUNT + 1 steps (TPM 2.0 Part 3,
	// TPM2_NV_Increment), which is 256 in known chips.
	jumpMax = 256
)

// Counter is a counter in the TPM.
type Counter interface {
	Read(ctx context.Context) (uint64, error)
	// Increment adds one and gives the new value. After an error it may have
	// been incremented or not.
	// ErrAnchorMissing, beside its reason, when it is not there any more.
	Increment(ctx context.Context) (uint64, error)
	// Name tells this counter, as it was defined once, from every other: of this
	// and other TPMs, at this and other handles, and from itself defined anew.
	Name() []byte
	Orderly() bool
}

// Start is what a ledger found when it was opened.
type Start struct {
	RolledForward bool   // the last change before the stop had not been anchored
	Unclean       bool   // the counter had jumped ahead at a power cut
	Jump          uint64 // by so much
}

// Status is the state of a ledger.
type Status struct {
	Epoch      uint64
	Accepted   uint64 // names the latest acceptance; 0: there was none
	Step       uint64
	Anchored   uint64 // the counter's value that the database names
	Counter    uint64 // the value that the TPM gave last
	Orderly    bool
	Unclean    uint64 // unclean starts since an operator acknowledged
	Increments uint64 // steps of the counter by this process: its wear
	Start      Start
	Refused    error // why nothing is changed; nil: all is well
}

// Status tells the state after the latest change.
func (l *Ledger[T]) Status() Status {
	s := *l.status.Load()
	s.Increments = l.increments.Load()
	return s
}

func (l *Ledger[T]) publish() {
	s := &Status{Epoch: l.root.Epoch, Accepted: l.root.Accepted, Step: l.root.Step, Anchored: l.root.AnchorValue, Counter: l.counter,
		Orderly: l.Anchor != nil && l.Anchor.Orderly(), Unclean: l.unclean, Start: l.start, Refused: l.refused}
	l.status.Store(s)
}

// refuse stops all changes.
func (l *Ledger[T]) refuse(reason error) error {
	first := l.refused == nil
	l.refused = fmt.Errorf("%w: %w", ErrRefused, reason)
	if first && l.OnRefusal != nil {
		l.OnRefusal(l.refused)
	}
	return l.refused
}

// readAnchor and stepAnchor remember what the TPM said last.
func (l *Ledger[T]) readAnchor(ctx context.Context) (uint64, error) {
	n, err := l.Anchor.Read(ctx)
	if err == nil {
		l.counter = n
	}
	return n, err
}

func (l *Ledger[T]) stepAnchor(ctx context.Context) (uint64, error) {
	n, err := l.Anchor.Increment(ctx)
	if err == nil {
		l.counter = n
		l.increments.Add(1)
	}
	return n, err
}

// resume decides whether the database is the latest, and uses up one step: what
// was written with this step before, and not anchored, never counts again.
func (l *Ledger[T]) resume(ctx context.Context) error {
	if l.Missing != nil {
		_ = l.refuse(fmt.Errorf("%w: %w", ErrAnchorMissing, l.Missing))
		return nil
	}
	if !bytes.Equal(l.Anchor.Name(), l.root.AnchorName) || !bytes.Equal(l.uncleanName(), l.root.UncleanName) {
		_ = l.refuse(ErrAnchorMissing)
		return nil
	}
	resets, err := l.Resets(ctx)
	if err != nil {
		return err
	}
	n, err := l.readAnchor(ctx)
	if err != nil {
		return err
	}
	if err := l.countUnclean(ctx); err != nil {
		return err
	}
	if n, err = l.compare(ctx, n, resets); err != nil || l.refused != nil {
		return err
	}
	l.root.AnchorValue, l.root.Resets = n, resets
	return l.burn(ctx)
}

func (l *Ledger[T]) uncleanName() []byte {
	if l.Unclean == nil {
		return nil
	}
	return l.Unclean.Name()
}

func (l *Ledger[T]) countUnclean(ctx context.Context) error {
	if l.Unclean == nil {
		return nil
	}
	n, err := l.Unclean.Read(ctx)
	if err != nil {
		return err
	}
	if n < l.root.UncleanValue {
		return l.refuseNil(ErrAnchorBehind)
	}
	if n < l.root.UncleanDue { // the start that counts it was cut short
		l.start.Unclean = true
		if n, err = l.Unclean.Increment(ctx); err != nil {
			return err
		}
	}
	l.unclean = n - l.root.UncleanValue
	return nil
}

func (l *Ledger[T]) refuseNil(reason error) error {
	_ = l.refuse(reason)
	return nil
}

// compare gives the value from which to go on, or refuses.
func (l *Ledger[T]) compare(ctx context.Context, n uint64, resets uint32) (uint64, error) {
	written := l.root.AnchorValue
	switch {
	case l.refused != nil || n == written:
		return n, nil
	case n+1 == written:
		l.start.RolledForward = true
		n, err := l.stepAnchor(ctx)
		if err == nil && n != written {
			return n, l.refuseNil(ErrAnchorMoved)
		}
		return n, err
	case n < written:
		return n, l.refuseNil(ErrAnchorBehind)
	case l.Unclean == nil || n-written > jumpMax || resets == l.root.Resets:
		return n, l.refuseNil(ErrOlderCopy)
	case l.unclean >= UncleanMax:
		return n, l.refuseNil(fmt.Errorf("%w: %w", ErrUnclean, ErrOlderCopy))
	}
	return n, l.jumped(ctx, n, resets)
}

// jumped counts an unclean start. That it is due is written first, so that a
// start that fails half-way and is tried again counts once.
func (l *Ledger[T]) jumped(ctx context.Context, n uint64, resets uint32) error {
	l.start.Unclean, l.start.Jump = true, n-l.root.AnchorValue
	next := &version{root: l.root}
	next.root.AnchorValue, next.root.Resets = n, resets
	next.root.UncleanDue = l.root.UncleanValue + l.unclean + 1
	if err := l.rewrite(ctx, next); err != nil {
		return err
	}
	_, err := l.Unclean.Increment(ctx) // durable before the database is trusted
	l.unclean++
	return err
}

// burn uses up one step.
func (l *Ledger[T]) burn(ctx context.Context) error {
	nothing := &operation[T]{step: true, apply: func(T) error { return nil }, done: make(chan error, 1)}
	if _, err := l.write(ctx, []*operation[T]{nothing}); err != nil {
		return err
	}
	return l.increment(ctx)
}

// increment anchors the step that was just written.
func (l *Ledger[T]) increment(ctx context.Context) error {
	l.unconfirmed = true
	n, err := l.stepAnchor(ctx)
	if errors.Is(err, ErrAnchorMissing) {
		return l.refuse(err)
	}
	if err != nil { // the TPM may have done it, and may be back already
		if again := l.confirm(ctx); again == nil || l.refused != nil {
			return again
		}
		return fmt.Errorf("%w: %w", ErrUnanchored, err)
	}
	return l.arrived(ctx, n)
}

// confirm finds out whether the last step was anchored, and anchors it if not.
func (l *Ledger[T]) confirm(ctx context.Context) error {
	if !l.unconfirmed {
		return nil
	}
	n, err := l.readAnchor(ctx)
	if err == nil && n+1 == l.root.AnchorValue {
		n, err = l.stepAnchor(ctx)
	}
	if errors.Is(err, ErrAnchorMissing) {
		return l.refuse(err)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnconfirmed, err)
	}
	err = l.arrived(ctx, n)
	if err != nil && l.refused == nil {
		return fmt.Errorf("%w: %v", ErrUnconfirmed, err) // not ErrUnanchored
	}
	return err
}

// arrived compares the counter with the step that the database names. When the
// TPM lost power under the running daemon an orderly counter jumped; this
// database is the latest all the same, for it never left this process.
func (l *Ledger[T]) arrived(ctx context.Context, n uint64) error {
	if n == l.root.AnchorValue {
		l.unconfirmed = false
		return nil
	}
	resets, err := l.Resets(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnanchored, err)
	}
	if !l.Anchor.Orderly() || n < l.root.AnchorValue || n-l.root.AnchorValue > jumpMax || resets == l.root.Resets {
		return l.refuse(ErrAnchorMoved)
	}
	return l.follow(ctx, n, resets)
}

// follow writes the counter's new value, so that the next start finds it.
func (l *Ledger[T]) follow(ctx context.Context, n uint64, resets uint32) error {
	next := &version{root: l.root}
	next.root.AnchorValue, next.root.Resets = n, resets
	if err := l.rewrite(ctx, next); err != nil {
		return fmt.Errorf("%w: %w", ErrUnanchored, err)
	}
	l.unconfirmed = false
	return nil
}

// rewrite replaces the root over the same tree.
func (l *Ledger[T]) rewrite(ctx context.Context, next *version) error {
	err := l.Disk.Update(ctx, func(tx T) error {
		if !bytes.Equal(tx.Root(), l.stored) {
			return l.refuse(ErrTree)
		}
		return l.putRoot(ctx, tx, next)
	})
	return l.written(next, err)
}
