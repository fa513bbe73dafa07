package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"

	"go.etcd.io/bbolt"

	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/wallet"
)

var _ wallet.Store = (*Store)(nil)

// Create writes a new wallet with its attempt counter, indexes and request in
// one transaction. wallet.ErrRequestReused when the request's key exists;
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
		return puts(
			put{records, w.Wallet[:], w.Record},
			put{tx.Bucket(guardBucket), w.Wallet[:], w.Guard},
			put{tx.Bucket(addressBucket), addressKey(w.Relay, w.Address), w.Wallet[:]},
			put{tx.Bucket(relayBucket), append(relayKey(w.Relay), place(w)...), nil},
			put{tx.Bucket(ownerBucket), append(ownerKey(w.Relay, w.Owner), place(w)...), nil},
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
// address and the request. wallet.ErrConflict, wallet.ErrRequestReused.
func (s *Store) Replace(ctx context.Context, c wallet.Change) error {
	return s.write(ctx, func(tx *bbolt.Tx) error {
		records := tx.Bucket(recordBucket)
		if !bytes.Equal(records.Get(c.Wallet[:]), c.Prev) {
			return wallet.ErrConflict
		}
		if err := putRequest(tx, c.Request); err != nil {
			return err
		}
		if c.Address != nil {
			if err := tx.Bucket(addressBucket).Put(addressKey(c.Relay, *c.Address), c.Wallet[:]); err != nil {
				return err
			}
		}
		return records.Put(c.Wallet[:], c.Next)
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

// List gives a page of a relay's wallets in the order of their creation. The
// cursor is the place of the last wallet: created (8) ‖ wallet (16).
func (s *Store) List(ctx context.Context, p wallet.Page) (ids []seal.ID, cursor []byte, err error) {
	bucket, prefix := relayBucket, relayKey(p.Relay)
	if p.Owner != "" {
		bucket, prefix = ownerBucket, ownerKey(p.Relay, p.Owner)
	}
	if p.After != nil && len(p.After) != placeSize {
		return nil, nil, &wallet.FieldError{Field: "cursor", Problem: "is not one that this method gave"}
	}
	err = s.read(ctx, func(tx *bbolt.Tx) error {
		ids, cursor = page(tx.Bucket(bucket).Cursor(), prefix, p.After, p.Limit)
		return nil
	})
	return ids, cursor, err
}

func page(c *bbolt.Cursor, prefix, after []byte, limit int) (ids []seal.ID, cursor []byte) {
	start := append(bytes.Clone(prefix), after...)
	k, _ := c.Seek(start)
	if after != nil && bytes.Equal(k, start) {
		k, _ = c.Next()
	}
	for ; bytes.HasPrefix(k, prefix) && len(k) == len(prefix)+placeSize; k, _ = c.Next() {
		if len(ids) == limit {
			return ids, cursor
		}
		cursor = bytes.Clone(k[len(prefix):])
		ids = append(ids, seal.ID(cursor[8:]))
	}
	return ids, nil
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

const placeSize = 8 + 16

// place orders wallets by creation: Unix seconds, then the id.
func place(w wallet.NewWallet) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(w.Created)), w.Wallet[:]...)
}

func relayKey(relay uint32) []byte { return binary.BigEndian.AppendUint32(nil, relay) }

func ownerKey(relay uint32, owner string) []byte {
	sum := sha256.Sum256([]byte(owner))
	return append(relayKey(relay), sum[:16]...)
}

func addressKey(relay uint32, address [20]byte) []byte {
	return append(relayKey(relay), address[:]...)
}
