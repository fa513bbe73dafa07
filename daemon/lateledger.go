package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sigild/sigild/daemon/guard"
	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/store"
)

// ledger is the guard's ledger over this database.
type ledger = guard.Ledger[*store.Tx]

type ledgerParts = guard.Config[*store.Tx]

var (
	_ guard.Rows   = (*lateLedger)(nil)
	_ store.Ledger = (*lateLedger)(nil)
)

// lateLedger is the ledger once both devices were there; before, what needs it
// gets the error of the device that is away.
type lateLedger struct {
	token  *token
	opened atomic.Pointer[openLedger]
	// unreported is what a start found and nobody was told; of whoever opens.
	unreported *guard.Status
}

type openLedger struct {
	*ledger
	powered time.Duration // the TPM's clock at start
	start   time.Time
}

// errNotCompared is returned while the database was not compared with the TPM.
var errNotCompared = errors.New("the database was not compared with the TPM's counter yet")

func (l *lateLedger) get(ctx context.Context) (*openLedger, error) {
	if o := l.opened.Load(); o != nil {
		return o, nil
	}
	if _, err := l.token.keys(ctx, l.token.newest.Token); err != nil {
		return nil, err
	}
	if o := l.opened.Load(); o != nil {
		return o, nil
	}
	return nil, errNotCompared
}

// Commit is guard.Ledger's.
func (l *lateLedger) Commit(ctx context.Context, apply func(*store.Tx) error) error {
	o, err := l.get(ctx)
	if err != nil {
		return err
	}
	return ofRecord(o.Commit(ctx, apply))
}

// ofRecord tells a row or record that is not as the tree has it as a record that was
// changed, too: it is the fault of one wallet, and what goes over all of them goes on.
func ofRecord(err error) error {
	if errors.Is(err, guard.ErrCorrupt) && !errors.Is(err, seal.ErrCorrupt) {
		return fmt.Errorf("%w: %w", seal.ErrCorrupt, err)
	}
	return err
}

// Leaf is guard.Ledger's.
func (l *lateLedger) Leaf(ctx context.Context, wallet [16]byte) (row, record []byte, err error) {
	o, err := l.get(ctx)
	if err != nil {
		return nil, nil, err
	}
	row, record, err = o.Leaf(ctx, wallet)
	return row, record, ofRecord(err)
}

// Settled is guard.Ledger's.
func (l *lateLedger) Settled(ctx context.Context) error {
	o, err := l.get(ctx)
	if err != nil {
		return err
	}
	return o.Settled(ctx)
}

// Row is guard.Ledger's.
func (l *lateLedger) Row(ctx context.Context, wallet [16]byte) ([]byte, error) {
	o, err := l.get(ctx)
	if err != nil {
		return nil, err
	}
	return o.Row(ctx, wallet)
}

// SwapRow is guard.Ledger's.
func (l *lateLedger) SwapRow(ctx context.Context, wallet [16]byte, prev, next []byte, step bool) error {
	o, err := l.get(ctx)
	if err != nil {
		return err
	}
	return o.SwapRow(ctx, wallet, prev, next, step)
}

// Accepted is guard.Ledger's.
func (l *lateLedger) Accepted(ctx context.Context) (uint64, error) {
	o, err := l.get(ctx)
	if err != nil {
		return 0, err
	}
	return o.Accepted(ctx)
}

// clock goes on from the TPM's by the monotonic clock, so that neither the wall
// clock nor a restart shortens a wait.
func (l *lateLedger) clock() guard.Clock {
	return guard.Clock{Wall: time.Now, Powered: func() time.Duration {
		o := l.opened.Load()
		if o == nil {
			return 0 // nothing is counted before it is open
		}
		return o.powered + time.Since(o.start)
	}}
}

// status is nil before the database was compared with the TPM.
func (l *lateLedger) status() *guard.Status {
	o := l.opened.Load()
	if o == nil {
		return nil
	}
	s := o.Status()
	return &s
}

// lineCounter is a counter behind the daemon's line to the TPM.
type lineCounter struct {
	line *tpmLine
	namedCounter
}

func (c lineCounter) Read(ctx context.Context) (n uint64, err error) {
	err = c.line.do(ctx, func(ctx context.Context) error {
		n, err = c.Counter.Read(ctx)
		return err
	})
	return n, gone(err)
}

// gone says of a counter's own failure that the counter is not there any more.
func gone(err error) error {
	if anchorLost(err) {
		return fmt.Errorf("%w: %w", guard.ErrAnchorMissing, err)
	}
	return err
}

// Increment is not repeated: after a fault the ledger reads first.
func (c lineCounter) Increment(ctx context.Context) (n uint64, err error) {
	if open, _, _, _ := c.line.gate.look(); !open {
		c.line.kick()
		if err := c.line.gate.wait(ctx); err != nil {
			return 0, err
		}
	}
	n, err = c.Counter.Increment(ctx)
	if err != nil && ctx.Err() == nil && c.line.suspect(err) {
		c.line.shut(err)
	}
	return n, gone(err)
}
