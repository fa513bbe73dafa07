package daemon

import (
	"context"
	"encoding/hex"
	"time"

	"github.com/sigild/sigild/daemon/audit"
	"github.com/sigild/sigild/daemon/entropy"
	"github.com/sigild/sigild/daemon/guard"
	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/wallet"
)

// The service declares what it needs; here its needs meet the packages that
// meet them and do not know it.
var (
	_ wallet.Token   = (*token)(nil)
	_ wallet.Guard   = guardPort{}
	_ wallet.Entropy = entropyPort{}
	_ wallet.Audit   = auditPort{}
)

type guardPort struct{ guard *guard.Guard }

func guardLimits(l seal.Limits) guard.Limits {
	return guard.Limits{Consecutive: l.Consecutive, Window: l.Window, Days: l.WindowDays, Lifetime: l.Lifetime}
}

func attempts(a guard.Attempts) wallet.Attempts {
	return wallet.Attempts{Left: a.Left, Failures: a.Failures, Wait: a.Wait, LastPass: a.LastPass}
}

func (g guardPort) NewRow(ctx context.Context, id seal.ID) ([]byte, error) {
	return g.guard.NewRow(ctx, id)
}

func (g guardPort) Turn(ctx context.Context, id seal.ID) (func(), error) {
	return g.guard.Turn(ctx, id)
}

func (g guardPort) Attempts(ctx context.Context, id seal.ID, l seal.Limits) (wallet.Attempts, error) {
	a, err := g.guard.Attempts(ctx, id, guardLimits(l))
	return attempts(a), ofRecord(err)
}

func (g guardPort) Charge(ctx context.Context, id seal.ID, l seal.Limits) (wallet.Charge, error) {
	c, err := g.guard.Charge(ctx, id, guardLimits(l))
	if err != nil {
		return nil, err
	}
	return chargePort{c}, nil
}

func (g guardPort) GiveBack(ctx context.Context, id seal.ID, l seal.Limits, n uint32) (wallet.Attempts, error) {
	a, err := g.guard.GiveBack(ctx, id, guardLimits(l), n)
	return attempts(a), err
}

type chargePort struct{ charge *guard.Charge }

func (c chargePort) Failed() wallet.Attempts        { return attempts(c.charge.Failed()) }
func (c chargePort) Void(ctx context.Context) error { return c.charge.Void(ctx) }

func (c chargePort) Passed(ctx context.Context) (wallet.Attempts, error) {
	a, err := c.charge.Passed(ctx)
	return attempts(a), err
}

type entropyPort struct {
	mixer   *entropy.Mixer
	dropped []string
	health  *health
}

func (e entropyPort) Dropped() []string { return e.dropped }

func (e entropyPort) Seed(ctx context.Context, id seal.ID) (wallet.Seed, error) {
	s, err := e.mixer.Seed(ctx, id[:])
	e.health.sourced(err)
	if err != nil {
		return nil, err
	}
	return seedPort{s}, nil
}

type seedPort struct{ *entropy.Seed }

func (s seedPort) Sources() []seal.Source {
	list := make([]seal.Source, 0, len(s.Provenance()))
	for _, p := range s.Provenance() {
		list = append(list, seal.Source{
			Name: p.Source, Count: uint32(p.Count), RequestID: p.RequestID, Region: p.Region,
			Manufacturer: p.Manufacturer, Model: p.Model, Version: p.Version, Time: p.Time.Unix(),
		})
	}
	return list
}

type auditPort struct{ log *audit.Log }

func (a auditPort) Write(ctx context.Context, events ...wallet.Event) error {
	entries := make([]audit.Entry, len(events))
	for n, e := range events {
		entries[n] = audit.Entry{Time: e.Time, Action: e.Action, UID: e.Peer.UID, PID: e.Peer.PID,
			Wallet: hexText(e.Wallet[:]), Account: e.Account, Result: e.Result, Detail: e.Detail}
		if len(e.Digest) > 0 {
			entries[n].Digest = hexText(e.Digest)
		}
	}
	return a.log.Write(ctx, entries...)
}

func (a auditPort) Newest() time.Time { return a.log.Newest() }

func hexText(b []byte) string { return "0x" + hex.EncodeToString(b) }
