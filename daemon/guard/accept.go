package guard

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
)

// keptAttempts is how many attempts a wallet keeps at most when an operator
// accepted an older copy, until its next passed check.
const keptAttempts = 3

// ErrNothingToAccept is returned by Accept when the database is the latest.
var ErrNothingToAccept = errors.New("the database is the one that the TPM's counter stands for: there is nothing to accept")

// Accept declares the database, as it is, to be the latest: the hash tree is made
// anew from what is there, and wallets keep at most 3 attempts until their next
// passed check. The unclean starts are acknowledged, and the database is anchored
// in the counters of c, which may be new ones. The caller has recorded who
// wanted it.
func Accept[T Tx](ctx context.Context, c Config[T]) (*Ledger[T], error) {
	return anew(ctx, c, nil, func(ctx context.Context, l *Ledger[T]) error {
		l.root.Accepted = newAcceptance()
		return l.rebuild(ctx)
	})
}

// newAcceptance names an acceptance. It is random: in an older copy the epochs
// begin anew with numbers that were given before.
func newAcceptance() uint64 {
	var b [8]byte
	for {
		rand.Read(b[:])
		if n := binary.BigEndian.Uint64(b[:]); n != 0 {
			return n
		}
	}
}

// Acknowledge is Accept for the database of l, which was opened, and not refused:
// no wallet loses attempts. It must be the very one still, and no other file that
// was put in its place meanwhile.
func (l *Ledger[T]) Acknowledge(ctx context.Context, c Config[T]) (*Ledger[T], error) {
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	if err := l.ready(ctx); err != nil {
		return nil, err
	}
	if err := l.confirm(ctx); err != nil {
		return nil, err
	}
	return anew(ctx, c, l, func(context.Context, *Ledger[T]) error { return nil })
}

// anew begins an epoch of the database. With known, it must be what known stands
// for; without, it is taken as it is.
func anew[T Tx](ctx context.Context, c Config[T], known *Ledger[T], change func(context.Context, *Ledger[T]) error) (*Ledger[T], error) {
	l := &Ledger[T]{Config: c, turn: make(chan struct{}, 1)}
	if err := l.read(ctx); err != nil {
		return nil, err
	}
	if known != nil && !bytes.Equal(l.stored, known.stored) {
		return nil, fmt.Errorf("%w: %w", ErrRefused, ErrTree)
	}
	if c.Missing != nil {
		return nil, fmt.Errorf("%w: %w", ErrAnchorMissing, c.Missing)
	}
	l.root.Epoch++
	if err := l.adoptCounters(ctx); err != nil {
		return nil, err
	}
	if known != nil && bytes.Equal(l.root.AnchorName, known.root.AnchorName) && l.root.AnchorValue != known.root.AnchorValue {
		return nil, fmt.Errorf("%w: %w", ErrRefused, ErrAnchorMoved)
	}
	if err := change(ctx, l); err != nil {
		return nil, err
	}
	if err := l.burn(ctx); err != nil {
		return nil, err
	}
	l.publish()
	return l, nil
}

// NextEpoch begins a new epoch of a database that was just opened and not
// refused. Nothing else changes.
func (l *Ledger[T]) NextEpoch(ctx context.Context) error {
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	if err := l.ready(ctx); err != nil {
		return err
	}
	l.root.Epoch++
	err := l.burn(ctx)
	l.publish()
	return err
}

// rebuild makes the hash tree from the rows, records and requests that are
// there. Each has a MAC of its own, which is verified when it is read.
func (l *Ledger[T]) rebuild(ctx context.Context) error {
	return l.Disk.Update(ctx, func(tx T) error {
		if err := tx.ClearNodes(); err != nil {
			return err
		}
		var tree hash
		seen := map[[16]byte]bool{}
		err := tx.Each(func(id [16]byte, _ bool) (err error) {
			if seen[id] {
				return nil
			}
			seen[id] = true
			tree, err = updateTree(tx, tree, id, [2][]byte{}, tx.Leaf(id))
			return err
		})
		if err != nil {
			return err
		}
		l.root.Tree = tree[:]
		next := &version{root: l.root}
		if next.stored, err = EncodeRoot(ctx, &next.root, l.MAC); err != nil {
			return err
		}
		l.adopt(next)
		l.heads.Store(settled(tree[:]))
		return tx.PutRoot(next.stored)
	})
}

// adoptCounters takes the counters of the TPM as they are.
func (l *Ledger[T]) adoptCounters(ctx context.Context) (err error) {
	l.root.AnchorName, l.root.UncleanName = l.Anchor.Name(), l.uncleanName()
	if l.root.AnchorValue, err = l.readAnchor(ctx); err != nil {
		return err
	}
	l.root.UncleanValue, l.root.UncleanDue = 0, 0
	if l.Unclean != nil {
		if l.root.UncleanValue, err = l.Unclean.Read(ctx); err != nil {
			return err
		}
	}
	l.root.Resets, err = l.Resets(ctx)
	return err
}

// NewRoot gives the guard root of a new, empty database, which the next start
// finds anchored in the two counters; unclean is nil with a durable anchor.
func NewRoot(ctx context.Context, installation [16]byte, keys []byte, anchor, unclean Counter, resets uint32, mac MAC) ([]byte, error) {
	root := &Root{Installation: installation, Epoch: 1, Keys: keys, Tree: make([]byte, hashSize),
		AnchorName: anchor.Name(), Resets: resets}
	var err error
	if root.AnchorValue, err = anchor.Read(ctx); err != nil {
		return nil, err
	}
	if unclean != nil {
		root.UncleanName = unclean.Name()
		if root.UncleanValue, err = unclean.Read(ctx); err != nil {
			return nil, err
		}
	}
	return EncodeRoot(ctx, root, mac)
}
