package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
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

// ErrClosed is returned by Write after Close.
var ErrClosed = errors.New("the audit log is closed")

// ErrWrite is returned by Write when the disk refused the entries, as a full one
// does. None of them is in the log, which goes on when the disk does.
var ErrWrite = errors.New("write the audit log")

// waiting bounds the entries between two fsyncs.
const waiting = 256

// Log appends entries; entries written at the same time share an fsync. It is
// safe for concurrent use.
type Log struct {
	path  string
	open  opener
	queue chan *pending
	stop  chan struct{}
	end   sync.Once
	done  chan struct{}
	// locked is the descriptor whose lock keeps other processes from the file.
	locked *os.File
	// newest is the latest time of an entry, in Unix seconds; 0: there is none.
	newest atomic.Int64

	// The following belong to run.
	file   file
	is     os.FileInfo // which file that is
	next   uint64      // number of the next entry
	size   int64       // bytes that are on disk
	failed bool        // the last write
	torn   bool        // something of it is still behind size
}

// pending is entries to write, or none where somebody only asks whether they
// could be.
type pending struct {
	entries []Entry
	result  chan error
}

// ErrPlace is returned for a path that is no file of its own, or one that
// others may write to.
var ErrPlace = errors.New("the audit log must be a file of its own (no link) that only its owner may write to")

// ErrInUse is returned for a log that another process writes.
var ErrInUse = errors.New("the audit log is in use by another process: each installation has its own")

// Open opens or makes the log at path (mode 0600); ErrPlace, ErrInUse. A line that a crash cut
// short was never acknowledged: it is removed. A last line that is not an entry
// is an error.
func Open(path string) (*Log, error) { return openBy(openFile, path) }

func openBy(open opener, path string) (*Log, error) {
	f, err := open(path, os.O_CREATE)
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("%w: %s", ErrPlace, path)
	}
	if err != nil {
		return nil, fmt.Errorf("open the audit log: %w", err)
	}
	l, err := begin(path, open, f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("audit log %s: %w", path, err), f.Close())
	}
	go l.run()
	return l, nil
}

// begin makes a log of its open file.
func begin(path string, open opener, f file) (_ *Log, err error) {
	is, err := f.Stat()
	if err := errors.Join(err, checkPlace(f)); err != nil {
		return nil, err
	}
	locked, err := lock(path, is)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, locked.Close())
		}
	}()
	found, err := recoverEnd(f)
	if err := errors.Join(err, syncFolder(path)); err != nil {
		return nil, err
	}
	l := &Log{path: path, open: open, file: f, locked: locked, is: is, queue: make(chan *pending, waiting), stop: make(chan struct{}),
		done: make(chan struct{}), next: found.last + 1, size: found.size}
	l.newest.Store(found.newest)
	return l, nil
}

// Write appends entries, numbered, all or none, and returns when they are on
// disk. When ctx ends first they may still be written.
func (l *Log) Write(ctx context.Context, entries ...Entry) error {
	return l.do(ctx, &pending{entries: entries, result: make(chan error, 1)})
}

// Newest is the latest time that an entry of the log's end has, the zero time when
// there is none: the wall clock was there once, wherever it is now.
func (l *Log) Newest() time.Time {
	if newest := l.newest.Load(); newest != 0 {
		return time.Unix(newest, 0)
	}
	return time.Time{}
}

// Check says whether an entry could be written now, and leaves none. ErrWrite.
func (l *Log) Check(ctx context.Context) error {
	return l.do(ctx, &pending{result: make(chan error, 1)})
}

func (l *Log) do(ctx context.Context, p *pending) error {
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
	return errors.Join(l.file.Close(), l.locked.Close())
}

func (l *Log) run() {
	defer close(l.done)
	for {
		select {
		case p := <-l.queue:
			l.commit(l.gather(p))
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

// commit writes a batch in one piece, or not at all. What cannot be taken back
// after a failed write is taken off before the next.
func (l *Log) commit(batch []*pending) {
	if len(batch) == 0 {
		return
	}
	err := l.repair()
	if err == nil {
		err = l.write(batch)
	}
	l.failed = err != nil
	for _, p := range batch {
		p.result <- err
	}
}

func (l *Log) write(batch []*pending) error {
	lines, count, err := l.encode(batch)
	switch {
	case err != nil:
		return err
	case count == 0:
		return l.tryOut()
	}
	if err := l.append(lines); err != nil {
		return err
	}
	l.size += int64(len(lines))
	l.next += count
	for _, p := range batch {
		for _, e := range p.entries {
			l.newest.Store(max(l.newest.Load(), e.Time.Unix()))
		}
	}
	return nil
}

// tryOut says whether the disk would take an entry. After one that it refused
// only a write can tell, of blanks, which are no line and are taken off again.
func (l *Log) tryOut() error {
	if !l.failed {
		return reserve(l.file, l.size)
	}
	if err := l.append(bytes.Repeat([]byte{' '}, reserved)); err != nil {
		return err
	}
	l.torn = true
	return l.repair()
}

// append writes to the end, durably. What was written of it when it fails is
// taken off, now or, where that fails too, by repair.
func (l *Log) append(data []byte) error {
	_, err := l.file.Write(data)
	if err == nil {
		err = l.file.Sync()
	}
	if err == nil {
		return nil
	}
	l.torn = true
	_ = l.repair() // else before the next write
	return fmt.Errorf("%w: %w", ErrWrite, err)
}

// repair takes off what a failed write left, by the file that is open or, when
// that does nothing any more, by opening it anew.
func (l *Log) repair() error {
	if !l.torn {
		return nil
	}
	err := truncate(l.file, l.size)
	if err != nil {
		var again file
		if again, err = reopen(l.open, l.path, l.is, l.size, l.next-1); err == nil {
			_ = l.file.Close() // it failed already
			l.file = again
		}
	}
	if err != nil {
		return fmt.Errorf("%w: what a failed write left of an entry cannot be taken off: %w", ErrWrite, err)
	}
	l.torn = false
	return nil
}

// encode gives the lines of a batch, and how many they are.
func (l *Log) encode(batch []*pending) ([]byte, uint64, error) {
	var lines bytes.Buffer
	count := uint64(0)
	for _, p := range batch {
		for _, e := range p.entries {
			e.Sequence = l.next + count
			line, err := json.Marshal(e)
			if err != nil {
				return nil, 0, fmt.Errorf("encode an audit entry: %w", err)
			}
			lines.Write(append(line, '\n'))
			count++
		}
	}
	return lines.Bytes(), count, nil
}
