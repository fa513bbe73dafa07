package daemon

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sigild/sigild/hsm"
)

// doubt is a condition that requests meet and that no device reports by itself.
// While it holds, the daemon asks the device, ever more seldom, until it has a
// good answer, so that the state says it when all is well again also where nobody
// asks for what had failed.
type doubt struct {
	log  *slog.Logger
	told func()        // of each beginning and end
	wake chan struct{} // it holds, and may end by itself: ask
	now  chan struct{} // ask now, without a pause

	mu     sync.Mutex
	found  *finding // nil: there is none
	passes bool     // whether a good answer ends it
}

func newDoubt(log *slog.Logger, told func()) *doubt {
	return &doubt{log: log, told: told, wake: make(chan struct{}, 1), now: make(chan struct{}, 1)}
}

// raise takes note of a failed request. passes says that a good answer to the
// daemon's own question ends the condition; otherwise only a request does.
func (d *doubt) raise(reason string, cause error, passes bool) {
	d.mu.Lock()
	known := d.found
	d.found = &finding{conditionOf(reason), time.Now(), cause.Error()}
	d.passes = passes
	if known != nil && known.reason == reason {
		d.found.since, d.found.condition = known.since, known.condition
	} else {
		d.found.log(d.log)
		d.told()
	}
	d.mu.Unlock()
	if passes {
		tell(d.wake)
	}
}

// end takes note of a request that went well.
func (d *doubt) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.found != nil {
		d.told()
	}
	d.found = nil
}

// hurry has a question that waits asked now.
func (d *doubt) hurry() { tell(d.now) }

func tell(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// look gives what holds, and whether asking may end it.
func (d *doubt) look() (found *finding, passes bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.found, d.found != nil && d.passes
}

// answered takes note of the answer to a question that was asked while the
// condition was as given, unless a request ended since then and knows better. It
// reports whether the condition is over by this.
func (d *doubt) answered(asked *finding, err error) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.found != asked {
		return false
	}
	d.found = nil
	if err != nil {
		d.found = &finding{conditionOf(asked.reason), asked.since, err.Error()}
		if errors.Is(err, hsm.ErrUnusable) {
			d.found.condition = failingOf(asked.reason)
		}
		return false
	}
	d.told()
	d.log.Info("no longer degraded", "reason", asked.reason, "after", time.Since(asked.since).Round(time.Millisecond))
	return true
}

// settle asks while there is something to ask, until ctx ends. check is bounded
// in time by itself. Between two questions there are pauses from first to most,
// half of them more or less by chance, so that hosts that lost a service together
// do not come back to it in step.
func (d *doubt) settle(ctx context.Context, first, most time.Duration, check func(context.Context) error) {
	for {
		select {
		case <-d.wake:
			d.ask(ctx, first, most, check)
		case <-ctx.Done():
			return
		}
	}
}

func (d *doubt) ask(ctx context.Context, first, most time.Duration, check func(context.Context) error) {
	for pause := first; ; pause = min(2*pause, most) {
		timer := time.NewTimer(pause/2 + rand.N(pause))
		select {
		case <-timer.C:
		case <-d.now:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return
		}
		asked, passes := d.look()
		if !passes {
			return
		}
		if err := check(ctx); ctx.Err() != nil || d.answered(asked, err) {
			return
		}
	}
}

// Pauses between questions. A KMS is asked seldom enough for its quota, also by
// a thousand hosts.
const (
	firstKMSPause   = time.Second
	maxKMSPause     = 30 * time.Second
	firstTokenPause = 100 * time.Millisecond
	maxTokenPause   = 5 * time.Second
	// kmsPatience bounds one question, credentials included. The request itself
	// is bounded by kms.timeout.
	kmsPatience = 45 * time.Second
	// rehearsalPatience bounds one rehearsal, of a dozen calls.
	rehearsalPatience = 30 * time.Second
)

// settleDoubts asks KMS and the token again after they failed requests, until
// ctx ends.
func (d *Daemon) settleDoubts(ctx context.Context) {
	var both sync.WaitGroup
	both.Go(func() { d.health.source.settle(ctx, firstKMSPause, maxKMSPause, d.checkKMS) })
	both.Go(func() { d.health.token.settle(ctx, firstTokenPause, maxTokenPause, d.rehearse) })
	both.Wait()
}

func (d *Daemon) checkKMS(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, kmsPatience)
	defer cancel()
	return d.kms.Check(ctx)
}

func (d *Daemon) rehearse(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, rehearsalPatience)
	defer cancel()
	c, err := d.lines.token.Connection(ctx)
	if err != nil {
		return err
	}
	return c.Keys(d.token.newest.Token).Rehearse(ctx)
}
