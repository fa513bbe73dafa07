package store

import (
	"bytes"
	"context"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/wallet"
)

// Tx is one transaction on what the guard stands over: records, attempt
// counters, the hash tree's nodes and the guard root. It belongs to one
// goroutine and ends with the function that got it.
type Tx struct {
	tx *bbolt.Tx
	// changed has, for each id written since the last call of Changes, its leaf
	// as it was.
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

// requestLeaf begins what the hash tree has of a request.
const requestLeaf = "sigild/request-leaf/v1"

// Leaf gives what the hash tree's entry of an id stands for: a wallet's attempt
// counter and record, or, for the first 16 bytes of a request's key, requestLeaf
// ‖ the other 16 ‖ the request's value, and nil. Nil for what is not there.
func (t *Tx) Leaf(id [16]byte) [2][]byte {
	leaf := [2][]byte{t.GuardRow(id), t.Record(id)}
	if leaf[0] != nil || leaf[1] != nil {
		return leaf
	}
	key, value := t.tx.Bucket(requestBucket).Cursor().Seek(id[:])
	if len(key) == len(wallet.RequestKey{}) && bytes.HasPrefix(key, id[:]) {
		leaf[0] = slices.Concat([]byte(requestLeaf), key[len(id):], value)
	}
	return leaf
}

// putRequest writes a request down; wallet.ErrRequestReused when its key, or one
// of the same id, is taken.
func (t *Tx) putRequest(r *wallet.Request) error {
	if r == nil {
		return nil
	}
	id := [16]byte(r.Key[:])
	if leaf := t.Leaf(id); leaf[0] != nil || leaf[1] != nil {
		return wallet.ErrRequestReused
	}
	t.touch(id)
	return t.tx.Bucket(requestBucket).Put(r.Key[:], r.Value)
}

// touch remembers a leaf as it was before its first write.
func (t *Tx) touch(id seal.ID) {
	if _, seen := t.changed[id]; seen {
		return
	}
	t.changed[id] = t.Leaf(id)
	t.order = append(t.order, id)
}

// Changes calls f for each id whose leaf was written since the last call, with
// the leaf as it was before and is now.
func (t *Tx) Changes(f func(id [16]byte, before, after [2][]byte) error) error {
	changed, order := t.changed, t.order
	t.changed, t.order = map[seal.ID][2][]byte{}, nil
	for _, id := range order {
		if err := f(id, changed[id], t.Leaf(id)); err != nil {
			return err
		}
	}
	return nil
}

// Each calls f for the id of every wallet that has a record or an attempt
// counter, some of them twice, and of every request.
func (t *Tx) Each(f func(id [16]byte, wallet bool) error) error {
	for _, b := range []struct {
		name   []byte
		size   int
		wallet bool
	}{{requestBucket, len(wallet.RequestKey{}), false}, {recordBucket, len(seal.ID{}), true}, {guardBucket, len(seal.ID{}), true}} {
		err := t.tx.Bucket(b.name).ForEach(func(k, _ []byte) error {
			if len(k) != b.size {
				return ErrNotDatabase
			}
			return f([16]byte(k), b.wallet)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// ClearNodes deletes every node of the hash tree.
func (t *Tx) ClearNodes() error {
	if err := t.tx.DeleteBucket(treeBucket); err != nil {
		return err
	}
	_, err := t.tx.CreateBucket(treeBucket)
	return err
}

// EachNode calls f for every node of the hash tree in the order of the keys.
func (t *Tx) EachNode(f func(key, node []byte) error) error {
	return t.tx.Bucket(treeBucket).ForEach(f)
}

func (t *Tx) create(w *wallet.NewWallet) error {
	if err := t.putRequest(&w.Request); err != nil {
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
	return t.putAddress(w.Relay, w.Address, w.Wallet)
}

// putAddress enters an address; wallet.ErrAddressTaken when the relay has it
// already, so that no wallet is ever hidden behind another.
func (t *Tx) putAddress(relay uint32, address [20]byte, id seal.ID) error {
	b, key := t.tx.Bucket(addressBucket), addressKey(relay, address)
	if b.Get(key) != nil {
		return wallet.ErrAddressTaken
	}
	return b.Put(key, id[:])
}

func (t *Tx) replace(c *wallet.Change) error {
	if !bytes.Equal(t.Record(c.Wallet), c.Prev) {
		return wallet.ErrConflict
	}
	if err := t.putRequest(c.Request); err != nil {
		return err
	}
	for _, a := range c.Addresses {
		if err := t.putAddress(c.Relay, a, c.Wallet); err != nil {
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
