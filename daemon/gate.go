package daemon

import (
	"context"
	"sync"
	"time"
)

// patience is how long a request waits for a device that is coming back. Most
// recoveries take less, so that callers do not notice them.
const patience = 500 * time.Millisecond

// gate says whether a device can be used, and wakes those who wait for it.
type gate struct {
	mu      sync.Mutex
	open    bool
	cause   error // why it is closed
	since   time.Time
	tried   bool // an attempt to open it came to its end
	changed chan struct{}
}

func newGate(cause error) *gate {
	return &gate{cause: cause, since: time.Now(), changed: make(chan struct{})}
}

// set opens the gate (nil) or closes it. It reports whether that is a change.
func (g *gate) set(cause error) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	changed := g.open != (cause == nil)
	if changed {
		g.since = time.Now()
	}
	g.open, g.cause, g.tried = cause == nil, cause, true
	close(g.changed)
	g.changed = make(chan struct{})
	return changed
}

func (g *gate) look() (open bool, since time.Time, changed <-chan struct{}, cause error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open, g.since, g.changed, g.cause
}

// settled waits until an attempt to open the gate has come to its end.
func (g *gate) settled(ctx context.Context) {
	for {
		g.mu.Lock()
		tried, changed := g.tried, g.changed
		g.mu.Unlock()
		if tried {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// wait returns nil once the gate is open, or why it is not after the patience.
func (g *gate) wait(ctx context.Context) error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		open, _, changed, cause := g.look()
		if open {
			return nil
		}
		select {
		case <-changed:
		case <-timer.C:
			return cause
		case <-ctx.Done():
			return cause
		}
	}
}
