package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"

	"go.etcd.io/bbolt"
)

// migration rewrites a database of schema From as one of schema From+1, inside
// the one transaction of all migrations of a start.
type migration struct {
	From  uint64
	Apply func(*bbolt.Tx) error
}

// layout is what a program reads and writes: a schema, and the way to it from
// each older one.
type layout struct {
	schema     uint64
	migrations []migration
}

// current is this program's layout. A new schema adds one line; lines stay for
// ever, so that a database of any release can be brought up.
func current() layout {
	return layout{schema: Schema, migrations: nil}
}

// way lists the migrations from one schema to the current one, in order.
func (l layout) way(from uint64) ([]migration, error) {
	var steps []migration
	for n := from; n < l.schema; n++ {
		i := slices.IndexFunc(l.migrations, func(m migration) bool { return m.From == n })
		if i < 0 {
			return nil, fmt.Errorf("%w: schema %d is none that ever was", ErrNotDatabase, n)
		}
		steps = append(steps, l.migrations[i])
	}
	return steps, nil
}

// schemaOf reads the schema; 0 is none.
func schemaOf(tx *bbolt.Tx) uint64 {
	if meta := tx.Bucket(metaBucket); meta != nil {
		if v := meta.Get([]byte("schema")); len(v) == 8 {
			return binary.BigEndian.Uint64(v)
		}
	}
	return 0
}

// migrate brings an older database to the layout's schema: first a copy of the
// file is on disk as PATH.schema-N.bak (mode 0600), then all steps are made in
// one transaction, so that a crash leaves the old schema or the new one.
func (s *Store) migrate(l layout) error {
	var from uint64
	err := s.db.View(func(tx *bbolt.Tx) error {
		from = schemaOf(tx)
		return nil
	})
	if err != nil || from == 0 || from >= l.schema { // prepare judges those
		return err
	}
	steps, err := l.way(from)
	if err != nil {
		return err
	}
	if err := s.backup(from); err != nil {
		return fmt.Errorf("the copy before the migration from schema %d, which was not begun: %w", from, err)
	}
	return s.db.Update(func(tx *bbolt.Tx) error {
		for _, step := range steps {
			if err := step.Apply(tx); err != nil {
				return fmt.Errorf("migration from schema %d, which was taken back: %w", step.From, err)
			}
		}
		return putSchema(tx, l.schema)
	})
}

// BackupPath is where the copy of a database is put before it is migrated from
// a schema.
func BackupPath(path string, schema uint64) string {
	return fmt.Sprintf("%s.schema-%d.bak", path, schema)
}

func (s *Store) backup(schema uint64) error {
	path := BackupPath(s.db.Path(), schema)
	next := path + ".new"
	if err := removeIfThere(next); err != nil { // of a start that was killed
		return err
	}
	err := s.db.View(func(tx *bbolt.Tx) error { return writeCopy(tx, next) })
	if err == nil {
		err = errors.Join(sameOwner(s.db.Path(), next), os.Rename(next, path))
	}
	if err != nil {
		return errors.Join(err, removeIfThere(next))
	}
	return syncFolder(path)
}

func writeCopy(tx *bbolt.Tx, path string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = tx.WriteTo(file)
	return errors.Join(err, file.Sync(), file.Close())
}

func putSchema(tx *bbolt.Tx, schema uint64) error {
	return tx.Bucket(metaBucket).Put([]byte("schema"), binary.BigEndian.AppendUint64(nil, schema))
}
