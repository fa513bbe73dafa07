package store

import (
	"context"
	"fmt"
	"syscall"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// minRoom is how many bytes a disk must have free: a database that has pages to
// use again takes small changes also on a full disk, and not the next wallet.
const minRoom = 1 << 20

// CheckWrite writes to the database, and syncs it, without changing what is in
// it, and looks whether the file can grow: syscall.ENOSPC.
func (s *Store) CheckWrite(ctx context.Context) error {
	// A transaction without a change still writes the list of free pages and
	// the file's head.
	if err := s.write(ctx, func(*bbolt.Tx) error { return nil }); err != nil {
		return err
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(s.db.Path(), &disk); err != nil {
		return fmt.Errorf("the database's disk: %w", err)
	}
	free := disk.Bavail * uint64(disk.Bsize)
	if disk.Blocks > 0 && free < minRoom { // some file systems count no blocks
		return fmt.Errorf("the database's disk has %d bytes free: %w", free, syscall.ENOSPC)
	}
	return nil
}
