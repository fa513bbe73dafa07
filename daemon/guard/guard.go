package guard

import (
	"context"
	"errors"
	"time"
)

// ErrLocked is returned when a wallet has no attempt left. Only an operator
// gives attempts back.
var ErrLocked = errors.New("no attempt is left")

// Rows keeps the stored bytes of rows. Implementations are safe for concurrent
// use.
type Rows interface {
	// GuardRow gives the stored row, or nil when there is none.
	GuardRow(ctx context.Context, wallet [16]byte) ([]byte, error)
	// PutGuardRow replaces the row and returns once it is on disk.
	PutGuardRow(ctx context.Context, wallet [16]byte, row []byte) error
}

// Limits are the attempts of one wallet.
type Limits struct {
	Consecutive uint32 // failures in a row until locked
	Lifetime    uint32 // failures ever, which success does not reset
}

// Attempts is what a caller may be told of a wallet's counts.
type Attempts struct {
	Left     uint32 // checks until locked
	Failures uint32 // failures since the last passed check, this one included
	LastPass time.Time
}

// Guard charges PIN checks. It is safe for concurrent use.
type Guard struct {
	rows  Rows
	mac   MAC
	now   func() time.Time
	locks *locks
}

// New returns a guard over rows, whose MACs are by mac.
func New(rows Rows, mac MAC, now func() time.Time) *Guard {
	return &Guard{rows: rows, mac: mac, now: now, locks: newLocks()}
}

// NewRow gives the bytes to store for a new wallet, written together with its
// record.
func (g *Guard) NewRow(ctx context.Context, wallet [16]byte) ([]byte, error) {
	return EncodeRow(ctx, &Row{Wallet: wallet, Revision: 1, Recent: []int64{}}, g.mac)
}

// Attempts reads a wallet's counts without charging. ErrCorrupt when the row is
// missing or changed.
func (g *Guard) Attempts(ctx context.Context, wallet [16]byte, l Limits) (Attempts, error) {
	row, err := g.load(ctx, wallet)
	if err != nil {
		return Attempts{}, err
	}
	return row.attempts(l), nil
}

// Turn waits for the checks of wallet that are under way and keeps others out
// until the returned function is called, so that one check of a wallet runs at
// a time. The error is ctx's.
func (g *Guard) Turn(ctx context.Context, wallet [16]byte) (release func(), err error) {
	return g.locks.lock(ctx, wallet)
}

// Charge counts one check of wallet, on disk, and returns the charge to settle
// with exactly one of Passed, Failed and Void. The caller holds the wallet's
// turn. It returns ErrLocked or ErrCorrupt, having charged nothing, or the
// error of the disk, after which the check must not be made.
func (g *Guard) Charge(ctx context.Context, wallet [16]byte, l Limits) (*Charge, error) {
	before, err := g.load(ctx, wallet)
	if err != nil {
		return nil, err
	}
	if before.attempts(l).Left == 0 {
		return nil, ErrLocked
	}
	c := &Charge{guard: g, limits: l, before: before, row: before.charged(g.now())}
	if c.voided, err = g.encode(ctx, c.row.Revision+1, *before); err != nil {
		return nil, err
	}
	passed := *before
	passed.Consecutive, passed.LastPass = 0, g.now().Unix()
	if c.passed, err = g.encode(ctx, c.row.Revision+1, passed); err != nil {
		return nil, err
	}
	if err := g.store(ctx, c.row); err != nil {
		return nil, err
	}
	return c, nil
}

// encode gives the bytes of a row at a revision.
func (g *Guard) encode(ctx context.Context, revision uint64, r Row) ([]byte, error) {
	r.Revision = revision
	return EncodeRow(ctx, &r, g.mac)
}

func (g *Guard) load(ctx context.Context, wallet [16]byte) (*Row, error) {
	data, err := g.rows.GuardRow(ctx, wallet)
	if err != nil {
		return nil, err
	}
	if data == nil {
		return nil, ErrCorrupt
	}
	return DecodeRow(ctx, data, wallet, g.mac)
}

func (g *Guard) store(ctx context.Context, r *Row) error {
	data, err := EncodeRow(ctx, r, g.mac)
	if err != nil {
		return err
	}
	return g.rows.PutGuardRow(ctx, r.Wallet, data)
}

// charged is the row with one more failure.
func (r *Row) charged(now time.Time) *Row {
	next := *r
	next.Revision++
	next.Consecutive++
	next.Lifetime++
	next.Recent = append(append([]int64{}, r.Recent...), now.Unix())
	if extra := len(next.Recent) - RecentMax; extra > 0 {
		next.Recent = next.Recent[extra:]
	}
	return &next
}

// attempts says what is left under l. The smaller budget counts.
func (r *Row) attempts(l Limits) Attempts {
	left := min(remaining(l.Consecutive, r.Consecutive), remaining(l.Lifetime, r.Lifetime))
	a := Attempts{Left: left, Failures: r.Consecutive}
	if r.LastPass != 0 {
		a.LastPass = time.Unix(r.LastPass, 0).UTC()
	}
	return a
}

func remaining(limit, used uint32) uint32 {
	if used >= limit {
		return 0
	}
	return limit - used
}
