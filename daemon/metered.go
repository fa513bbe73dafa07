package daemon

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/sigild/sigild/daemon/entropy"
	"github.com/sigild/sigild/daemon/guard"
	"github.com/sigild/sigild/daemon/metrics"
	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/store"
	"github.com/sigild/sigild/daemon/wallet"
)

// The service's parts, timed. Whatever a part does that is not named here
// passes untimed.
var (
	_ wallet.Token   = meteredToken{}
	_ wallet.Store   = meteredStore{}
	_ wallet.Guard   = meteredGuard{}
	_ wallet.Audit   = meteredAudit{}
	_ wallet.Entropy = meteredEntropy{}
	_ guard.Rows     = meteredRows{}
)

// metered times one step.
func metered[T any](m *metrics.Metrics, s metrics.Stage, step func() (T, error)) (T, error) {
	begin := time.Now()
	v, err := step()
	m.Took(s, time.Since(begin))
	return v, err
}

func meteredErr(m *metrics.Metrics, s metrics.Stage, step func() error) error {
	begin := time.Now()
	err := step()
	m.Took(s, time.Since(begin))
	return err
}

type meteredToken struct {
	wallet.Token
	m *metrics.Metrics
}

func (t meteredToken) GenerateRoot(ctx context.Context) (o wallet.Object, p [65]byte, err error) {
	err = meteredErr(t.m, metrics.Token, func() error { o, p, err = t.Token.GenerateRoot(ctx); return err })
	return o, p, err
}

func (t meteredToken) ImportSecret(ctx context.Context, secret []byte) (wallet.Object, error) {
	return metered(t.m, metrics.Token, func() (wallet.Object, error) { return t.Token.ImportSecret(ctx, secret) })
}

func (t meteredToken) ImportRoot(ctx context.Context, scalar *[32]byte) (o wallet.Object, p [65]byte, err error) {
	err = meteredErr(t.m, metrics.Token, func() error { o, p, err = t.Token.ImportRoot(ctx, scalar); return err })
	return o, p, err
}

func (t meteredToken) ExportRoot(ctx context.Context, o wallet.Object, scalar *[32]byte) error {
	return meteredErr(t.m, metrics.Token, func() error { return t.Token.ExportRoot(ctx, o, scalar) })
}

func (t meteredToken) Wrap(ctx context.Context, k seal.KeyIDs, c wallet.Class, o wallet.Object) ([]byte, error) {
	return metered(t.m, metrics.Token, func() ([]byte, error) { return t.Token.Wrap(ctx, k, c, o) })
}

func (t meteredToken) Unwrap(ctx context.Context, k seal.KeyIDs, mechanism uint64, c wallet.Class, wrapped []byte) (wallet.Object, error) {
	return metered(t.m, metrics.Token, func() (wallet.Object, error) { return t.Token.Unwrap(ctx, k, mechanism, c, wrapped) })
}

func (t meteredToken) HMACSHA512(ctx context.Context, o wallet.Object, data []byte, mac *[64]byte) error {
	return meteredErr(t.m, metrics.Token, func() error { return t.Token.HMACSHA512(ctx, o, data, mac) })
}

func (t meteredToken) SignECDSA(ctx context.Context, o wallet.Object, digest [32]byte) ([64]byte, error) {
	return metered(t.m, metrics.Token, func() ([64]byte, error) { return t.Token.SignECDSA(ctx, o, digest) })
}

func (t meteredToken) Destroy(ctx context.Context, objects ...wallet.Object) error {
	return meteredErr(t.m, metrics.Token, func() error { return t.Token.Destroy(ctx, objects...) })
}

func (t meteredToken) RecordMAC(ctx context.Context, message []byte) ([32]byte, error) {
	return metered(t.m, metrics.Token, func() ([32]byte, error) { return t.Token.RecordMAC(ctx, message) })
}

func (t meteredToken) SignReceipt(ctx context.Context, digest [32]byte) ([]byte, error) {
	return metered(t.m, metrics.Token, func() ([]byte, error) { return t.Token.SignReceipt(ctx, digest) })
}

func (t meteredToken) Factors(k seal.KeyIDs) (seal.Factors, error) {
	f, err := t.Token.Factors(k)
	if err != nil {
		return nil, err
	}
	return meteredFactors{f, t.m}, nil
}

type meteredFactors struct {
	seal.Factors
	m *metrics.Metrics
}

func (f meteredFactors) Pepper(ctx context.Context, message []byte, h1 *[32]byte) error {
	return meteredErr(f.m, metrics.Token, func() error { return f.Factors.Pepper(ctx, message, h1) })
}

func (f meteredFactors) Host(ctx context.Context, message []byte, h2 *[32]byte) error {
	return meteredErr(f.m, metrics.TPM, func() error { return f.Factors.Host(ctx, message, h2) })
}

// meteredStore times what goes round the ledger; see ledgerMeter.
type meteredStore struct {
	wallet.Store
	m *metrics.Metrics
}

