package store_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/sigild/sigild/daemon/store"
)

func TestOpenMakesAPrivateFile(t *testing.T) {
	path := place(t)
	open(t, path, true)
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Fatalf("mode %v, %v, want 0600", info.Mode(), err)
	}
}

// A daemon that lost its file must not start on an empty one.
func TestOpenWithoutCreateMakesNothing(t *testing.T) {
	path := place(t)
	if _, err := store.Open(path, false); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("err = %v, want fs.ErrNotExist", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal("a file was made")
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(path, false); !errors.Is(err, store.ErrNotDatabase) {
		t.Fatalf("an empty file: err = %v, want ErrNotDatabase", err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != 0 {
		t.Fatalf("the empty file was written: %d bytes, %v", info.Size(), err)
	}
}

// Each place where others could read or replace the file is refused.
func TestOpenRefusesUnsafePlaces(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, path string) string
		want  string
	}{
		"relative path":          {func(*testing.T, string) string { return "sigild.db" }, "not absolute"},
		"folder of the group":    {func(t *testing.T, p string) string { chmod(t, filepath.Dir(p), 0o770); return p }, "chmod go-w"},
		"folder of everybody":    {func(t *testing.T, p string) string { chmod(t, filepath.Dir(p), 0o1777); return p }, "chmod go-w"},
		"no folder":              {func(_ *testing.T, p string) string { return filepath.Join(filepath.Dir(p), "no", "x.db") }, "folder"},
		"file the group reads":   {func(t *testing.T, p string) string { chmod(t, p, 0o640); return p }, "0600"},
		"file everybody reads":   {func(t *testing.T, p string) string { chmod(t, p, 0o604); return p }, "0600"},
		"symbolic link":          {link, "regular file"},
		"symbolic link to none":  {func(t *testing.T, p string) string { return link(t, p+".gone") }, "regular file"},
		"a folder in its place":  {func(_ *testing.T, p string) string { return filepath.Dir(p) }, "regular file"},
		"a device in its place":  {func(*testing.T, string) string { return "/dev/null" }, ""},
		"path ending in a slash": {func(_ *testing.T, p string) string { return p + "/" }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			path := place(t)
			if err := open(t, path, true).Close(); err != nil {
				t.Fatal(err)
			}
			_, err := store.Open(c.spoil(t, path), true)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("err = %v, want one about %q", err, c.want)
			}
		})
	}
}

