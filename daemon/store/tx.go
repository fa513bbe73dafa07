package store

import (
	"bytes"
	"context"

	"go.etcd.io/bbolt"

	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/wallet"
)

// Tx is one transaction on what the guard stands over: records, attempt
// counters, the hash tree's nodes and the guard root. It belongs to one
// goroutine and ends with the function that got it.
type Tx struct {
	tx *bbolt.Tx
	// changed has, for each wallet written since the last call of Changes, its
	// attempt counter and record as they were.
	changed map[seal.ID][2][]byte
	order   []seal.ID
}

// Update runs f in one transaction, which is on disk when Update returns. A
// disk cannot be interrupted, so ctx counts only until the transaction begins.
func (s *Store) Update(ctx context.Context, f func(*Tx) error) error {
	return s.write(ctx, func(tx *bbolt.Tx) error { return f(newTx(tx)) })
}

// View runs f on one consistent state of the database.
func (s *Store) View(ctx context.Context, f func(*Tx) error) error {
	return s.read(ctx, func(tx *bbolt.Tx) error { return f(newTx(tx)) })
}

func newTx(tx *bbolt.Tx) *Tx { return &Tx{tx: tx, changed: map[seal.ID][2][]byte{}} }

// Root gives the guard root, or nil.
func (t *Tx) Root() []byte { return bytes.Clone(t.tx.Bucket(metaBucket).Get([]byte(GuardRoot))) }

// PutRoot replaces the guard root.
func (t *Tx) PutRoot(root []byte) error {
	return t.tx.Bucket(metaBucket).Put([]byte(GuardRoot), root)
}

// Node gives a node of the hash tree, or nil.
func (t *Tx) Node(key []byte) []byte { return bytes.Clone(t.tx.Bucket(treeBucket).Get(key)) }

// PutNode replaces a node of the hash tree; a nil node deletes.
func (t *Tx) PutNode(key, node []byte) error { return replace(t.tx.Bucket(treeBucket), key, node) }

// GuardRow gives a wallet's attempt counter, or nil.
func (t *Tx) GuardRow(id [16]byte) []byte { return bytes.Clone(t.tx.Bucket(guardBucket).Get(id[:])) }

// Record gives a wallet's record, or nil.
func (t *Tx) Record(id [16]byte) []byte { return bytes.Clone(t.tx.Bucket(recordBucket).Get(id[:])) }

// PutGuardRow replaces a wallet's attempt counter; nil deletes it.
func (t *Tx) PutGuardRow(id [16]byte, row []byte) error {
	t.touch(id)
	return replace(t.tx.Bucket(guardBucket), id[:], row)
}

func (t *Tx) putRecord(id seal.ID, record []byte) error {
	t.touch(id)
	return replace(t.tx.Bucket(recordBucket), id[:], record)
}

// touch remembers a wallet as it was before its first write.
func (t *Tx) touch(id seal.ID) {
	if _, seen := t.changed[id]; seen {
		return
	}
	t.changed[id] = [2][]byte{t.GuardRow(id), t.Record(id)}
	t.order = append(t.order, id)
}

// Changes calls f for each wallet whose attempt counter or record was written
// since the last call, with both as they were before and are now; nil: none.
func (t *Tx) Changes(f func(id [16]byte, before, after [2][]byte) error) error {
	changed, order := t.changed, t.order
	t.changed, t.order = map[seal.ID][2][]byte{}, nil
	for _, id := range order {
		if err := f(id, changed[id], [2][]byte{t.GuardRow(id), t.Record(id)}); err != nil {
			return err
		}
	}
	return nil
}

// Each calls f for the id of every wallet that has a record or an attempt
// counter, in ascending order, some of them twice.
func (t *Tx) Each(f func(id [16]byte) error) error {
	for _, bucket := range [][]byte{recordBucket, guardBucket} {
		err := t.tx.Bucket(bucket).ForEach(func(k, _ []byte) error {
			if len(k) != len(seal.ID{}) {
				return ErrNotDatabase
			}
			return f([16]byte(k))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// EachNode calls f for every node of the hash tree in the order of the keys.
func (t *Tx) EachNode(f func(key, node []byte) error) error {
	return t.tx.Bucket(treeBucket).ForEach(f)
}

func (t *Tx) create(w *wallet.NewWallet) error {
	if err := putRequest(t.tx, &w.Request); err != nil {
		return err
	}
	records := t.tx.Bucket(recordBucket)
	if records.Get(w.Wallet[:]) != nil {
		return wallet.ErrConflict
	}
	if _, err := records.NextSequence(); err != nil {
		return err
	}
	if err := reindex(t.tx, w.Wallet, w.Relay, nil, &w.Index); err != nil {
		return err
	}
	if err := t.putRecord(w.Wallet, w.Record); err != nil {
		return err
	}
	if err := t.PutGuardRow(w.Wallet, w.Guard); err != nil {
		return err
	}
	return t.tx.Bucket(addressBucket).Put(addressKey(w.Relay, w.Address), w.Wallet[:])
}

func (t *Tx) replace(c *wallet.Change) error {
	if !bytes.Equal(t.Record(c.Wallet), c.Prev) {
		return wallet.ErrConflict
	}
	if err := putRequest(t.tx, c.Request); err != nil {
		return err
	}
	for _, a := range c.Addresses {
		if err := t.tx.Bucket(addressBucket).Put(addressKey(c.Relay, a), c.Wallet[:]); err != nil {
			return err
		}
	}
	if err := reindex(t.tx, c.Wallet, c.Relay, c.Before, c.After); err != nil {
		return err
	}
	return t.putRecord(c.Wallet, c.Next)
}

func (t *Tx) remove(r *wallet.Removal) error {
	if !bytes.Equal(t.Record(r.Wallet), r.Prev) {
		return wallet.ErrConflict
	}
	for _, a := range r.Addresses {
		if err := t.tx.Bucket(addressBucket).Delete(addressKey(r.Relay, a)); err != nil {
			return err
		}
	}
	if err := reindex(t.tx, r.Wallet, r.Relay, &r.Index, nil); err != nil {
		return err
	}
	if err := t.PutGuardRow(r.Wallet, nil); err != nil {
		return err
	}
	return t.putRecord(r.Wallet, nil)
}
