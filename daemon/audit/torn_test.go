package audit_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/sigild/sigild/daemon/audit"
)

// brokenDisk gives files that take half of a write and then fail, and whose end
// cannot be cut off either, for as long as it is told to; a file that was opened
// while it was dead stays so.
type brokenDisk struct {
	broken atomic.Bool // whatever is open
	dead   atomic.Pointer[brokenFile]
	opened []*brokenFile
}

type brokenFile struct {
	audit.File
	disk *brokenDisk
}

func (d *brokenDisk) open(path string, flags int) (audit.File, error) {
	if d.broken.Load() {
		return nil, syscall.EIO
	}
	f, err := audit.OpenFile(path, flags)
	if err != nil {
		return nil, err
	}
	b := &brokenFile{f, d}
	d.opened = append(d.opened, b)
	return b, nil
}

// mended is well again but for the file that was open.
func (d *brokenDisk) mended() {
	d.dead.Store(d.opened[0])
	d.broken.Store(false)
}

func (f *brokenFile) fails() bool { return f.disk.broken.Load() || f.disk.dead.Load() == f }

func (f *brokenFile) Write(b []byte) (int, error) {
	if f.fails() {
		n, _ := f.File.Write(b[:len(b)/2])
		return n, syscall.EIO
	}
	return f.File.Write(b)
}

func (f *brokenFile) Truncate(size int64) error {
	if f.fails() {
		return syscall.EIO
	}
	return f.File.Truncate(size)
}

// refused wants entries refused for now, and not because the log is closed.
func refused(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, audit.ErrWrite) || errors.Is(err, audit.ErrClosed) {
		t.Fatalf("err = %v, want ErrWrite", err)
	}
}

func openOn(t *testing.T, d *brokenDisk, path string) *audit.Log {
	t.Helper()
	l, err := audit.OpenBy(d.open, path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// P7: also where a failed write cannot be taken back, the log goes on by itself
// when the disk does, without a gap and without half an entry.
func TestTornLogGoesOn(t *testing.T) {
	path, disk := place(t), new(brokenDisk)
	l := openOn(t, disk, path)
	if err := l.Write(t.Context(), entry("before")); err != nil {
		t.Fatal(err)
	}
	disk.broken.Store(true)
	for range 3 {
		refused(t, l.Write(t.Context(), entry("never"), entry("never")))
		refused(t, l.Check(t.Context()))
	}
	if text, err := os.ReadFile(path); err != nil || !bytes.Contains(text, []byte("never")) {
		t.Fatalf("nothing was left of the failed write: %v", err)
	}
	disk.broken.Store(false)
	if err := l.Check(t.Context()); err != nil {
		t.Errorf("the disk is well again: %v", err)
	}
	if err := l.Write(t.Context(), entry("after")); err != nil {
		t.Fatal(err)
	}
	wantActions(t, path, "before", "after")
}

// A descriptor that does nothing any more, as after a file system was taken away
// and mounted again, is replaced.
func TestDeadFileIsOpenedAnew(t *testing.T) {
	path, disk := place(t), new(brokenDisk)
	l := openOn(t, disk, path)
	if err := l.Write(t.Context(), entry("before")); err != nil {
		t.Fatal(err)
	}
	disk.broken.Store(true)
	refused(t, l.Write(t.Context(), entry("never")))
	disk.mended()
	if err := l.Write(t.Context(), entry("after")); err != nil {
		t.Fatal(err)
	}
	if len(disk.opened) != 2 {
		t.Errorf("the file was opened %d times", len(disk.opened))
	}
	wantActions(t, path, "before", "after")
}

// What is opened anew must be the log that was written.
func TestReplacedFileIsNotGoneOnWith(t *testing.T) {
	for what, replace := range map[string]func(path string) error{
		"cut": func(path string) error { return os.Truncate(path, 10) },
		"copied": func(path string) error {
			text, err := os.ReadFile(path)
			return errors.Join(err, os.Rename(path, path+".old"), os.WriteFile(path, text, 0o600))
		},
		"rewritten": func(path string) error { return rewrite(path, bytes.Repeat([]byte(" "), 2000)) },
		"gone":      os.Remove,
		"a link": func(path string) error {
			return errors.Join(os.Rename(path, path+".old"), os.Symlink(path+".old", path))
		},
		"a folder":  func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
		"another's": func(path string) error { return os.Chmod(path, 0o666) },
	} {
		t.Run(what, func(t *testing.T) {
			path, disk := place(t), new(brokenDisk)
			l := openOn(t, disk, path)
			for range 2 {
				if err := l.Write(t.Context(), entry("before")); err != nil {
					t.Fatal(err)
				}
			}
			disk.broken.Store(true)
			refused(t, l.Write(t.Context(), entry("never")))
			if err := replace(path); err != nil {
				t.Fatal(err)
			}
			disk.mended()
			refused(t, l.Write(t.Context(), entry("never")))
			refused(t, l.Check(t.Context()))
		})
	}
}

// A look at a healthy log leaves nothing in it.
func TestCheckLeavesNothing(t *testing.T) {
	path := place(t)
	l, err := audit.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := errors.Join(l.Check(t.Context()), l.Write(t.Context(), entry("one")), l.Check(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	wantActions(t, path, "one", "one", "one")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Check(t.Context()); !errors.Is(err, audit.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	wantActions(t, path, "one", "one", "one")
	if found, err := filepath.Glob(filepath.Dir(path) + "/*"); err != nil || len(found) != 1 {
		t.Errorf("the folder holds %v, %v", found, err)
	}
}

// rewrite changes what is in the file.
func rewrite(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

func wantActions(t *testing.T, path string, want ...string) {
	t.Helper()
	entries := read(t, path)
	for n, e := range entries {
		if n >= len(want) || e.Action != want[n] || e.Sequence != uint64(n+1) {
			t.Errorf("entry %d is %+v, want %v", n+1, e, want)
		}
	}
	if len(entries) != len(want) {
		t.Errorf("%d entries, want %d", len(entries), len(want))
	}
}
