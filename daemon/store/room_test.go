package store_test

import (
	"errors"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sigild/sigild/daemon/store"
)

// A look whether the database can be written changes nothing, and finds a disk
// that refuses.
func TestCheckWrite(t *testing.T) {
	path := place(t)
	s := open(t, path, true)
	if err := s.Put(t.Context(), map[store.Document][]byte{store.GuardRoot: []byte("root")}); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		if err := s.CheckWrite(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if after, err := os.Stat(path); err != nil || after.Size() != before.Size() {
		t.Errorf("the file grew from %d bytes: %v, %v", before.Size(), after, err)
	}
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 0, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	err = s.CheckWrite(t.Context())
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(err, syscall.EFBIG) {
		t.Errorf("on a disk that refuses: err = %v, want EFBIG", err)
	}
	if err := s.CheckWrite(t.Context()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	if root, err := s.Get(t.Context(), store.GuardRoot); err != nil || string(root) != "root" {
		t.Errorf("the root is %q, %v", root, err)
	}
}
