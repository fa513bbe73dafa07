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
	// What Passed and Void write. Their MACs are made before the check, so that
	// a token that dies during it does not keep the charge from being settled.
	passed, voided []byte
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
	if err := c.settle(ctx, c.passed); err != nil {
		return Attempts{}, err
	}
	next := *c.before
	next.Consecutive, next.LastPass = 0, c.guard.now().Unix()
	a := next.attempts(c.limits)
	a.Failures = c.before.Consecutive
	return a, nil
}

// Void gives the charge back: a device failed and the PIN was not checked. On
// an error the charge stands.
func (c *Charge) Void(ctx context.Context) error { return c.settle(ctx, c.voided) }

func (c *Charge) settle(ctx context.Context, row []byte) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	return c.guard.rows.PutGuardRow(ctx, c.row.Wallet, row)
}
