package store

import (
	"bytes"
	"context"

	"go.etcd.io/bbolt"

	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/wallet"
)

var _ wallet.Store = (*Store)(nil)

// Create writes a new wallet with its attempt counter, indexes and request in
// one transaction. wallet.ErrRequestReused when the request's key exists,
// wallet.ErrExternalID when the relay has another wallet of that name, and
// wallet.ErrConflict, so that no wallet is ever written over, when its id does.
func (s *Store) Create(ctx context.Context, w wallet.NewWallet) error {
	return s.write(ctx, func(tx *bbolt.Tx) error {
		if err := putRequest(tx, &w.Request); err != nil {
			return err
		}
		records := tx.Bucket(recordBucket)
		if records.Get(w.Wallet[:]) != nil {
			return wallet.ErrConflict
		}
		if _, err := records.NextSequence(); err != nil {
			return err
		}
		if err := reindex(tx, w.Wallet, w.Relay, nil, &w.Index); err != nil {
			return err
		}
		return puts(
			put{records, w.Wallet[:], w.Record},
			put{tx.Bucket(guardBucket), w.Wallet[:], w.Guard},
			put{tx.Bucket(addressBucket), addressKey(w.Relay, w.Address), w.Wallet[:]},
		)
	})
}

// Record gives the stored record; wallet.ErrNotFound.
func (s *Store) Record(ctx context.Context, id seal.ID) ([]byte, error) {
	data, err := s.get(ctx, recordBucket, id[:])
	if err == nil && data == nil {
		return nil, wallet.ErrNotFound
	}
	return data, err
}

// Replace puts c.Next in the place of c.Prev in one transaction with the new
// addresses, the changed index and the request. wallet.ErrConflict,
// wallet.ErrRequestReused, wallet.ErrExternalID.
func (s *Store) Replace(ctx context.Context, c wallet.Change) error {
	return s.write(ctx, func(tx *bbolt.Tx) error {
		records := tx.Bucket(recordBucket)
		if !bytes.Equal(records.Get(c.Wallet[:]), c.Prev) {
			return wallet.ErrConflict
		}
		if err := putRequest(tx, c.Request); err != nil {
			return err
		}
		for _, a := range c.Addresses {
			if err := tx.Bucket(addressBucket).Put(addressKey(c.Relay, a), c.Wallet[:]); err != nil {
				return err
			}
		}
		if err := reindex(tx, c.Wallet, c.Relay, c.Before, c.After); err != nil {
			return err
		}
		return records.Put(c.Wallet[:], c.Next)
	})
}

// Remove deletes a wallet's record, attempt counter and indexes in one
// transaction. Its requests stay, so that a late retry makes no second wallet.
func (s *Store) Remove(ctx context.Context, r wallet.Removal) error {
	return s.write(ctx, func(tx *bbolt.Tx) error {
		records := tx.Bucket(recordBucket)
		if !bytes.Equal(records.Get(r.Wallet[:]), r.Prev) {
			return wallet.ErrConflict
		}
		for _, a := range r.Addresses {
			if err := tx.Bucket(addressBucket).Delete(addressKey(r.Relay, a)); err != nil {
				return err
			}
		}
		if err := reindex(tx, r.Wallet, r.Relay, &r.Index, nil); err != nil {
			return err
		}
		if err := tx.Bucket(guardBucket).Delete(r.Wallet[:]); err != nil {
			return err
		}
		return records.Delete(r.Wallet[:])
	})
}

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

// Request gives what was stored for a request's key, or nil.
func (s *Store) Request(ctx context.Context, key wallet.RequestKey) ([]byte, error) {
	return s.get(ctx, requestBucket, key[:])
}

// Count is how many wallets were ever made.
func (s *Store) Count(ctx context.Context) (n uint64, err error) {
	err = s.read(ctx, func(tx *bbolt.Tx) error {
		n = tx.Bucket(recordBucket).Sequence()
		return nil
	})
	return n, err
}

func putRequest(tx *bbolt.Tx, r *wallet.Request) error {
	if r == nil {
		return nil
	}
	requests := tx.Bucket(requestBucket)
	if requests.Get(r.Key[:]) != nil {
		return wallet.ErrRequestReused
	}
	return requests.Put(r.Key[:], r.Value)
}
