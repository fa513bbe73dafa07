package store_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/sigild/sigild/daemon/store"
)

// Every schema that was ever released can be brought up to this one.
func TestEverySchemaHasAWay(t *testing.T) {
	if err := store.CheckLayout(); err != nil {
		t.Error(err)
	}
}

// mark adds to a value that shows which migrations ran, in their order.
func mark(step string) func(*bbolt.Tx) error {
	return func(tx *bbolt.Tx) error {
		meta := tx.Bucket([]byte("meta"))
		return meta.Put([]byte("steps"), append(bytes.Clone(meta.Get([]byte("steps"))), step...))
	}
}

func steps(t *testing.T, path string) (text string, schema byte) {
	t.Helper()
	edit(t, path, func(tx *bbolt.Tx) error {
		meta := tx.Bucket([]byte("meta"))
		text, schema = string(meta.Get([]byte("steps"))), meta.Get([]byte("schema"))[7]
		return nil
	})
	return text, schema
}

// old is a closed database of this program's schema with one wallet.
func old(t *testing.T) (path string, w *[16]byte) {
	t.Helper()
	path = place(t)
	s := open(t, path, true)
	created := newWallet(1, 1000, "user")
	create(t, s, created)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	id := [16]byte(created.Wallet)
	return path, &id
}

// A migration runs once, all steps in order, and leaves a copy of what was.
func TestMigration(t *testing.T) {
	path, id := old(t)
	migrations := map[uint64]func(*bbolt.Tx) error{
		store.Schema: mark("a"), store.Schema + 1: mark("b"), store.Schema + 2: mark("c"),
	}
	for range 2 { // the second time there is nothing to do
		s, err := store.OpenWith(path, store.Schema+3, migrations)
		if err != nil {
			t.Fatal(err)
		}
		if record, err := s.Wallets(plain{s}).Record(context.Background(), *id); err != nil || record == nil {
			t.Errorf("the wallet is gone: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if text, schema := steps(t, path); text != "abc" || schema != store.Schema+3 {
		t.Errorf("steps %q, schema %d", text, schema)
	}
	checkBackup(t, path, id)
	if _, err := store.Open(path, false); !errors.Is(err, store.ErrSchema) {
		t.Errorf("an older program: %v, want ErrSchema", err)
	}
}

// checkBackup opens the copy with the program that wrote the database.
func checkBackup(t *testing.T, path string, id *[16]byte) {
	t.Helper()
	copied := store.BackupPath(path, store.Schema)
	if info, err := os.Stat(copied); err != nil || info.Mode() != 0o600 {
		t.Fatalf("the copy: %v, %v, want mode 0600", info, err)
	}
	if text, schema := steps(t, copied); text != "" || schema != store.Schema {
		t.Errorf("the copy has steps %q, schema %d", text, schema)
	}
	if record, err := open(t, copied, false).Record(context.Background(), *id); err != nil || record == nil {
		t.Errorf("the copy has no wallet: %v", err)
	}
}

// A migration that fails is taken back as a whole, and may be tried again.
func TestFailedMigration(t *testing.T) {
	path, _ := old(t)
	broken := errors.New("broken")
	migrations := map[uint64]func(*bbolt.Tx) error{
		store.Schema: mark("a"), store.Schema + 1: func(*bbolt.Tx) error { return broken },
	}
	if _, err := store.OpenWith(path, store.Schema+2, migrations); !errors.Is(err, broken) {
		t.Fatalf("err = %v", err)
	}
	if text, schema := steps(t, path); text != "" || schema != store.Schema {
		t.Errorf("half a migration stayed: steps %q, schema %d", text, schema)
	}
	migrations[store.Schema+1] = mark("b")
	s, err := store.OpenWith(path, store.Schema+2, migrations)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if text, _ := steps(t, path); text != "ab" {
		t.Errorf("steps %q", text)
	}
}

// Without a copy nothing is migrated.
func TestNoMigrationWithoutACopy(t *testing.T) {
	path, _ := old(t)
	if err := os.MkdirAll(store.BackupPath(path, store.Schema)+"/in-the-way", 0o700); err != nil {
		t.Fatal(err)
	}
	migrations := map[uint64]func(*bbolt.Tx) error{store.Schema: mark("a")}
	if _, err := store.OpenWith(path, store.Schema+1, migrations); err == nil {
		t.Fatal("migrated without a copy")
	}
	if text, schema := steps(t, path); text != "" || schema != store.Schema {
		t.Errorf("steps %q, schema %d", text, schema)
	}
	if _, err := os.Stat(store.BackupPath(path, store.Schema) + ".new"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the half copy stayed: %v", err)
	}
}

// A schema that this program has no way from is refused, and not copied.
func TestSchemaWithoutAWay(t *testing.T) {
	path, _ := old(t)
	if _, err := store.OpenWith(path, store.Schema+1, nil); !errors.Is(err, store.ErrNotDatabase) {
		t.Errorf("err = %v, want ErrNotDatabase", err)
	}
	if _, err := os.Stat(store.BackupPath(path, store.Schema)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a copy was made: %v", err)
	}
}
