package store_test

import (
	"context"

	"github.com/sigild/sigild/daemon/store"
)

// plain is a ledger that writes and reads and stands over nothing: these tests
// are about the database.
type plain struct{ *store.Store }

func (p plain) Commit(ctx context.Context, apply func(*store.Tx) error) error {
	return p.Update(ctx, apply)
}

func (p plain) Leaf(ctx context.Context, id [16]byte) (row, record []byte, err error) {
	err = p.View(ctx, func(tx *store.Tx) error {
		leaf := tx.Leaf(id)
		row, record = leaf[0], leaf[1]
		return nil
	})
	return row, record, err
}

func (p plain) Settled(ctx context.Context) error { return ctx.Err() }

// database is an open database whose wallets are under a plain ledger.
type database struct {
	*store.Wallets
	plain plain
}

func openDatabase(path string, create bool) (*database, error) {
	s, err := store.Open(path, create)
	if err != nil {
		return nil, err
	}
	return &database{s.Wallets(plain{s}), plain{s}}, nil
}

func (d *database) GuardRow(ctx context.Context, id [16]byte) ([]byte, error) {
	row, _, err := d.plain.Leaf(ctx, id)
	return row, err
}

func (d *database) PutGuardRow(ctx context.Context, id [16]byte, row []byte) error {
	return d.plain.Commit(ctx, func(tx *store.Tx) error { return tx.PutGuardRow(id, row) })
}
