package hsm

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// pool is a fixed number of sessions. A session is opened when it is first
// needed, and again after it was closed; whoever took it from free owns it.
type pool struct {
	token  *Token
	keeper bool // its sessions own session objects, and may write
	free   chan *session
	all    []*session // as made; only their atomic fields may be read here
}

func newPool(t *Token, size int, keeper bool) *pool {
	p := &pool{token: t, keeper: keeper, free: make(chan *session, size)}
	for range size {
		s := &session{pool: p}
		p.all = append(p.all, s)
		p.free <- s
	}
	return p
}

// hung counts the sessions whose call is in the module for longer than the call
// timeout, and says since when the first of them is.
func (p *pool) hung() (n int, since time.Time) {
	watches := make([]*stopwatch, len(p.all))
	for i, s := range p.all {
		watches[i] = &s.call
	}
	return hungSince(watches, p.token.cfg.CallTimeout)
}

// errNoSession is returned for a call that found no session, so that the module
// knows nothing of it.
var errNoSession = errors.New("no free session")

// take waits for a free session.
func (p *pool) take(ctx context.Context) (*session, error) {
	select {
	case <-p.token.closing:
		return nil, ErrClosed
	default:
	}
	select {
	case s := <-p.free:
		return s, nil
	default:
	}
	if n, _ := p.hung(); n == len(p.all) {
		return nil, fmt.Errorf("%w: all %d of this kind", ErrHung, len(p.all))
	}
	select {
	case s := <-p.free:
		return s, nil
	case <-p.token.closing:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", errNoSession, ctx.Err())
	}
}

// put gives a session back. A session that was condemned while it was in use, or
// whose log-in was lost, is closed at once and not at its next use, since closing
// it is what destroys the objects that it owns.
func (p *pool) put(s *session) {
	l := s.life
	p.free <- s
	if l.over(p.token.epoch.Load()) {
		p.sweep()
	}
}

// sweep closes the free sessions that are over. Each session is taken from free
// first, so nobody else uses it meanwhile.
func (p *pool) sweep() {
	for range cap(p.free) {
		select {
		case s := <-p.free:
			if s.life.over(p.token.epoch.Load()) {
				s.call.start()
				s.close()
				s.call.stop()
			}
			p.free <- s
		default:
			return
		}
	}
}

// work is one unit for a session: a call into the module, or a few that belong
// together.
type work[T any] struct {
	run     func(*session) (T, error)
	discard func(*session, T) // undoes or wipes a result that nobody waits for
	release func()            // frees the inputs, once, when they are not needed any more
	bare    bool              // needs the turn, but no open session
	once    bool              // must not be run again after a session fault
}

// The states of a call. The caller and the session's goroutine race to leave
// running; whoever wins decides who owns the result.
const (
	running int32 = iota
	finished
	abandoned
)

type call[T any] struct {
	state atomic.Int32
	done  chan struct{} // closed after value and err are set
	value T
	err   error
}

// do runs w on a session of p. When ctx ends first, it returns at once; the
// session stays with the call until the module comes back, and the result is
// then discarded. Whatever w captured must not be touched by the caller after
// do returns.
func do[T any](ctx context.Context, p *pool, name string, w work[T]) (T, error) {
	var zero T
	ctx, cancel := p.token.bound(ctx)
	defer cancel()
	s, err := p.take(ctx)
	if err != nil {
		if w.release != nil {
			w.release()
		}
		return zero, fmt.Errorf("hsm: %s: %w", name, err)
	}
	c := &call[T]{done: make(chan struct{})}
	go c.serve(s, w)
	return c.wait(ctx, name)
}

// wait returns the result, or gives the call up when ctx ends.
func (c *call[T]) wait(ctx context.Context, name string) (T, error) {
	select {
	case <-c.done:
	case <-ctx.Done():
		if c.state.CompareAndSwap(running, abandoned) {
			var zero T
			return zero, fmt.Errorf("hsm: %s: the token did not answer in time: %w", name, ctx.Err())
		}
		<-c.done
	}
	return c.value, c.err
}

// finish hands the result to the caller and reports whether it is still there.
func (c *call[T]) finish(value T, err error) bool {
	if !c.state.CompareAndSwap(running, finished) {
		return false
	}
	c.value, c.err = value, err
	close(c.done)
	return true
}

// serve runs w on its session and gives the session back. A result that nobody
// waits for is discarded.
func (c *call[T]) serve(s *session, w work[T]) {
	s.call.start()
	value, err := w.attempt(s)
	if err != nil && c.state.Load() == running && w.repeatable() && s.worthRepeating(err) {
		s.close()
		value, err = w.attempt(s)
	}
	if w.release != nil {
		w.release()
	}
	if !c.finish(value, err) {
		s.late()
		if err == nil && w.discard != nil {
			w.discard(s, value)
		}
	}
	s.settle(err)
	s.call.stop()
	// The object of a call that was given up may have been destroyed since then.
	if c.state.Load() == finished || classOf(err) != FindKeys {
		s.pool.token.observe(err)
	}
	s.pool.put(s)
}

// attempt runs w once, on an open session.
func (w work[T]) attempt(s *session) (T, error) {
	if !w.bare {
		if err := s.open(); err != nil {
			var zero T
			return zero, err
		}
	}
	return w.run(s)
}

// repeatable reports whether w may be run again on another session. What runs
// here either has no effect or makes session objects, which a failed call did
// not make.
func (w work[T]) repeatable() bool { return !w.bare && !w.once }
