package guard

import (
	"context"
	"errors"
)

const (
	// GiveBackMax is how many attempts are given back at a time.
	GiveBackMax = 10
	// GivenMax is how many attempts are given back in a wallet's life.
	GivenMax = 100
)

var (
	// ErrGiveBack is returned for a number of attempts that is not 1 to
	// GiveBackMax.
	ErrGiveBack = errors.New("1 to 10 attempts are given back at a time")
	// ErrGivenAll is returned when GivenMax attempts were given back to a
	// wallet: somebody keeps guessing.
	ErrGivenAll = errors.New("no more attempts are given back to this wallet")
)

// GiveBack takes n failures, the latest, out of the wallet's budgets and ends a
// wait. It is the operator's; the caller audits it. The caller holds the
// wallet's turn. It is on disk and anchored when it returns.
func (g *Guard) GiveBack(ctx context.Context, wallet [16]byte, l Limits, n uint32) (Attempts, error) {
	if n == 0 || n > GiveBackMax {
		return Attempts{}, ErrGiveBack
	}
	v, err := g.load(ctx, wallet, l)
	if err != nil {
		return Attempts{}, err
	}
	if v.row.Given+n > GivenMax {
		return Attempts{}, ErrGivenAll
	}
	next := *v.row
	next.Revision++
	next.Given += n
	next.Consecutive = remaining(next.Consecutive, n)
	next.Recent = next.Recent[:max(0, len(next.Recent)-int(n))]
	next.NotBefore = 0
	if _, err := g.put(ctx, v, &next, true); err != nil {
		return Attempts{}, err
	}
	return next.attempts(l, g.clock.Powered()), nil
}
