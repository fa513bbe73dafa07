package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Entry is one line.
type Entry struct {
	Sequence uint64            `json:"seq"` // from 1, without gaps
	Time     time.Time         `json:"time"`
	Action   string            `json:"action"`
	UID      uint32            `json:"uid"`
	PID      int32             `json:"pid"`
	Wallet   string            `json:"walletId,omitempty"`
	Account  uint32            `json:"account"`
	Digest   string            `json:"digest,omitempty"`
	Result   string            `json:"result"` // "ok", or the reason of a refusal
	Detail   map[string]string `json:"detail,omitempty"`
}

// ErrClosed is returned by Write after Close, or after a failed write that
// could not be taken back: a log with a hole is not continued, and nothing is
// signed until it is opened anew.
var ErrClosed = errors.New("the audit log is closed")

// ErrWrite is returned by Write when the disk refused the entries, as a full one
// does. None of them is in the log, which goes on when the disk does.
var ErrWrite = errors.New("write the audit log")

// waiting bounds the entries between two fsyncs.
const waiting = 256

// maxTail is as far back from the end as Open looks for the last line.
const maxTail = 1 << 20

// Log appends entries; entries written at the same time share an fsync. It is
// safe for concurrent use.
type Log struct {
	file  *os.File
	queue chan *pending
	stop  chan struct{}
	end   sync.Once
	done  chan struct{}
	next  uint64 // number of the next entry
	size  int64  // bytes that are on disk
}

type pending struct {
	entries []Entry
	result  chan error
}

// ErrPlace is returned for a path that is no file of its own, or one that
// others may write to.
var ErrPlace = errors.New("the audit log must be a file of its own (no link) that only its owner may write to")

// Open opens or makes the log at path (mode 0600); ErrPlace. A line that a crash cut
// short was never acknowledged: it is removed. A last line that is not an entry
// is an error.
func Open(path string) (*Log, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("%w: %s", ErrPlace, path)
	}
	if err != nil {
		return nil, fmt.Errorf("open the audit log: %w", err)
	}
	last, size, err := uint64(0), int64(0), checkPlace(file)
	if err == nil {
		last, size, err = recoverEnd(file)
	}
	if err == nil {
		err = syncFolder(path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("audit log %s: %w", path, err), file.Close())
	}
	l := &Log{file: file, queue: make(chan *pending, waiting), stop: make(chan struct{}),
		done: make(chan struct{}), next: last + 1, size: size}
	go l.run()
	return l, nil
}

func checkPlace(file *os.File) error {
	info, err := file.Stat()
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

// recoverEnd cuts an unfinished last line off and gives the last sequence
// number and the file's size.
func recoverEnd(file *os.File) (last uint64, size int64, err error) {
	info, err := file.Stat()
	if err != nil || info.Size() == 0 {
		return 0, 0, err
	}
	from := max(info.Size()-maxTail, 0)
	tail, err := io.ReadAll(io.NewSectionReader(file, from, info.Size()-from))
	if err != nil {
		return 0, 0, err
	}
	end := bytes.LastIndexByte(tail, '\n') + 1
	if end == 0 && from > 0 {
		return 0, 0, errNoEntry // a torn line is never this long: nothing is cut
	}
	size = from + int64(end)
	if end < len(tail) {
		if err := truncate(file, size); err != nil {
			return 0, 0, err
		}
	}
	if size == 0 {
		return 0, 0, nil
	}
	last, err = lastSequence(tail[:end])
	return last, size, err
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

func truncate(file *os.File, size int64) error {
	if err := file.Truncate(size); err != nil {
		return err
	}
	return file.Sync()
}

// Write appends entries, numbered, all or none, and returns when they are on
// disk. When ctx ends first they may still be written.
func (l *Log) Write(ctx context.Context, entries ...Entry) error {
	p := &pending{entries: entries, result: make(chan error, 1)}
	select {
	case l.queue <- p:
	case <-l.done:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-p.result:
		return err
	case <-l.done:
		return l.late(p)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// late tells an entry that was answered just before the end from one that
// nobody read.
func (l *Log) late(p *pending) error {
	select {
	case err := <-p.result:
		return err
	default:
		return ErrClosed
	}
}

// Close writes what waits and closes the file.
func (l *Log) Close() error {
	l.end.Do(func() { close(l.stop) })
	<-l.done
	return l.file.Close()
}

func (l *Log) run() {
	defer close(l.done)
	for {
		select {
		case p := <-l.queue:
			if !l.commit(l.gather(p)) {
				return
			}
		case <-l.stop:
			l.commit(l.gather())
			return
		}
	}
}

// gather takes what waits, so that it shares one fsync.
func (l *Log) gather(batch ...*pending) []*pending {
	for len(batch) < waiting {
		select {
		case p := <-l.queue:
			batch = append(batch, p)
		default:
			return batch
		}
	}
	return batch
}

// commit writes a batch in one piece, or not at all. It reports whether the
// log can go on.
func (l *Log) commit(batch []*pending) bool {
	if len(batch) == 0 {
		return true
	}
	size, count, err := l.append(batch)
	sound := err == nil || truncate(l.file, l.size) == nil
	if err == nil {
		l.size += size
		l.next += count
	}
	for _, p := range batch {
		p.result <- err
	}
	return sound
}

func (l *Log) append(batch []*pending) (size int64, count uint64, err error) {
	var lines bytes.Buffer
	for _, p := range batch {
		for _, e := range p.entries {
			e.Sequence = l.next + count
			line, err := json.Marshal(e)
			if err != nil {
				return 0, 0, fmt.Errorf("encode an audit entry: %w", err)
			}
			lines.Write(append(line, '\n'))
			count++
		}
	}
	if _, err := l.file.Write(lines.Bytes()); err != nil {
		return 0, 0, fmt.Errorf("%w: %w", ErrWrite, err)
	}
	if err := l.file.Sync(); err != nil {
		return 0, 0, fmt.Errorf("%w: %w", ErrWrite, err)
	}
	return int64(lines.Len()), count, nil
}
