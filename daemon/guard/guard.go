package guard

import (
	"context"
	"errors"
	"time"
)

// Rows keeps the stored bytes of rows. Implementations are safe for concurrent
// use.
type Rows interface {
	// Row gives the stored row, verified to be the latest, or nil when there is
	// none.
	Row(ctx context.Context, wallet [16]byte) ([]byte, error)
	// SwapRow puts next in the place of prev and returns once it is on disk
	// and, for a step, anchored. ErrSwapped when the row is not prev any more;
	// ErrUnanchored when next is on disk and its step not confirmed.
	SwapRow(ctx context.Context, wallet [16]byte, prev, next []byte, step bool) error
	// Accepted names the latest acceptance of an older copy; 0: there was none.
	Accepted(ctx context.Context) (uint64, error)
}

// ErrSwapped is returned by SwapRow: the row was changed between.
var ErrSwapped = errors.New("the attempt counter was changed at the same time")

// Clock tells a guard the time. Only Powered decides anything.
type Clock struct {
	// Powered is the TPM's clock: it goes on while the host has power, over
	// restarts, and nobody sets it back.
	Powered func() time.Duration
	// Wall is the time of day, for people.
	Wall func() time.Time
}

// Guard charges PIN checks. It is safe for concurrent use.
type Guard struct {
	rows  Rows
	mac   MAC
	clock Clock
	locks *locks
	late  late
}

// New returns a guard over rows, whose MACs are by mac.
func New(rows Rows, mac MAC, clock Clock) *Guard {
	return &Guard{rows: rows, mac: mac, clock: clock, locks: newLocks(),
		late: late{list: map[[16]byte]*settlement{}, turns: newLocks()}}
}

// NewRow gives the bytes to store for a new wallet, written together with its
// record.
func (g *Guard) NewRow(ctx context.Context, wallet [16]byte) ([]byte, error) {
	accepted, err := g.rows.Accepted(ctx)
	if err != nil {
		return nil, err
	}
	return EncodeRow(ctx, &Row{Wallet: wallet, Revision: 1, Recent: []int64{}, Accepted: accepted}, g.mac)
}

// Attempts reads a wallet's counts without charging. ErrCorrupt when the row is
// missing or changed.
func (g *Guard) Attempts(ctx context.Context, wallet [16]byte, l Limits) (Attempts, error) {
	v, err := g.load(ctx, wallet, l)
	if err != nil {
		return Attempts{}, err
	}
	return v.row.attempts(l, g.clock.Powered()), nil
}

// Turn waits for the checks of wallet that are under way and keeps others out
// until the returned function is called, so that one check of a wallet runs at
// a time. The error is ctx's.
func (g *Guard) Turn(ctx context.Context, wallet [16]byte) (release func(), err error) {
	return g.locks.lock(ctx, wallet)
}

// stored is a row as it counts now, and as it is stored.
type stored struct {
	row  *Row
	data []byte
}

func (g *Guard) load(ctx context.Context, wallet [16]byte, l Limits) (*stored, error) {
	if err := g.settleLate(ctx, wallet); err != nil {
		return nil, err
	}
	data, err := g.rows.Row(ctx, wallet)
	if err != nil {
		return nil, err
	}
	if data == nil {
		return nil, ErrCorrupt
	}
	row, err := DecodeRow(ctx, data, wallet, g.mac)
	if err != nil {
		return nil, err
	}
	accepted, err := g.rows.Accepted(ctx)
	if err != nil {
		return nil, err
	}
	return &stored{row.in(accepted, l, g.clock.Powered()), data}, nil
}

// put stores next in the place of v.
func (g *Guard) put(ctx context.Context, v *stored, next *Row, step bool) (*stored, error) {
	data, err := EncodeRow(ctx, next, g.mac)
	if err != nil {
		return nil, err
	}
	return &stored{next, data}, g.rows.SwapRow(ctx, next.Wallet, v.data, data, step)
}
