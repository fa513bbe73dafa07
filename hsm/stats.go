package hsm

import "sync/atomic"

// Stats count the sessions of a token since it was opened.
type Stats struct {
	Opened uint64
	Closed uint64
}

// counts are the running numbers of Stats.
type counts struct{ opened, closed atomic.Uint64 }

// Stats gives the numbers as they are now. It calls no function of the module.
func (t *Token) Stats() Stats {
	closed := t.counts.closed.Load() // first, so that it is never the larger one
	return Stats{Opened: t.counts.opened.Load(), Closed: closed}
}
