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

// Accept declares the database, as it is, to be the latest, with a new epoch:
// wallets keep at most 3 attempts until their next passed check. It anchors the
// database in the counters of c, which may be new ones, and acknowledges the
// unclean starts. The caller has recorded who accepted what.
func Accept[T Tx](ctx context.Context, c Config[T]) (*Ledger[T], error) {
	l := &Ledger[T]{Config: c, turn: make(chan struct{}, 1)}
	if err := l.read(ctx); err != nil {
		return nil, err
	}
	if c.Missing != nil {
		return nil, fmt.Errorf("%w: %w", ErrAnchorMissing, c.Missing)
	}
	n, err := l.readAnchor(ctx)
	if err != nil {
		return nil, err
	}
	l.root.Epoch++
	l.root.AnchorName, l.root.AnchorValue = l.Anchor.Name(), n
	l.root.UncleanName, l.root.UncleanValue = l.uncleanName(), 0
	if l.Unclean != nil {
		if l.root.UncleanValue, err = l.Unclean.Read(ctx); err != nil {
			return nil, err
		}
	}
	if l.root.Resets, err = l.Resets(ctx); err != nil {
		return nil, err
	}
	if err := l.burn(ctx); err != nil {
		return nil, err
	}
	l.publish()
	return l, nil
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
