package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// Schema is the version of the buckets that this program reads and writes.
const Schema = 1

var (
	// ErrInUse is returned when another process has the file open.
	ErrInUse = errors.New("the database is in use by another process")
	// ErrSchema is returned for a file that a newer program wrote.
	ErrSchema = errors.New("the database was written by a newer version of sigild")
	// ErrNotDatabase is returned for a file that is not this program's.
	ErrNotDatabase = errors.New("not a sigild database")
	// ErrDamaged is returned when the file was overwritten or cut short while it
	// was open.
	ErrDamaged = errors.New("the database file was damaged while it was open")
)

var (
	metaBucket    = []byte("meta")
	recordBucket  = []byte("records")
	guardBucket   = []byte("guard")
	addressBucket = []byte("addresses")
	relayBucket   = []byte("relays")
	ownerBucket   = []byte("owners")
	requestBucket = []byte("requests")
	nonceBucket   = []byte("nonces")
	answerBucket  = []byte("answers")
	tagBucket     = []byte("tags")
	nameBucket    = []byte("external-ids")
	tombBucket    = []byte("tombstones")
	treeBucket    = []byte("tree")
)

// batchDelay is how long a small write waits for others to share its fsync.
const batchDelay = 200 * time.Microsecond

// Store is an open database. It is safe for concurrent use.
type Store struct {
	db *bbolt.DB
}

// Open opens the database at path, an absolute path in a folder that only its
// owner can write. A missing file is made (mode 0600) only if create is set:
// a daemon that lost its file must not start on an empty one. A database of an
// older schema is migrated, after a copy was made (BackupPath).
func Open(path string, create bool) (*Store, error) { return openAs(path, create, current()) }

func openAs(path string, create bool, l layout) (*Store, error) {
	if err := checkPlace(path, create); err != nil {
		return nil, err
	}
	s := &Store{}
	err := guarded(path, func() (err error) {
		s.db, err = openFile(path)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.db.MaxBatchDelay = batchDelay
	err = guarded(path, func() error { return s.begin(create, l) })
	if err := errors.Join(err, syncFolder(path)); err != nil {
		return nil, errors.Join(err, s.db.Close())
	}
	return s, nil
}

// guarded runs f on a file that is mapped into memory, where a page that a
// damaged file lacks is a fault, and one that was overwritten a panic of the
// library: both are an error here. The library may leave the file locked then,
// so that this process cannot try again.
func guarded(path string, f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("%w, or one that was damaged: %s: %v", ErrNotDatabase, path, cause)
		}
	}()
	return f()
}

// openFile waits a second for the lock on the file, by which it is one process's.
// The file may be replaced meanwhile, by a compaction: what it opened then has no name
// any more, and all that is written there would be lost.
func openFile(path string) (*bbolt.DB, error) {
	var file *os.File
	open := func(name string, flags int, mode os.FileMode) (f *os.File, err error) {
		f, err = os.OpenFile(name, flags, mode)
		file = f
		return f, err
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second, FreelistType: bbolt.FreelistMapType, OpenFile: open})
	if err == nil {
		if err = named(file, path); err != nil {
			return nil, errors.Join(err, db.Close())
		}
	}
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, fmt.Errorf("%w: %s", ErrInUse, path)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrVersionMismatch), errors.Is(err, berrors.ErrChecksum):
		return nil, fmt.Errorf("%w: %s: %v", ErrNotDatabase, path, err)
	case err != nil:
		return nil, fmt.Errorf("open the database: %w", err)
	}
	return db, nil
}

// named reports ErrInUse when a file is not the one at path.
func named(file *os.File, path string) error {
	is, err := file.Stat()
	if err != nil {
		return fmt.Errorf("the database: %w", err)
	}
	at, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("the database: %w", err)
	}
	if !os.SameFile(is, at) {
		return fmt.Errorf("%w, which replaced the file: %s; try again", ErrInUse, path)
	}
	return nil
}

// checkWhole refuses a file that is shorter than its own account of itself.
func checkWhole(tx *bbolt.Tx, path string) error {
	file, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("the database: %w", err)
	}
	if file.Size() < tx.Size() {
		return fmt.Errorf("%w, or one that was cut short: %s has %d of %d bytes", ErrNotDatabase, path, file.Size(), tx.Size())
	}
	return nil
}

// syncFolder makes the file's name durable, as its content is.
func syncFolder(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("the database's folder: %w", err)
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func checkPlace(path string, create bool) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("the database's path %q is not absolute", path)
	}
	dir, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("the database's folder: %w", err)
	}
	if dir.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("the database's folder %s can be written by others: chmod go-w it", filepath.Dir(path))
	}
	file, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) && create {
		return nil
	}
	if err != nil {
		return fmt.Errorf("the database: %w", err)
	}
	if !file.Mode().IsRegular() || file.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("the database %s must be a regular file with mode 0600", path)
	}
	if file.Size() == 0 && !create {
		return fmt.Errorf("%w: %s is empty", ErrNotDatabase, path)
	}
	return nil
}

// begin brings what was opened to the layout.
func (s *Store) begin(create bool, l layout) error {
	err := s.db.View(func(tx *bbolt.Tx) error { return checkWhole(tx, s.db.Path()) })
	if err != nil {
		return err
	}
	if err := s.migrate(l); err != nil {
		return err
	}
	return s.prepare(create, l.schema)
}

// prepare makes the buckets of a new file and checks the schema of an old one.
// A file with buckets but without this program's is somebody else's.
func (s *Store) prepare(create bool, schema uint64) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		meta := tx.Bucket(metaBucket)
		if first, _ := tx.Cursor().First(); meta == nil && (first != nil || !create) {
			return ErrNotDatabase
		}
		if meta == nil {
			return initialise(tx, schema)
		}
		v := meta.Get([]byte("schema"))
		if len(v) != 8 {
			return ErrNotDatabase
		}
		if n := binary.BigEndian.Uint64(v); n != schema {
			return fmt.Errorf("%w: schema %d, this program knows %d", ErrSchema, n, schema)
		}
		return nil
	})
}

func initialise(tx *bbolt.Tx, schema uint64) error {
	for _, name := range [][]byte{metaBucket, recordBucket, guardBucket, addressBucket,
		relayBucket, ownerBucket, requestBucket,
		nonceBucket, answerBucket, tagBucket, nameBucket, tombBucket, treeBucket} {
		if _, err := tx.CreateBucket(name); err != nil {
			return err
		}
	}
	return putSchema(tx, schema)
}

// Close releases the file.
func (s *Store) Close() error { return s.db.Close() }
