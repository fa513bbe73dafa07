package wallet

import (
	"fmt"
	"sync"
	"time"
)

// RateError is returned, uncharged, when a relay made so many changes without a
// PIN check that the next one has to wait.
type RateError struct{ After time.Duration }

func (e *RateError) Error() string {
	return fmt.Sprintf("too many changes: the next one in %s", e.After)
}

// rates bound the changes of each uid that no PIN check comes before: every one
// is a step of the TPM's counter, whose flash wears out. As many as a minute
// allows may come at once.
type rates struct {
	perMinute int
	mu        sync.Mutex
	due       map[uint32]time.Time // when the changes of a uid would be over at an even pace
}

func newRates(perMinute int) *rates {
	return &rates{perMinute: max(perMinute, 1), due: map[uint32]time.Time{}}
}

// take counts a change of uid, or says when one may come.
func (r *rates) take(uid uint32, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	due := r.due[uid]
	if due.Before(now) {
		due = now
	}
	due = due.Add(time.Minute / time.Duration(r.perMinute))
	if after := due.Sub(now) - time.Minute; after > 0 {
		return &RateError{After: after}
	}
	r.due[uid] = due
	return nil
}
