package guard

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// operation is one caller's change; without apply it only waits for the anchor.
type operation[T Tx] struct {
	apply  func(T) error
	step   bool // takes a right away, or must know that what it saw is anchored
	done   chan error
	queued time.Time
}

// queue holds the operations that wait for the next batch.
type queue[T Tx] struct {
	mu   sync.Mutex
	list []*operation[T]
}

func (q *queue[T]) add(o *operation[T]) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.list = append(q.list, o)
}

func (q *queue[T]) take() []*operation[T] {
	q.mu.Lock()
	defer q.mu.Unlock()
	list := q.list
	q.list = nil
	return list
}

// remove reports whether o was still waiting.
func (q *queue[T]) remove(o *operation[T]) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := len(q.list)
	q.list = slices.DeleteFunc(q.list, func(other *operation[T]) bool { return other == o })
	return len(q.list) < n
}

// do queues o and waits for its result. Whoever gets the turn carries out all
// that waits. Once o is being carried out, the end of ctx does not abandon it.
func (l *Ledger[T]) do(ctx context.Context, o *operation[T]) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	o.done, o.queued = make(chan error, 1), time.Now()
	l.queue.add(o)
	select {
	case err := <-o.done:
		return err
	case l.turn <- struct{}{}:
		l.runQueue()
	case <-ctx.Done():
		if l.queue.remove(o) {
			return ctx.Err()
		}
	}
	return <-o.done
}

// runQueue carries out what waits, and gives the turn back.
func (l *Ledger[T]) runQueue() {
	defer func() { <-l.turn }()
	if batch := l.queue.take(); len(batch) > 0 {
		l.waited(batch)
		ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
		defer cancel()
		defer abandon(slices.Clone(batch)) // run takes its own apart
		l.run(ctx, batch)
		l.publish()
	}
}

func (l *Ledger[T]) waited(batch []*operation[T]) {
	if l.Waited == nil {
		return
	}
	for _, o := range batch {
		l.Waited(time.Since(o.queued))
	}
}

// errPanicked is what callers get whose batch ended in a panic.
var errPanicked = errors.New("the change was cut short by a fault of the program")

// abandon answers, after a panic, those that were not answered, so that nobody
// waits for ever, and lets the panic go on. What is on disk is found out about
// by the next batch.
func abandon[T Tx](batch []*operation[T]) {
	cause := recover()
	if cause == nil {
		return
	}
	for _, o := range batch {
		select {
		case o.done <- errPanicked:
		default: // it has its answer
		}
	}
	panic(cause)
}

// run carries out a batch and answers each of its operations.
func (l *Ledger[T]) run(ctx context.Context, batch []*operation[T]) {
	if err := l.ready(ctx); err != nil {
		answer(batch, err)
		return
	}
	if err := l.confirm(ctx); err != nil {
		batch = answerIf(batch, err, func(o *operation[T]) bool { return o.step || l.refused != nil })
	}
	batch = answerIf(batch, nil, func(o *operation[T]) bool { return o.apply == nil })
	step := func(o *operation[T]) bool { return o.step }
	batch, err := l.write(ctx, batch)
	if err != nil {
		answer(batch, err)
		return
	}
	if slices.ContainsFunc(batch, step) {
		err = l.increment(ctx)
	}
	answer(answerIf(batch, err, step), nil)
}

func answer[T Tx](batch []*operation[T], err error) {
	for _, o := range batch {
		o.done <- err
	}
}

// answerIf answers those that match and gives the others.
func answerIf[T Tx](batch []*operation[T], err error, match func(*operation[T]) bool) []*operation[T] {
	return slices.DeleteFunc(batch, func(o *operation[T]) bool {
		if match(o) {
			o.done <- err
			return true
		}
		return false
	})
}

// ready says whether anything may be changed, and finds out what a failed
// transaction left.
func (l *Ledger[T]) ready(ctx context.Context) error {
	if l.refused != nil {
		return l.refused
	}
	if l.tried == nil {
		return nil
	}
	var found []byte
	err := l.Disk.View(ctx, func(tx T) error {
		found = tx.Root()
		return nil
	})
	switch {
	case err != nil:
		return err
	case bytes.Equal(found, l.tried.stored):
		// What a failed sync left may look written and be lost with the power:
		// nothing is built, or anchored, on it.
		return l.refuse(ErrSync)
	case !bytes.Equal(found, l.stored):
		return l.refuse(ErrTree)
	}
	l.tried = nil
	l.heads.Store(settled(l.root.Tree))
	return nil
}

func (l *Ledger[T]) adopt(v *version) { l.root, l.stored = v.root, v.stored }

// failed is the error of one operation in a transaction.
type failed struct {
	index int
	err   error
}

func (f *failed) Error() string { return f.err.Error() }
func (f *failed) Unwrap() error { return f.err }

// write writes the batch and its guard root in one transaction. An operation
// that fails is answered, and the others are written without it. It gives those
// that are on disk, or all that are not with the reason.
func (l *Ledger[T]) write(ctx context.Context, batch []*operation[T]) ([]*operation[T], error) {
	for len(batch) > 0 {
		err := l.writeOnce(ctx, batch)
		var f *failed
		if !errors.As(err, &f) {
			return batch, err
		}
		l.tried = nil // its transaction did not come to its end
		batch[f.index].done <- f.err
		batch = slices.Delete(batch, f.index, f.index+1)
	}
	return nil, nil
}

func (l *Ledger[T]) writeOnce(ctx context.Context, batch []*operation[T]) error {
	next := &version{root: l.root}
	err := l.Disk.Update(ctx, func(tx T) error {
		if !bytes.Equal(tx.Root(), l.stored) {
			return l.refuse(ErrTree)
		}
		tree := hash(l.root.Tree)
		for n, o := range batch {
			if err := o.run(tx, &tree); err != nil {
				return &failed{n, err}
			}
			next.step = next.step || o.step
		}
		next.root.Tree = tree[:]
		if next.step {
			next.root.Step++
			next.root.AnchorValue++
		}
		return l.putRoot(ctx, tx, next)
	})
	return l.written(next, err)
}

// run applies the operation and brings the tree up to date.
func (o *operation[T]) run(tx T, tree *hash) error {
	if err := o.apply(tx); err != nil {
		return err
	}
	return tx.Changes(func(wallet [16]byte, before, after [2][]byte) (err error) {
		*tree, err = updateTree(tx, *tree, wallet, before, after)
		return err
	})
}

// rootTimeout bounds the one call into the token that is made while the database
// is held for writing.
const rootTimeout = 3 * time.Second

// putRoot writes a new root and lets readers meet it.
func (l *Ledger[T]) putRoot(ctx context.Context, tx T, next *version) (err error) {
	ctx, cancel := context.WithTimeout(ctx, rootTimeout)
	defer cancel()
	if next.stored, err = EncodeRoot(ctx, &next.root, l.MAC); err != nil {
		return err
	}
	if err := tx.PutRoot(next.stored); err != nil {
		return err
	}
	l.tried = next
	l.heads.Store(&heads{hash(l.root.Tree), hash(next.root.Tree)})
	return nil
}

// written makes what was written current. After an error it may be on disk or
// not: ready finds out.
func (l *Ledger[T]) written(next *version, err error) error {
	if err != nil {
		return err
	}
	l.adopt(next)
	l.tried = nil
	l.heads.Store(settled(l.root.Tree))
	return nil
}
