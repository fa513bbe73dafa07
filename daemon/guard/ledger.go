package guard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// commitTimeout bounds the devices' part of one commit. Callers' contexts do
// not: what is half done for several of them must come to its end.
const commitTimeout = 30 * time.Second

// Tx is one transaction of the database, of one goroutine.
type Tx interface {
	Root() []byte
	PutRoot(root []byte) error
	Node(key []byte) []byte
	PutNode(key, node []byte) error // a nil node deletes
	GuardRow(wallet [16]byte) []byte
	PutGuardRow(wallet [16]byte, row []byte) error // a nil row deletes
	// Leaf gives what the tree's entry of an id stands for: a wallet's row and
	// record, or a request and nil; nil for what is not there.
	Leaf(id [16]byte) [2][]byte
	// Changes calls f for each id whose leaf was written since the last call,
	// with the leaf as it was and is.
	Changes(f func(id [16]byte, before, after [2][]byte) error) error
	// Each calls f for every id that has a leaf, some twice.
	Each(f func(id [16]byte, wallet bool) error) error
	EachNode(f func(key, node []byte) error) error
	ClearNodes() error
}

// Disk is the database.
type Disk[T Tx] interface {
	// Update runs f in one transaction, on disk, whole, when it returns nil.
	Update(ctx context.Context, f func(T) error) error
	View(ctx context.Context, f func(T) error) error
}

// Config holds a ledger's parts. All but Unclean, Missing, OnRefusal and Waited are
// required.
type Config[T Tx] struct {
	Disk         Disk[T]
	MAC          MAC
	Installation [16]byte
	Keys         []byte  // digest of the token keys' fingerprints
	Anchor       Counter // nil when Missing says why
	Unclean      Counter // plain counter of unclean starts; nil: the anchor is durable
	Missing      error   // why the TPM's counters could not be opened
	// Resets reads the TPM's reset count.
	Resets func(ctx context.Context) (uint32, error)
	// OnRefusal is called once, when the ledger begins to refuse changes and
	// before any caller is told. It must not wait for the ledger. nil: nobody asks.
	OnRefusal func(reason error)
	// Waited, when it is set, is told how long each change waited for those
	// before it.
	Waited func(time.Duration)
}

// Ledger carries out every change of attempt counters and records. It keeps a
// hash tree over them whose root, with a MAC, stands over the whole database,
// and anchors each root in a TPM counter: first the change and the root of the
// next step are written, then the counter is incremented, and only then does
// the change count. Changes that come at the same time share both.
//
// A step is used up at each start, so that a copy that was written, and never
// anchored, before a kill is an older one as soon as a check was made.
//
// It is safe for concurrent use.
type Ledger[T Tx] struct {
	Config[T]
	queue queue[T]
	turn  chan struct{} // holds one element while a batch runs

	// The following belong to whoever has the turn.
	root        Root
	stored      []byte   // root, as it is in the database
	tried       *version // what a failed transaction may have left there
	unconfirmed bool     // the counter may be one behind root
	refused     error    // why nothing is changed any more
	counter     uint64   // the last value that the TPM gave
	unclean     uint64   // unclean starts since an operator acknowledged
	start       Start

	heads      atomic.Pointer[heads]
	status     atomic.Pointer[Status]
	increments atomic.Uint64
}

// version is a guard root and its stored bytes.
type version struct {
	root   Root
	stored []byte
	step   bool
}

// heads are the roots of the tree that a reader may meet: the current one, and
// the one that is being written, if one is; else they are the same.
type heads struct{ current, next hash }

// settled are the heads while nothing is being written.
func settled(tree []byte) *heads { return &heads{hash(tree), hash(tree)} }

// Open reads the guard root and compares it with the TPM's counter. A database
// that is not the latest opens too, and can be read, but every change is
// refused until an operator accepts it: Status says so. ErrCorrupt when the
// root is not this installation's, or the fault of a device.
func Open[T Tx](ctx context.Context, c Config[T]) (*Ledger[T], error) {
	l := &Ledger[T]{Config: c, turn: make(chan struct{}, 1)}
	if err := l.read(ctx); err != nil {
		return nil, err
	}
	if err := l.resume(ctx); err != nil {
		return nil, err
	}
	l.publish()
	return l, nil
}

func (l *Ledger[T]) read(ctx context.Context) error {
	err := l.Disk.View(ctx, func(tx T) error {
		l.stored = tx.Root()
		return nil
	})
	if err != nil {
		return err
	}
	root, err := DecodeRoot(ctx, l.stored, l.Installation, l.MAC)
	if err != nil {
		return fmt.Errorf("guard root: %w", err)
	}
	if !bytes.Equal(root.Keys, l.Keys) {
		return fmt.Errorf("guard root: %w: it stands over other keys of the token", ErrCorrupt)
	}
	if len(root.Tree) != hashSize {
		return fmt.Errorf("guard root: %w: it has no hash tree", ErrCorrupt)
	}
	l.root = *root
	l.heads.Store(settled(root.Tree))
	return nil
}

// Commit runs apply in one transaction, together with others and perhaps more
// than once. When it returns nil the change is on disk and anchored. An error
// of apply is returned as it is, and nothing is changed; ErrUnanchored says
// that the change is on disk and the TPM did not confirm it; errors of the
// anchor are ErrRefused.
func (l *Ledger[T]) Commit(ctx context.Context, apply func(T) error) error {
	return l.do(ctx, &operation[T]{apply: apply, step: true})
}

// Settled waits until everything that is in the database is anchored.
func (l *Ledger[T]) Settled(ctx context.Context) error {
	return l.do(ctx, &operation[T]{step: true})
}

// Accepted names the latest acceptance of an older copy; 0 before the first.
func (l *Ledger[T]) Accepted(context.Context) (uint64, error) { return l.status.Load().Accepted, nil }

// Leaf gives a wallet's row and record, or a request and nil, verified along
// their path in the tree; nil and nil for what does not exist. ErrCorrupt when either is not
// the latest, ErrTree when the tree itself was changed.
func (l *Ledger[T]) Leaf(ctx context.Context, wallet [16]byte) (row, record []byte, err error) {
	for {
		before := l.heads.Load()
		var after *heads
		err = l.Disk.View(ctx, func(tx T) error {
			after = l.heads.Load()
			leaf := tx.Leaf(wallet)
			row, record = leaf[0], leaf[1]
			return verifyLeaf(tx, []hash{before.current, before.next, after.current, after.next}, wallet, leaf)
		})
		if err == nil {
			return row, record, nil
		}
		if !errors.Is(err, ErrTree) || *before == *l.heads.Load() {
			return nil, nil, err
		}
	}
}

// Row is the row that Leaf gives.
func (l *Ledger[T]) Row(ctx context.Context, wallet [16]byte) ([]byte, error) {
	row, _, err := l.Leaf(ctx, wallet)
	return row, err
}

// SwapRow puts next in the place of the row prev, or gives ErrSwapped when the
// row is another one by now. A swap that takes no right away needs no step:
// of the states with one step the latest gives most.
func (l *Ledger[T]) SwapRow(ctx context.Context, wallet [16]byte, prev, next []byte, step bool) error {
	return l.do(ctx, &operation[T]{step: step, apply: func(tx T) error {
		if !bytes.Equal(tx.GuardRow(wallet), prev) {
			return ErrSwapped
		}
		return tx.PutGuardRow(wallet, next)
	}})
}
