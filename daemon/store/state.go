package store

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"

	"go.etcd.io/bbolt"
)

// Nonce remembers value under key, unless something is remembered there
// already: then it gives that and changes nothing.
func (s *Store) Nonce(ctx context.Context, key, value [16]byte) (before *[16]byte, err error) {
	err = s.share(ctx, func(tx *bbolt.Tx) error {
		before = nil // a shared transaction may run this again
		b := tx.Bucket(nonceBucket)
		if v := b.Get(key[:]); len(v) == len(value) {
			seen := [16]byte(v)
			before = &seen
			return nil
		}
		return b.Put(key[:], value[:])
	})
	return before, err
}

// RememberAnswers replaces the digest of each entropy source's last answer,
// unless one is the same as before: then it names those sources and changes
// nothing.
func (s *Store) RememberAnswers(ctx context.Context, digests map[string][32]byte) (repeated []string, err error) {
	err = s.write(ctx, func(tx *bbolt.Tx) error {
		b := tx.Bucket(answerBucket)
		for _, name := range slices.Sorted(maps.Keys(digests)) {
			if d := digests[name]; bytes.Equal(b.Get([]byte(name)), d[:]) {
				repeated = append(repeated, name)
			}
		}
		if repeated != nil {
			return nil
		}
		for name, d := range digests {
			if err := b.Put([]byte(name), d[:]); err != nil {
				return err
			}
		}
		return nil
	})
	return repeated, err
}

// Document names one of the few values that are not about a wallet.
type Document string

// The documents. Their bytes belong to package daemon.
const (
	Installation Document = "installation"
	GuardRoot    Document = "guard-root"
	Login        Document = "login"
	TokenFault   Document = "token-fault"
)

// Get gives a document, or nil.
func (s *Store) Get(ctx context.Context, d Document) ([]byte, error) {
	return s.get(ctx, metaBucket, []byte(d))
}

// Put writes documents in one transaction; a nil value deletes.
func (s *Store) Put(ctx context.Context, documents map[Document][]byte) error {
	return s.write(ctx, func(tx *bbolt.Tx) error {
		meta := tx.Bucket(metaBucket)
		for d, value := range documents {
			if err := replace(meta, []byte(d), value); err != nil {
				return err
			}
		}
		return nil
	})
}

func replace(b *bbolt.Bucket, key, value []byte) error {
	if value == nil {
		return b.Delete(key)
	}
	return b.Put(key, value)
}

func (s *Store) get(ctx context.Context, bucket, key []byte) (value []byte, err error) {
	err = s.read(ctx, func(tx *bbolt.Tx) error {
		value = bytes.Clone(tx.Bucket(bucket).Get(key))
		return nil
	})
	return value, err
}

func (s *Store) read(ctx context.Context, f func(*bbolt.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return whole(func() error { return s.db.View(f) })
}

// write runs f in a transaction of its own. A disk cannot be interrupted, so
// ctx counts only until the transaction begins.
func (s *Store) write(ctx context.Context, f func(*bbolt.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return whole(func() error { return s.db.Update(f) })
}

// share runs f in a transaction, and with an fsync, that others may share. f
// may run more than once.
func (s *Store) share(ctx context.Context, f func(*bbolt.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return whole(func() error { return s.db.Batch(f) })
}

// whole runs a transaction. A page that was overwritten under the running daemon
// makes the library panic, and one that was cut off is a fault: both are
// ErrDamaged, and the transaction is rolled back.
func whole(transaction func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, cause)
		}
	}()
	if err := transaction(); err != nil {
		return fmt.Errorf("database: %w", err)
	}
	return nil
}
