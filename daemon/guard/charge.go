package guard

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// settleTimeout bounds the write that settles a charge. The caller's context
// does not: a caller that went away must not leave a passed check charged.
const settleTimeout = 30 * time.Second

// ErrChargeStands is returned beside a device's fault when the charge could not
// be given back yet.
var ErrChargeStands = errors.New("the attempt could not be given back yet")

// Charge is one counted check. Settle it with exactly one of Passed, Failed and
// Void, before giving the wallet's turn back.
type Charge struct {
	guard  *Guard
	limits Limits
	before *Row // as it counted then
	now    *stored
}

// Charge counts one check of wallet, on disk and anchored, and returns the
// charge to settle with exactly one of Passed, Failed and Void. The caller
// holds the wallet's turn. It returns ErrLocked, a *WaitError or ErrCorrupt,
// having charged nothing, or the error of a device, after which the check must
// not be made.
func (g *Guard) Charge(ctx context.Context, wallet [16]byte, l Limits) (*Charge, error) {
	for {
		c, err := g.charge(ctx, wallet, l)
		if !errors.Is(err, ErrSwapped) || ctx.Err() != nil {
			return c, err
		}
	}
}

func (g *Guard) charge(ctx context.Context, wallet [16]byte, l Limits) (*Charge, error) {
	v, err := g.load(ctx, wallet, l)
	if err != nil {
		return nil, err
	}
	now := g.clock.Powered()
	if err := v.row.attempts(l, now).allowed(); err != nil {
		return nil, err
	}
	charged, err := g.put(ctx, v, v.row.charged(now), true)
	c := &Charge{guard: g, limits: l, before: v.row, now: charged}
	switch {
	case err == nil:
		return c, nil
	case errors.Is(err, ErrSwapped):
		return nil, err
	case errors.Is(err, ErrUnanchored): // no check is made: a device's fault costs nothing
		if void := c.Void(ctx); void != nil {
			return nil, fmt.Errorf("%w: %w: %w", err, ErrChargeStands, void)
		}
	case charged != nil: // it may be on disk
		c.keepVoid()
	}
	return nil, err
}

// keepVoid has the charge given back when the row is read next, if it was
// written.
func (c *Charge) keepVoid() {
	next := *c.before
	next.Revision = c.now.row.Revision + 1
	c.guard.late.keep(next.Wallet, &settlement{c.now, &next})
}

// Left tells how many checks remain when this one fails.
func (c *Charge) Left() uint32 { return c.Failed().Left }

// Failed leaves the charge standing: the PIN was wrong.
func (c *Charge) Failed() Attempts {
	return c.now.row.attempts(c.limits, c.guard.clock.Powered())
}

// Passed clears the failures in a row and takes this charge out of the other
// budgets. The Attempts that it returns count the failures before this check,
// for the user to see. After an error the charge stands until the device that
// failed is back.
func (c *Charge) Passed(ctx context.Context) (Attempts, error) {
	next := *c.before
	next.Consecutive, next.NotBefore = 0, 0
	next.LastPass = c.guard.clock.Wall().Unix()
	if err := c.settle(ctx, &next); err != nil {
		return Attempts{}, err
	}
	a := next.attempts(c.limits, c.guard.clock.Powered())
	a.Failures = c.before.Consecutive
	return a, nil
}

// Void gives the charge back: a device failed and the PIN was not checked. After
// an error the charge stands until the device is back.
func (c *Charge) Void(ctx context.Context) error {
	next := *c.before
	return c.settle(ctx, &next)
}

// settle gives rights back, which needs no step of the anchor.
func (c *Charge) settle(ctx context.Context, r *Row) error {
	r.Revision = c.now.row.Revision + 1
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	settled, err := c.guard.put(ctx, c.now, r, false)
	if err != nil {
		c.guard.late.keep(r.Wallet, &settlement{c.now, r})
		return err
	}
	c.now = settled
	return nil
}
