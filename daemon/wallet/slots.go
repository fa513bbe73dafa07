package wallet

import (
	"context"
	"sync/atomic"
)

// slots bound how many PIN stretchings run at once and how many callers wait.
type slots struct {
	free    chan struct{}
	waiting atomic.Int64
	most    int64
}

func newSlots(running, waiting int) *slots {
	s := &slots{free: make(chan struct{}, max(running, 1)), most: int64(waiting)}
	for range cap(s.free) {
		s.free <- struct{}{}
	}
	return s
}

// acquire waits for a slot within ctx. ErrOverloaded at once when too many
// wait already.
func (s *slots) acquire(ctx context.Context) (release func(), err error) {
	select {
	case <-s.free:
		return s.release, nil
	default:
	}
	defer s.waiting.Add(-1)
	if s.waiting.Add(1) > s.most {
		return nil, ErrOverloaded
	}
	select {
	case <-s.free:
		return s.release, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *slots) release() { s.free <- struct{}{} }
