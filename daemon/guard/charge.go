package guard

import (
	"context"
	"time"
)

// settleTimeout bounds the write that settles a charge. The caller's context
// does not: a caller that went away must not leave a passed check charged.
const settleTimeout = 30 * time.Second

// Charge is one counted check. Settle it with exactly one of Passed, Failed and
// Void, before giving the wallet's turn back.
type Charge struct {
	guard  *Guard
	limits Limits
	before *Row
	row    *Row
}

// Left tells how many checks remain when this one fails.
func (c *Charge) Left() uint32 { return c.row.attempts(c.limits).Left }

// Failed leaves the charge standing: the PIN was wrong.
func (c *Charge) Failed() Attempts {
	return c.row.attempts(c.limits)
}

// Passed clears the failures in a row and takes this charge out of the other
// budgets. The Attempts that it returns count the failures before this check,
// for the user to see. On an error the charge stands.
func (c *Charge) Passed(ctx context.Context) (Attempts, error) {
	next := *c.before
	next.Revision = c.row.Revision + 1
	next.Consecutive = 0
	next.LastPass = c.guard.now().Unix()
	if err := c.settle(ctx, &next); err != nil {
		return Attempts{}, err
	}
	a := next.attempts(c.limits)
	a.Failures = c.before.Consecutive
	return a, nil
}

// Void gives the charge back: a device failed and the PIN was not checked. On
// an error the charge stands.
func (c *Charge) Void(ctx context.Context) error {
	next := *c.before
	next.Revision = c.row.Revision + 1
	return c.settle(ctx, &next)
}

func (c *Charge) settle(ctx context.Context, r *Row) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	return c.guard.store(ctx, r)
}
