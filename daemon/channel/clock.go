package channel

import "time"

// maxStep is how far the wall clock may be set back, from the furthest that it
// ever was ahead of the monotonic one. Further, and every key is thrown away:
// blocks that expired, and whose nonces were forgotten, would be good again.
const maxStep = 5 * time.Second

// wallClock watches the wall clock, by which blocks expire, beside the monotonic
// one, by which their nonces are forgotten.
type wallClock struct {
	first time.Time     // with its monotonic reading
	ahead time.Duration // how far the wall clock went ahead since, at most
}

// setBack says whether the wall clock was set back since the last time that it
// said so.
func (c *wallClock) setBack(now time.Time) bool {
	if c.first.IsZero() {
		c.first = now
	}
	// Sub goes by the monotonic clock, Round(0) leaves the wall clock only.
	ahead := now.Round(0).Sub(c.first.Round(0)) - now.Sub(c.first)
	back := ahead < c.ahead-maxStep
	if back || ahead > c.ahead {
		c.ahead = ahead
	}
	return back
}
