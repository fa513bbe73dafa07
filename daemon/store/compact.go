package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"syscall"

	"go.etcd.io/bbolt"
)

// compactBytes bounds one transaction of a compaction, in bytes.
const compactBytes = 1 << 20

// Compact rewrites the database at path without the space that deleted and
// replaced values left behind, and gives the file's size before and after, in
// bytes. The file is replaced as a whole, by rename, once the new one is on
// disk and was read back; until then it is not touched. ErrInUse while a daemon
// runs.
func Compact(path string) (before, after int64, err error) {
	s, err := Open(path, false)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }() // the lock holds until the end
	if before, err = size(path); err != nil {
		return 0, 0, err
	}
	next := path + ".compact"
	if err := os.Remove(next); err != nil && !errors.Is(err, os.ErrNotExist) { // of a compaction that was killed
		return 0, 0, err
	}
	err = guarded(path, func() error { return s.copyTo(next) })
	if err == nil {
		err = sameOwner(path, next)
	}
	if err == nil {
		after, err = size(next)
	}
	if err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		return 0, 0, errors.Join(fmt.Errorf("compact the database, which is as it was: %w", err), removeIfThere(next))
	}
	return before, after, syncFolder(path)
}

// copyTo writes everything into a new file and compares what arrived.
func (s *Store) copyTo(path string) (err error) {
	to, err := bbolt.Open(path, 0o600, &bbolt.Options{FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	if err := bbolt.Compact(to, s.db, compactBytes); err != nil {
		return err
	}
	if err := to.Sync(); err != nil {
		return err
	}
	return s.db.View(func(old *bbolt.Tx) error {
		return to.View(func(next *bbolt.Tx) error { return sameContent(old, next) })
	})
}

// errDiffers is returned for a copy that is not one.
var errDiffers = errors.New("the copy differs from the database")

// sameContent compares two databases bucket by bucket, key by key.
func sameContent(a, b *bbolt.Tx) error {
	for err := range b.Check() {
		return err
	}
	ca, cb := a.Cursor(), b.Cursor()
	name, _ := ca.First()
	other, _ := cb.First()
	for name != nil || other != nil {
		if !bytes.Equal(name, other) {
			return errDiffers
		}
		if err := sameBucket(a.Bucket(name), b.Bucket(name)); err != nil {
			return fmt.Errorf("bucket %s: %w", name, err)
		}
		name, _ = ca.Next()
		other, _ = cb.Next()
	}
	return nil
}

func sameBucket(a, b *bbolt.Bucket) error {
	if a.Sequence() != b.Sequence() { // that of the records counts the wallets ever made
		return errDiffers
	}
	ca, cb := a.Cursor(), b.Cursor()
	ka, va := ca.First()
	kb, vb := cb.First()
	for ka != nil || kb != nil {
		if !bytes.Equal(ka, kb) || !bytes.Equal(va, vb) {
			return errDiffers
		}
		ka, va = ca.Next()
		kb, vb = cb.Next()
	}
	return nil
}

func size(path string) (int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// sameOwner gives a new file to the owner of the one that it is made of: root
// may run what makes it, and the daemon has to open it.
func sameOwner(path, next string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.ErrUnsupported
	}
	return os.Chown(next, int(owner.Uid), int(owner.Gid))
}

func removeIfThere(path string) error {
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
