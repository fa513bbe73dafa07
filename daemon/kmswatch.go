package daemon

import (
	"context"
	"math/rand/v2"
	"time"
)

// Pauses between the questions to a KMS that did not answer a creation. They are
// long enough to be nothing beside its quota, also for a thousand hosts.
const (
	firstKMSPause = time.Second
	maxKMSPause   = 30 * time.Second
	// kmsPatience bounds one question, credentials included. The request itself
	// is bounded by kms.timeout.
	kmsPatience = 45 * time.Second
)

// watchKMS asks KMS again after it kept a wallet from being made, so that the
// state says it when KMS is back also where nobody makes wallets. While nothing
// is wrong it asks nothing. It returns when ctx ends.
func (d *Daemon) watchKMS(ctx context.Context) {
	if d.kms == nil {
		return
	}
	for {
		select {
		case <-d.health.away:
			d.askKMS(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// askKMS asks, ever more seldom, until there is a good answer or a creation made
// one of its own.
func (d *Daemon) askKMS(ctx context.Context) {
	for pause := firstKMSPause; ; pause = min(2*pause, maxKMSPause) {
		timer := time.NewTimer(pause/2 + rand.N(pause)) // hosts that lost it together do not come back in step
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		wrong := d.health.kms()
		if wrong == nil {
			return
		}
		err := d.checkKMS(ctx)
		if ctx.Err() != nil {
			return
		}
		if d.health.kmsAnswered(wrong, err) && err == nil {
			d.log.InfoContext(ctx, "KMS answers again", "away", time.Since(wrong.since).Round(time.Millisecond))
			return
		}
	}
}

func (d *Daemon) checkKMS(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, kmsPatience)
	defer cancel()
	return d.kms.Check(ctx)
}
