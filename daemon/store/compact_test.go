package store_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/sigild/sigild/daemon/store"
)

// A compacted database is smaller and holds the same.
func TestCompact(t *testing.T) {
	path := place(t)
	s := open(t, path, true)
	ctx := context.Background()
	for n := range uint32(40) {
		create(t, s, newWallet(n, 1000, "user"))
	}
	filler := bytes.Repeat([]byte{7}, 4<<20) // what is replaced leaves its space behind
	for _, value := range [][]byte{filler, []byte("kept")} {
		if err := s.Put(ctx, map[store.Document][]byte{store.GuardRoot: value}); err != nil {
			t.Fatal(err)
		}
	}
	want := contents(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	leftover(t, path+".compact")
	before, after, err := store.Compact(path)
	if err != nil || after >= before-int64(len(filler)) {
		t.Fatalf("%d bytes became %d, %v", before, after, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 || info.Size() != after {
		t.Errorf("%v, %v", info, err)
	}
	if got := contents(t, open(t, path, false)); got != want {
		t.Errorf("%s became %s", want, got)
	}
	if files, err := filepath.Glob(path + "?*"); err != nil || files != nil {
		t.Errorf("files stayed: %v, %v", files, err)
	}
}

// leftover is what a compaction leaves that was killed.
func leftover(t *testing.T, path string) {
	t.Helper()
	fill(t, path, []byte("half a database"))
}

// contents is a summary of what a database holds.
func contents(t *testing.T, s *database) string {
	t.Helper()
	ids, err := s.Everything(context.Background(), nil, 1000)
	if err != nil {
		t.Fatal(err)
	}
	var all []byte
	for _, id := range ids {
		record, err := s.Record(context.Background(), id)
		if err != nil {
			t.Fatal(err)
		}
		all = append(append(all, id[:]...), record...)
	}
	root, err := s.Get(context.Background(), store.GuardRoot)
	if err != nil {
		t.Fatal(err)
	}
	return string(append(all, root...))
}

// A database that a daemon has open is not touched.
func TestCompactRefusesWhatIsInUse(t *testing.T) {
	path := place(t)
	open(t, path, true)
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := store.Compact(path); !errors.Is(err, store.ErrInUse) {
		t.Fatalf("err = %v, want ErrInUse", err)
	}
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) || after.ModTime() != before.ModTime() {
		t.Errorf("the file was touched: %v", err)
	}
}

// A compaction that cannot finish leaves the database as it was.
func TestFailedCompaction(t *testing.T) {
	path, id := old(t)
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(path+".compact/in-the-way", 0o700); err != nil {
		t.Fatal(err)
	}
	if _, _, err := store.Compact(path); err == nil {
		t.Fatal("compacted into a folder")
	}
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("the file was replaced: %v", err)
	}
	if record, err := open(t, path, false).Record(context.Background(), *id); err != nil || record == nil {
		t.Errorf("the wallet is gone: %v", err)
	}
}