func (s meteredStore) Record(ctx context.Context, id seal.ID) ([]byte, error) {
	return metered(s.m, metrics.Store, func() ([]byte, error) { return s.Store.Record(ctx, id) })
}

func (s meteredStore) Nonce(ctx context.Context, key, value [16]byte) (*[16]byte, error) {
	return metered(s.m, metrics.Store, func() (*[16]byte, error) { return s.Store.Nonce(ctx, key, value) })
}

type meteredRows struct {
	guard.Rows
	m *metrics.Metrics
}

func (r meteredRows) Row(ctx context.Context, id [16]byte) ([]byte, error) {
	return metered(r.m, metrics.Store, func() ([]byte, error) { return r.Rows.Row(ctx, id) })
}

// ledgerMeter times the parts of a change apart: the wait for its turn, the
// disk, the token's MAC of the guard root, and the step of the TPM's counter.
type ledgerMeter struct {
	m *metrics.Metrics
	// inMAC is all the time so far that MACs of the guard root took, in
	// nanoseconds. They are made while the database is held for writing, by one
	// change at a time.
	inMAC atomic.Int64
}

// meterLedger puts the clocks around a ledger's parts.
func (d *Daemon) meterLedger(p *ledgerParts) *ledgerParts {
	l := &ledgerMeter{m: d.metrics}
	p.Disk, p.MAC, p.Waited = meteredDisk{p.Disk, l}, meteredMAC(d.metrics, p.MAC, &l.inMAC), l.waited
	p.Anchor, p.Unclean = l.counter(p.Anchor), l.counter(p.Unclean)
	return p
}

// meteredMAC is the token's work for the guard; also gets the time, if it is set.
func meteredMAC(m *metrics.Metrics, mac guard.MAC, also *atomic.Int64) guard.MAC {
	return func(ctx context.Context, message []byte) ([32]byte, error) {
		begin := time.Now()
		sum, err := mac(ctx, message)
		took := time.Since(begin)
		if also != nil {
			also.Add(int64(took))
		}
		m.Took(metrics.Token, took)
		return sum, err
	}
}

func (l *ledgerMeter) waited(d time.Duration) { l.m.Took(metrics.Queue, d) }

func (l *ledgerMeter) counter(c guard.Counter) guard.Counter {
	if c == nil {
		return nil
	}
	return meteredCounter{c, l.m}
}

// meteredDisk is the database as the ledger writes it.
type meteredDisk struct {
	guard.Disk[*store.Tx]
	meter *ledgerMeter
}

func (d meteredDisk) Update(ctx context.Context, f func(*store.Tx) error) error {
	begin, before := time.Now(), d.meter.inMAC.Load()
	err := d.Disk.Update(ctx, f)
	d.meter.m.Took(metrics.Store, time.Since(begin)-time.Duration(d.meter.inMAC.Load()-before))
	return err
}

type meteredCounter struct {
	guard.Counter
	m *metrics.Metrics
}

func (c meteredCounter) Increment(ctx context.Context) (uint64, error) {
	return metered(c.m, metrics.TPM, func() (uint64, error) { return c.Counter.Increment(ctx) })
}

type meteredAudit struct {
	wallet.Audit
	m *metrics.Metrics
}

func (a meteredAudit) Write(ctx context.Context, events ...wallet.Event) error {
	return meteredErr(a.m, metrics.Audit, func() error { return a.Audit.Write(ctx, events...) })
}

type meteredGuard struct {
	wallet.Guard
	m *metrics.Metrics
}

func (g meteredGuard) Charge(ctx context.Context, id seal.ID, l seal.Limits) (wallet.Charge, error) {
	c, err := g.Guard.Charge(ctx, id, l)
	if errors.Is(err, guard.ErrLocked) {
		g.m.RefusedLocked()
	}
	if err != nil {
		return nil, err
	}
	g.m.Charged()
	return meteredCharge{c, g.m}, nil
}

type meteredCharge struct {
	wallet.Charge
	m *metrics.Metrics
}

func (c meteredCharge) Failed() wallet.Attempts {
	a := c.Charge.Failed()
	c.m.Checked(metrics.Failed, a.Left == 0)
	return a
}

func (c meteredCharge) Passed(ctx context.Context) (wallet.Attempts, error) {
	a, err := c.Charge.Passed(ctx)
	if err == nil {
		c.m.Checked(metrics.Passed, false)
	}
	return a, err
}

func (c meteredCharge) Void(ctx context.Context) error {
	c.m.Checked(metrics.Voided, false)
	return c.Charge.Void(ctx)
}

type meteredEntropy struct {
	wallet.Entropy
	m *metrics.Metrics
}

func (e meteredEntropy) Seed(ctx context.Context, id seal.ID) (wallet.Seed, error) {
	s, err := e.Entropy.Seed(ctx, id)
	var failed *entropy.SourceError
	if errors.As(err, &failed) {
		e.m.SourceFailed(failed.Source, failed.Reason.String())
	}
	return s, err
}
