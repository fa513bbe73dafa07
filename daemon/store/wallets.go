package store

import (
	"bytes"
	"context"

	"go.etcd.io/bbolt"

	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/wallet"
)

var _ wallet.Store = (*Wallets)(nil)

// Ledger carries the transactions on wallets out and stands over what they
// write; see package guard.
type Ledger interface {
	// Commit runs apply in one transaction, perhaps more than once and together
	// with others. It is on disk and anchored when Commit returns nil.
	Commit(ctx context.Context, apply func(*Tx) error) error
	// Leaf gives what Tx.Leaf does, verified to be the latest.
	Leaf(ctx context.Context, wallet [16]byte) (row, record []byte, err error)
	// Settled waits until everything that is in the database is anchored.
	Settled(ctx context.Context) error
}

// Wallets keeps wallets under a ledger.
type Wallets struct {
	*Store
	ledger Ledger
}

// Wallets gives the wallets of this database, all of whose changes go through l.
func (s *Store) Wallets(l Ledger) *Wallets { return &Wallets{s, l} }

// Create writes a new wallet with its attempt counter, indexes and request in
// one transaction. wallet.ErrRequestReused when the request's key exists,
// wallet.ErrExternalID and wallet.ErrAddressTaken when the relay has another
// wallet of that name or address, and wallet.ErrConflict, so that no wallet is
// ever written over, when its id does.
func (s *Wallets) Create(ctx context.Context, w wallet.NewWallet) error {
	return s.ledger.Commit(ctx, func(tx *Tx) error { return tx.create(&w) })
}

// Record gives the stored record; wallet.ErrNotFound.
func (s *Wallets) Record(ctx context.Context, id seal.ID) ([]byte, error) {
	_, record, err := s.ledger.Leaf(ctx, id)
	if err == nil && record == nil {
		return nil, wallet.ErrNotFound
	}
	return record, err
}

// Replace puts c.Next in the place of c.Prev in one transaction with the new
// addresses, the changed index and the request. wallet.ErrConflict,
// wallet.ErrRequestReused, wallet.ErrExternalID, wallet.ErrAddressTaken.
func (s *Wallets) Replace(ctx context.Context, c wallet.Change) error {
	return s.ledger.Commit(ctx, func(tx *Tx) error { return tx.replace(&c) })
}

// Remove deletes a wallet's record, attempt counter and indexes in one
// transaction. Its requests stay, so that a late retry makes no second wallet.
func (s *Wallets) Remove(ctx context.Context, r wallet.Removal) error {
	return s.ledger.Commit(ctx, func(tx *Tx) error { return tx.remove(&r) })
}

// Request gives what was stored for a request's key, or nil; verified to be of
// this very database, and anchored: a request is answered from it.
func (s *Wallets) Request(ctx context.Context, key wallet.RequestKey) ([]byte, error) {
	id := [16]byte(key[:])
	leaf, record, err := s.ledger.Leaf(ctx, id)
	if err != nil || leaf == nil && record == nil {
		return nil, err
	}
	value, is := bytes.CutPrefix(leaf, append([]byte(requestLeaf), key[len(id):]...))
	if !is {
		return nil, wallet.ErrRequestReused // by another key that begins alike
	}
	return value, s.ledger.Settled(ctx)
}

// Settled waits until everything that is in the database is anchored.
func (s *Wallets) Settled(ctx context.Context) error { return s.ledger.Settled(ctx) }

// ByAddress finds a relay's wallet by the address of one of its accounts;
// wallet.ErrNotFound.
func (s *Store) ByAddress(ctx context.Context, relay uint32, address [20]byte) (seal.ID, error) {
	data, err := s.get(ctx, addressBucket, addressKey(relay, address))
	if err != nil {
		return seal.ID{}, err
	}
	if len(data) != len(seal.ID{}) {
		return seal.ID{}, wallet.ErrNotFound
	}
	return seal.ID(data), nil
}

// ByExternalID finds a relay's wallet by the relay's name for it;
// wallet.ErrNotFound.
func (s *Store) ByExternalID(ctx context.Context, relay uint32, externalID string) (seal.ID, error) {
	data, err := s.get(ctx, nameBucket, nameKey(relay, externalID))
	if err != nil {
		return seal.ID{}, err
	}
	if len(data) != len(seal.ID{}) {
		return seal.ID{}, wallet.ErrNotFound
	}
	return seal.ID(data), nil
}

// Count is how many wallets were ever made.
func (s *Store) Count(ctx context.Context) (n uint64, err error) {
	err = s.read(ctx, func(tx *bbolt.Tx) error {
		n = tx.Bucket(recordBucket).Sequence()
		return nil
	})
	return n, err
}
