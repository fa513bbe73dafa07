package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
)

// batchDelay is how long a small write waits for others to share its fsync.
const batchDelay = 200 * time.Microsecond

// Store is an open database. It is safe for concurrent use.
type Store struct {
	db *bbolt.DB
}

// Open opens the database at path, an absolute path in a folder that only its
// owner can write. A missing file is made (mode 0600) only if create is set:
// a daemon that lost its file must not start on an empty one.
func Open(path string, create bool) (*Store, error) {
	if err := checkPlace(path, create); err != nil {
		return nil, err
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second, FreelistType: bbolt.FreelistMapType})
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, fmt.Errorf("%w: %s", ErrInUse, path)
	}
	if errors.Is(err, berrors.ErrInvalid) || errors.Is(err, berrors.ErrVersionMismatch) {
		return nil, fmt.Errorf("%w: %s: %v", ErrNotDatabase, path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	db.MaxBatchDelay = batchDelay
	s := &Store{db: db}
	if err := s.prepare(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
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
	return nil
}

// prepare makes the buckets of a new file and checks the schema of an old one.
func (s *Store) prepare() error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		meta := tx.Bucket(metaBucket)
		if meta == nil {
			return initialise(tx)
		}
		v := meta.Get([]byte("schema"))
		if len(v) != 8 {
			return ErrNotDatabase
		}
		if n := binary.BigEndian.Uint64(v); n != Schema {
			return fmt.Errorf("%w: schema %d, this program knows %d", ErrSchema, n, Schema)
		}
		return nil
	})
}

func initialise(tx *bbolt.Tx) error {
	for _, name := range [][]byte{metaBucket, recordBucket, guardBucket, addressBucket,
		relayBucket, ownerBucket, requestBucket, nonceBucket, answerBucket} {
		if _, err := tx.CreateBucket(name); err != nil {
			return err
		}
	}
	return tx.Bucket(metaBucket).Put([]byte("schema"), binary.BigEndian.AppendUint64(nil, Schema))
}

// Close releases the file.
func (s *Store) Close() error { return s.db.Close() }
