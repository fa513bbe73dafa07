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
// only after a first pause, and not in a pause in which the clock was set.
func (d *Daemon) purges(ctx context.Context) {
	start := time.Now()
	rounds := purgeRounds{
		clocks: func() (time.Time, time.Duration) { return time.Now().Round(0), time.Since(start) },
		pause:  d.purgePause,
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
	purge   func(context.Context)
	stepped func(by time.Duration) // instead of purge
}

func (r *purgeRounds) run(ctx context.Context) {
	wall, monotonic := r.clocks()
	for r.pause(ctx) {
		nextWall, next := r.clocks()
		if step := nextWall.Sub(wall) - (next - monotonic); step.Abs() > maxClockStep {
			r.stepped(step)
		} else {
			r.purge(ctx)
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

func (d *Daemon) purge(ctx context.Context) {
	n, err := d.wallets.Purge(ctx, self(), time.Duration(d.settings().Wallets.DeleteGrace))
	if err != nil && ctx.Err() == nil {
		d.log.Error("purge", "error", err)
	}
	if n > 0 {
		d.log.Info("purged deleted wallets", "wallets", n)
	}
}
