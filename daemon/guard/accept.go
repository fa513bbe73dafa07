package guard

import (
	"context"
	"errors"
	"fmt"
)

// keptAttempts is how many attempts a wallet keeps at most when an operator
// accepted an older copy, until its next passed check.
const keptAttempts = 3

// ErrNothingToAccept is returned by Accept when the database is the latest.
var ErrNothingToAccept = errors.New("the database is the one that the TPM's counter stands for: there is nothing to accept")

// Accept declares the database, as it is, to be the latest: wallets keep at most
// 3 attempts until their next passed check. Otherwise it is Anew.
func Accept[T Tx](ctx context.Context, c Config[T]) (*Ledger[T], error) {
	return anew(ctx, c, true)
}

// Anew begins a new epoch of a database that the caller has just found to be the
// latest. It anchors the database in the counters of c, which may be new ones,
// and acknowledges the unclean starts. The caller has recorded who wanted it.
func Anew[T Tx](ctx context.Context, c Config[T]) (*Ledger[T], error) {
	return anew(ctx, c, false)
}

func anew[T Tx](ctx context.Context, c Config[T], older bool) (*Ledger[T], error) {
	l := &Ledger[T]{Config: c, turn: make(chan struct{}, 1)}
	if err := l.read(ctx); err != nil {
		return nil, err
	}
	if c.Missing != nil {
		return nil, fmt.Errorf("%w: %w", ErrAnchorMissing, c.Missing)
	}
	l.root.Epoch++
	if older {
		l.root.Accepted = l.root.Epoch
	}
	if err := l.adoptCounters(ctx); err != nil {
		return nil, err
	}
	if err := l.burn(ctx); err != nil {
		return nil, err
	}
	l.publish()
	return l, nil
}

// adoptCounters takes the counters of the TPM as they are.
func (l *Ledger[T]) adoptCounters(ctx context.Context) (err error) {
	l.root.AnchorName, l.root.UncleanName = l.Anchor.Name(), l.uncleanName()
	if l.root.AnchorValue, err = l.readAnchor(ctx); err != nil {
		return err
	}
	l.root.UncleanValue = 0
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
