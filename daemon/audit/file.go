package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// file is what a log needs of its *os.File; tests give it one that fails.
type file interface {
	io.Writer
	io.ReaderAt
	Truncate(size int64) error
	Sync() error
	Stat() (os.FileInfo, error)
	Fd() uintptr
	Close() error
}

// opener opens the file of a log, and makes it where flags say so.
type opener func(path string, flags int) (file, error)

func openFile(path string, flags int) (file, error) {
	f, err := os.OpenFile(path, flags|os.O_RDWR|os.O_APPEND|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// lock makes a log one writer's, until the descriptor that it gives is closed. That is
// of its own, as the log's may be closed and opened anew.
func lock(path string, is os.FileInfo) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0) // NFS locks only what may be written
	if err != nil {
		return nil, err
	}
	if err = locks(f, is); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func locks(f *os.File, is os.FileInfo) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		return ErrInUse
	case errors.Is(err, unix.ENOLCK), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.ENOTSUP):
		// A file system without locks. That of the database has them, so that it takes
		// two installations and one path for two writers.
	case err != nil:
		return err
	}
	locked, err := f.Stat()
	if err == nil && !os.SameFile(locked, is) {
		err = errOther
	}
	return err
}

func checkPlace(f file) error {
	info, err := f.Stat()
	if err == nil && (!info.Mode().IsRegular() || info.Mode().Perm()&0o022 != 0) {
		err = ErrPlace
	}
	return err
}

// syncFolder makes the name of a new file durable, as its content is.
func syncFolder(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// maxTail is as far back from the end as the last line is looked for.
const maxTail = 1 << 20

// ending is what a log goes on from.
type ending struct {
	last   uint64 // sequence number of the last entry; 0: there is none
	size   int64  // of the file
	newest int64  // time of an entry within maxTail, Unix seconds
}

// recoverEnd cuts an unfinished last line off.
func recoverEnd(f file) (end ending, err error) {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return ending{}, err
	}
	from := max(info.Size()-maxTail, 0)
	tail, err := io.ReadAll(io.NewSectionReader(f, from, info.Size()-from))
	if err != nil {
		return ending{}, err
	}
	whole := bytes.LastIndexByte(tail, '\n') + 1
	if whole == 0 && from > 0 {
		return ending{}, errNoEntry // a torn line is never this long: nothing is cut
	}
	end.size = from + int64(whole)
	if whole < len(tail) {
		if err := truncate(f, end.size); err != nil {
			return ending{}, err
		}
	}
	if end.size == 0 {
		return end, nil
	}
	end.newest = newestTime(tail[:whole])
	end.last, err = lastSequence(tail[:whole])
	return end, err
}

// newestTime looks for the latest time in lines, the first of which may be cut.
func newestTime(lines []byte) (newest int64) {
	for line := range bytes.Lines(lines) {
		var e struct{ Time time.Time }
		if json.Unmarshal(line, &e) == nil {
			newest = max(newest, e.Time.Unix())
		}
	}
	return newest
}

var errNoEntry = errors.New("its last line is not an entry: move the file away to begin a new one")

func lastSequence(lines []byte) (uint64, error) {
	lines = bytes.TrimSuffix(lines, []byte{'\n'})
	var e Entry
	if err := json.Unmarshal(lines[bytes.LastIndexByte(lines, '\n')+1:], &e); err != nil || e.Sequence == 0 {
		return 0, errNoEntry
	}
	return e.Sequence, nil
}

func truncate(f file, size int64) error {
	if err := f.Truncate(size); err != nil {
		return err
	}
	return f.Sync()
}

// errOther is what a log that is opened again must not find.
var errOther = errors.New("the file is not the one that was written: it lacks entries, or was replaced; start the daemon anew when you know why")

// reopen opens a log whose file failed, and takes off what came after size bytes
// with the entry last. Another file in its place is left alone.
func reopen(open opener, path string, was os.FileInfo, size int64, last uint64) (_ file, err error) {
	f, err := open(path, 0)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !os.SameFile(info, was) || info.Size() < size {
		return nil, errOther
	}
	if err := errors.Join(checkPlace(f), continues(f, size, last)); err != nil {
		return nil, err
	}
	return f, truncate(f, size)
}

// continues says whether the first size bytes end with the entry last.
func continues(f file, size int64, last uint64) error {
	if size == 0 {
		return nil
	}
	from := max(size-maxTail, 0)
	tail := make([]byte, size-from)
	if _, err := f.ReadAt(tail, from); err != nil {
		return err
	}
	if tail[len(tail)-1] != '\n' {
		return errOther
	}
	if found, err := lastSequence(tail); err != nil || found != last {
		return errOther
	}
	return nil
}

// reserved is how much room a healthy log has on the disk for entries to come.
const reserved = 64 << 10

// reserve sets room aside behind the end, which no reader sees, so that a full
// disk is noticed before an entry meets it. A file system that cannot is not asked
// for more.
func reserve(f file, size int64) error {
	err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, size, reserved)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: no room for entries to come: %w", ErrWrite, err)
	}
	return nil
}
