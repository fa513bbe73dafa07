package guard

import (
	"context"
	"sync"
)

// locks is one lock a wallet, kept only while somebody holds or awaits it.
type locks struct {
	mu   sync.Mutex
	held map[[16]byte]*entry
}

type entry struct {
	turn  chan struct{} // holds one token; who takes it has the lock
	users int
}

func newLocks() *locks { return &locks{held: map[[16]byte]*entry{}} }

// lock waits for the wallet's lock within ctx and returns its release, to be
// called once.
func (l *locks) lock(ctx context.Context, id [16]byte) (func(), error) {
	e := l.join(id)
	select {
	case <-e.turn:
		return sync.OnceFunc(func() { e.turn <- struct{}{}; l.leave(id, e) }), nil
	case <-ctx.Done():
		l.leave(id, e)
		return nil, ctx.Err()
	}
}

func (l *locks) join(id [16]byte) *entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.held[id]
	if e == nil {
		e = &entry{turn: make(chan struct{}, 1)}
		e.turn <- struct{}{}
		l.held[id] = e
	}
	e.users++
	return e
}

func (l *locks) leave(id [16]byte, e *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.users--; e.users == 0 {
		delete(l.held, id)
	}
}
