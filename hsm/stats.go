package hsm

import "sync/atomic"

// Stats count the sessions of a token since it was opened.
type Stats struct {
	Opened uint64
	Closed uint64
	// Replaced are those opened in the place of one that had failed, or was lost
	// with the log-in.
	Replaced uint64
}

// counts are the running numbers of Stats.
type counts struct{ opened, closed, replaced atomic.Uint64 }

// Stats gives the numbers as they are now. It calls no function of the module.
func (t *Token) Stats() Stats {
	closed := t.counts.closed.Load() // first, so that it is never the larger one
	return Stats{Opened: t.counts.opened.Load(), Closed: closed, Replaced: t.counts.replaced.Load()}
}

// Stats gives the sum over all openings of the token. A call that a lost module
// never answered stays open in it.
func (s *Supervisor) Stats() Stats {
	s.mu.Lock()
	sum, c := s.counted, s.current
	s.mu.Unlock()
	if c != nil && c.Token.open() {
		now := c.Token.Stats()
		sum = sum.plus(now)
	}
	return sum
}

// count adds an opening that came to its end.
func (s *Supervisor) count(of Stats) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counted = s.counted.plus(of)
}

func (s Stats) plus(o Stats) Stats {
	return Stats{s.Opened + o.Opened, s.Closed + o.Closed, s.Replaced + o.Replaced}
}

// open reports whether Close has not begun.
func (t *Token) open() bool {
	select {
	case <-t.closing:
		return false
	default:
		return true
	}
}
