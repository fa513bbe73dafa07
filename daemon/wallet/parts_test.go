package wallet_test

import (
	"context"
	"sync"
	"time"

	"github.com/sigild/sigild/daemon/guard"
	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/store"
	"github.com/sigild/sigild/daemon/wallet"
)

// guardPort joins the guard to the service, as the daemon does.
type guardPort struct {
	*guard.Guard
	passed *error // what settling a passed charge gives
}

func limits(l seal.Limits) guard.Limits {
	return guard.Limits{Consecutive: l.Consecutive, Window: l.Window, Days: l.WindowDays, Lifetime: l.Lifetime}
}

func attempts(a guard.Attempts) wallet.Attempts {
	return wallet.Attempts{Left: a.Left, Failures: a.Failures, Wait: a.Wait, LastPass: a.LastPass}
}

func (g guardPort) NewRow(ctx context.Context, id seal.ID) ([]byte, error) {
	return g.Guard.NewRow(ctx, id)
}

func (g guardPort) Turn(ctx context.Context, id seal.ID) (func(), error) {
	return g.Guard.Turn(ctx, id)
}

func (g guardPort) Attempts(ctx context.Context, id seal.ID, l seal.Limits) (wallet.Attempts, error) {
	a, err := g.Guard.Attempts(ctx, id, limits(l))
	return attempts(a), err
}

func (g guardPort) Charge(ctx context.Context, id seal.ID, l seal.Limits) (wallet.Charge, error) {
	c, err := g.Guard.Charge(ctx, id, limits(l))
	if err != nil {
		return nil, err
	}
	return chargePort{c, g.passed}, nil
}

func (g guardPort) GiveBack(ctx context.Context, id seal.ID, l seal.Limits, n uint32) (wallet.Attempts, error) {
	a, err := g.Guard.GiveBack(ctx, id, limits(l), n)
	return attempts(a), err
}

type chargePort struct {
	*guard.Charge
	passed *error
}

func (c chargePort) Failed() wallet.Attempts { return attempts(c.Charge.Failed()) }
func (c chargePort) Passed(ctx context.Context) (wallet.Attempts, error) {
	if *c.passed != nil {
		return wallet.Attempts{}, *c.passed
	}
	a, err := c.Charge.Passed(ctx)
	return attempts(a), err
}

// memoryAudit keeps events, and can fail.
type memoryAudit struct {
	mu     sync.Mutex
	events []wallet.Event
	err    error
	before func(wallet.Event) // runs before the first of some events is kept, without the lock
}

// lines are the events as "action result".
func (a *memoryAudit) lines() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var list []string
	for _, e := range a.events {
		list = append(list, e.Action+" "+e.Result)
	}
	return list
}

func (a *memoryAudit) Write(_ context.Context, events ...wallet.Event) error {
	if a.before != nil {
		a.before(events[0])
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		return a.err
	}
	a.events = append(a.events, events...)
	return nil
}

// Newest gives the latest of all.
func (a *memoryAudit) Newest() (newest time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range a.events {
		if e.Time.After(newest) {
			newest = e.Time
		}
	}
	return newest
}

// brittleStore is a database whose writes of wallets can fail.
type brittleStore struct {
	*store.Wallets
	fail map[string]error // by method
}

func (s *brittleStore) Create(ctx context.Context, w wallet.NewWallet) error {
	if err := s.fail["Create"]; err != nil {
		return err
	}
	return s.Wallets.Create(ctx, w)
}

func (s *brittleStore) Replace(ctx context.Context, c wallet.Change) error {
	if err := s.fail["Replace"]; err != nil {
		return err
	}
	return s.Wallets.Replace(ctx, c)
}

func (s *brittleStore) Nonce(ctx context.Context, key, value [16]byte) (*[16]byte, error) {
	if err := s.fail["Nonce"]; err != nil {
		return nil, err
	}
	return s.Wallets.Nonce(ctx, key, value)
}
