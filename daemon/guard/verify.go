package guard

import (
	"bytes"
	"context"
	"errors"
	"slices"
)

// Audit is what VerifyAll found.
type Audit struct {
	Wallets int
	// Bad are wallets and requests of which something is missing, changed or not
	// the latest; such wallets are locked.
	Bad [][16]byte
	// Changed is how many of them are not what the tree says; accepting the
	// database makes them so. The others have a MAC of nobody's.
	Changed int
}

// VerifyAll verifies every row and record against the tree, and that the tree
// has no others. It takes as long as there are wallets. ErrTree when the tree
// is not the guard root's.
func (l *Ledger[T]) VerifyAll(ctx context.Context) (*Audit, error) {
	a := &Audit{}
	err := l.Disk.View(ctx, func(tx T) error {
		root := hashNode(0, tx.Node(nodeKey(0, [16]byte{})))
		if heads := l.heads.Load(); root != heads.current && root != heads.next {
			return ErrTree
		}
		all, err := treeWallets(tx, root)
		if err != nil {
			return err
		}
		return a.compare(ctx, tx, root, all, l.MAC)
	})
	return a, err
}

// treeWallets lists the ids that the tree has entries of. What has nothing else
// counts as a wallet that was removed.
func treeWallets(tx Tx, root hash) (map[[16]byte]bool, error) {
	all := map[[16]byte]bool{}
	err := tx.EachNode(func(key, node []byte) error {
		if len(key) != 1+treeDepth || key[0] != treeDepth {
			return nil
		}
		if !wellFormed(treeDepth, node) {
			return ErrTree
		}
		if _, err := readPath(tx, root, [16]byte(node)); err != nil {
			return err
		}
		for at := 0; at < len(node); at += entrySize {
			all[[16]byte(node[at:])] = true
		}
		return nil
	})
	return all, err
}

// compare checks each wallet and request that the tree or the database has.
func (a *Audit) compare(ctx context.Context, tx Tx, root hash, wallets map[[16]byte]bool, mac MAC) error {
	err := tx.Each(func(id [16]byte, wallet bool) error {
		wallets[id] = wallet
		return nil
	})
	if err != nil {
		return err
	}
	for id, wallet := range wallets {
		if err := ctx.Err(); err != nil {
			return err
		}
		leaf := tx.Leaf(id)
		p, err := readPath(tx, root, id)
		if err != nil {
			return err
		}
		if err = p.check(leaf); err != nil {
			a.Changed++
		}
		if wallet {
			a.Wallets++
			err = errors.Join(err, rowError(ctx, id, leaf[0], mac))
		}
		if err != nil && !errors.Is(err, ErrCorrupt) {
			return err
		}
		if err != nil || wallet && leaf[1] == nil {
			a.Bad = append(a.Bad, id)
		}
	}
	slices.SortFunc(a.Bad, func(x, y [16]byte) int { return bytes.Compare(x[:], y[:]) })
	return nil
}

func rowError(ctx context.Context, wallet [16]byte, row []byte, mac MAC) error {
	_, err := DecodeRow(ctx, row, wallet, mac)
	return err
}
