package daemon

import (
	"context"
	"time"
)

// purgeInterval is how often deleted wallets are looked at; more often where
// their grace is shorter, but not more than once in purgeLeast.
const (
	purgeInterval = time.Hour
	purgeLeast    = time.Second
)

// maxClockStep is by how much the wall clock may run away from the monotonic one
// between two looks. The kernel slews a clock by 43 seconds in a day at most.
const maxClockStep = time.Minute

// purges removes deleted wallets whose grace has passed, for good. The grace is
// told by the wall clock, which may be wrong: a host whose battery is empty has
// one far off until it has asked the network. So nothing is removed at a start but
// only after a first pause, and not in a pause in which the clock was set. By how much
// it was set ahead is no time that passed: the grace is that much longer, until it has
// passed once since.
func (d *Daemon) purges(ctx context.Context) {
	start := time.Now()
	rounds := purgeRounds{
		clocks: func() (time.Time, time.Duration) { return time.Now().Round(0), time.Since(start) },
		pause:  d.purgePause,
		grace:  func() time.Duration { return time.Duration(d.settings().Wallets.DeleteGrace) },
		purge:  d.purge,
		stepped: func(step time.Duration) {
			d.log.Warn("the wall clock was set: deleted wallets are looked at later", "step", step.String())
		},
	}
	rounds.run(ctx)
}

// purgeRounds are the looks at deleted wallets.
type purgeRounds struct {
	clocks  func() (wall time.Time, monotonic time.Duration)
	pause   func(context.Context) bool // false: it is over
	grace   func() time.Duration
	purge   func(ctx context.Context, grace time.Duration)
	stepped func(by time.Duration) // instead of purge
}

// leap is by how much the wall clock was set ahead, and when on the monotonic one.
type leap struct{ at, by time.Duration }

// maxLeap bounds what a grace can be made longer by, so that it stays a Duration.
const maxLeap = 100 * 365 * 24 * time.Hour

// unseen is how much of the last grace, by the wall clock, did not pass.
func unseen(leaps []leap, grace, monotonic time.Duration) (sum time.Duration) {
	for _, l := range leaps {
		if monotonic-l.at < grace {
			sum = min(sum+min(l.by, maxLeap), maxLeap)
		}
	}
	return sum
}

func (r *purgeRounds) run(ctx context.Context) {
	var leaps []leap
	wall, monotonic := r.clocks()
	for r.pause(ctx) {
		nextWall, next := r.clocks()
		step := nextWall.Sub(wall) - (next - monotonic)
		if step > maxClockStep {
			leaps = append(leaps, leap{next, step})
		}
		if step.Abs() > maxClockStep {
			r.stepped(step)
		} else {
			grace := r.grace()
			r.purge(ctx, grace+unseen(leaps, grace, next))
		}
		wall, monotonic = nextWall, next
	}
}

// purgePause is told again how long it is by a reload.
func (d *Daemon) purgePause(ctx context.Context) bool {
	began := time.Now()
	for {
		grace := time.Duration(d.settings().Wallets.DeleteGrace)
		pause := max(purgeLeast, min(purgeInterval, grace))
		select {
		case <-ctx.Done():
			return false
		case <-time.After(pause - time.Since(began)):
			return true
		case <-d.reloaded:
		}
	}
}

func (d *Daemon) purge(ctx context.Context, grace time.Duration) {
	n, err := d.wallets.Purge(ctx, self(), grace)
	if err != nil && ctx.Err() == nil {
		d.log.Error("purge", "error", err)
	}
	if n > 0 {
		d.log.Info("purged deleted wallets", "wallets", n)
	}
}
