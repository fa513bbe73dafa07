package store_test

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/store"
)

// A file that is overwritten or cut short under the running daemon is an error
// of the request that meets it, and neither the end of the process nor a panic.
func TestDamageUnderTheOpenFile(t *testing.T) {
	for what, damage := range map[string]func(path string, size int64) error{
		"overwritten": func(path string, size int64) error {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt(bytes.Repeat([]byte{0xa5}, int(size)-8192), 8192) // all but the two meta pages
			return errors.Join(err, f.Close())
		},
		"cut short": func(path string, _ int64) error { return os.Truncate(path, 8192) },
	} {
		t.Run(what, func(t *testing.T) {
			path := place(t)
			s, err := store.Open(path, true)
			if err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(path)
			if err == nil {
				err = damage(path, info.Size())
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.ByAddress(t.Context(), 1, [20]byte{}); !errors.Is(err, store.ErrDamaged) {
				t.Errorf("a read: %v, want ErrDamaged", err)
			}
			err = s.Update(t.Context(), func(tx *store.Tx) error { return tx.PutGuardRow(seal.ID{1}, []byte("row")) })
			if !errors.Is(err, store.ErrDamaged) {
				t.Errorf("a write: %v, want ErrDamaged", err)
			}
		})
	}
}