func chmod(t *testing.T, path string, mode uint32) {
	t.Helper()
	m := fs.FileMode(mode & 0o777)
	if mode&0o1000 != 0 {
		m |= fs.ModeSticky
	}
	if err := os.Chmod(path, m); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, path string) string {
	t.Helper()
	name := filepath.Join(filepath.Dir(path), "link.db")
	if err := os.Symlink(path, name); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestSecondOpenerIsRefused(t *testing.T) {
	path := place(t)
	first := open(t, path, true)
	if _, err := store.Open(path, false); !errors.Is(err, store.ErrInUse) {
		t.Fatalf("err = %v, want ErrInUse", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, path, false)
}

// A file that a compaction replaces while somebody waits for it has no name any more:
// who wrote into it would lose all of that.
func TestWaiterIsNotLeftWithAReplacedFile(t *testing.T) {
	path := place(t)
	first := open(t, path, true)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	opened := make(chan error, 1)
	go func() {
		second, err := store.Open(path, false)
		if err == nil {
			err = second.Close()
		}
		opened <- err
	}()
	for descriptorsOf(t, path) < 2 {
		runtime.Gosched()
	}
	next := path + ".next"
	if err := errors.Join(os.WriteFile(next, whole, 0o600), os.Rename(next, path), first.Close()); err != nil {
		t.Fatal(err)
	}
	if err := <-opened; !errors.Is(err, store.ErrInUse) {
		t.Errorf("err = %v, want ErrInUse", err)
	}
	open(t, path, false)
}

// descriptorsOf counts this process's descriptors of a file.
func descriptorsOf(t *testing.T, path string) (n int) {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range all {
		if name, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && name == path {
			n++
		}
	}
	return n
}

func TestOpenChecksTheSchema(t *testing.T) {
	for name, c := range map[string]struct {
		schema []byte
		want   error
	}{
		"newer":   {binary.BigEndian.AppendUint64(nil, store.Schema+1), store.ErrSchema},
		"none":    {nil, store.ErrNotDatabase},
		"garbled": {[]byte("one"), store.ErrNotDatabase},
	} {
		path := place(t)
		if err := open(t, path, true).Close(); err != nil {
			t.Fatal(err)
		}
		edit(t, path, func(tx *bbolt.Tx) error {
			meta := tx.Bucket([]byte("meta"))
			if c.schema == nil {
				return meta.Delete([]byte("schema"))
			}
			return meta.Put([]byte("schema"), c.schema)
		})
		if _, err := store.Open(path, true); !errors.Is(err, c.want) {
			t.Errorf("%s: err = %v, want %v", name, err, c.want)
		}
	}
}

// edit changes a database as another program would.
func edit(t *testing.T, path string, f func(*bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(f), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// Another program's file is neither read as ours nor made ours.
func TestOpenRefusesForeignFiles(t *testing.T) {
	for name, write := range map[string]func(t *testing.T, path string){
		"text":        func(t *testing.T, p string) { fill(t, p, []byte("hello, world\n")) },
		"three pages": func(t *testing.T, p string) { fill(t, p, bytes.Repeat([]byte("SQLite format 3\x00"), 768)) },
		"many pages":  func(t *testing.T, p string) { fill(t, p, make([]byte, 1<<20)) },
		"another bbolt": func(t *testing.T, p string) {
			edit(t, p, func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("theirs")); return err })
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := place(t)
			write(t, path)
			for _, create := range []bool{false, true} {
				if _, err := store.Open(path, create); !errors.Is(err, store.ErrNotDatabase) {
					t.Fatalf("create %v: err = %v, want ErrNotDatabase", create, err)
				}
			}
		})
	}
}

func fill(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A bbolt file without any bucket is what a creation leaves that was killed
// half-way: creating goes on, starting does not.
func TestHalfMadeFile(t *testing.T) {
	path := place(t)
	edit(t, path, func(*bbolt.Tx) error { return nil })
	if _, err := store.Open(path, false); !errors.Is(err, store.ErrNotDatabase) {
		t.Fatalf("err = %v, want ErrNotDatabase", err)
	}
	open(t, path, true)
}

// A file that was cut short is refused; it does not end the process.
func TestTruncatedFileIsRefused(t *testing.T) {
	path := place(t)
	s := open(t, path, true)
	for n := range uint32(400) {
		create(t, s, newWallet(n, 1000, "user"))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	used := used(t, path)
	for size := used - 4096; size >= 4096; size = size / 8192 * 4096 {
		cut := place(t)
		fill(t, cut, whole[:size])
		if _, err := store.Open(cut, false); err == nil {
			t.Errorf("%d of %d bytes: opened", size, used)
		} else if size > 4096 && !errors.Is(err, store.ErrNotDatabase) {
			t.Errorf("%d of %d bytes: err = %v, want ErrNotDatabase", size, used, err)
		}
	}
	open(t, path, false)
}

// used is how many bytes of a database are in use.
func used(t *testing.T, path string) (n int64) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.View(func(tx *bbolt.Tx) error { n = tx.Size(); return nil }), db.Close()); err != nil {
		t.Fatal(err)
	}
	return n
}

// A page that was overwritten is refused too, or its wallets are.
func TestOverwrittenPagesDoNotEndTheProcess(t *testing.T) {
	path := place(t)
	if err := open(t, path, true).Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at+4096 <= len(whole); at += 4096 {
		bad := place(t)
		fill(t, bad, slices.Concat(whole[:at], bytes.Repeat([]byte{0xff}, 4096), whole[at+4096:]))
		if s, err := store.Open(bad, false); err == nil {
			_ = s.Close()
		}
	}
}
