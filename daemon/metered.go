package daemon

import (
	"context"
	"errors"
	"time"

	"github.com/sigild/sigild/daemon/entropy"
	"github.com/sigild/sigild/daemon/guard"
	"github.com/sigild/sigild/daemon/metrics"
	"github.com/sigild/sigild/daemon/seal"
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

type meteredStore struct {
	wallet.Store
	m *metrics.Metrics
}

func (s meteredStore) Create(ctx context.Context, w wallet.NewWallet) error {
	return meteredErr(s.m, metrics.Store, func() error { return s.Store.Create(ctx, w) })
}

func (s meteredStore) Record(ctx context.Context, id seal.ID) ([]byte, error) {
	return metered(s.m, metrics.Store, func() ([]byte, error) { return s.Store.Record(ctx, id) })
}

func (s meteredStore) Replace(ctx context.Context, c wallet.Change) error {
	return meteredErr(s.m, metrics.Store, func() error { return s.Store.Replace(ctx, c) })
}

func (s meteredStore) Remove(ctx context.Context, r wallet.Removal) error {
	return meteredErr(s.m, metrics.Store, func() error { return s.Store.Remove(ctx, r) })
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

// SwapRow's time is that of the disk and, for a step, of the TPM's counter.
func (r meteredRows) SwapRow(ctx context.Context, id [16]byte, prev, next []byte, step bool) error {
	return meteredErr(r.m, metrics.Store, func() error { return r.Rows.SwapRow(ctx, id, prev, next, step) })
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
