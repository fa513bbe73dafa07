package wallet

import (
	"context"
	"errors"
	"math/big"
	"time"

	"github.com/sigild/sigild/daemon/seal"
)

// UnlockRequest asks for an unlock.
type UnlockRequest struct {
	Peer   Peer
	Wallet seal.ID
	PIN    []byte
	Terms  Terms
}

// Unlocked tells what an unlock still allows.
type Unlocked struct {
	Signatures int
	Until      time.Time
	Attempts   Attempts
}

// Unlock checks the PIN and keeps the wallet's keys in the token for as long as
// the terms say. An unlock that the peer held before is replaced.
func (s *Service) Unlock(ctx context.Context, r *UnlockRequest) (*Unlocked, error) {
	if err := r.Terms.check(); err != nil {
		return nil, err
	}
	if !r.Terms.AnyClient && r.Peer.Connection == nil {
		return nil, &FieldError{"bind", "this client has no connection to bind to"}
	}
	making, release, err := s.unlocks.reserve(unlockKey{r.Wallet, r.Peer.UID})
	if err != nil {
		return nil, err
	}
	defer release()
	attempts, err := s.withPIN(ctx, r.Peer, r.Wallet, r.PIN, s.ready(r.check), func(o *opened) error {
		return s.hold(ctx, r, making, o)
	})
	if err != nil {
		return nil, errors.Join(err, s.auditAnyway(ctx, r.event(reasonOf(err))))
	}
	return &Unlocked{Signatures: r.Terms.Signatures, Until: s.Now().Add(r.Terms.Duration), Attempts: attempts}, nil
}

func (r *UnlockRequest) event(result string) Event {
	return Event{Action: "unlock", Peer: r.Peer, Wallet: r.Wallet, Result: result}
}

func (r *UnlockRequest) check(p *seal.Parsed) error {
	for _, index := range r.Terms.Accounts {
		if int64(index) >= int64(len(p.Header.Accounts)) {
			return ErrNotFound
		}
	}
	return nil
}

// hold brings the keys into the token, writes the line of the unlock and enters
// it.
func (s *Service) hold(ctx context.Context, r *UnlockRequest, m *making, o *opened) (err error) {
	held := &objects{token: s.Token}
	k, err := s.unwrapKeys(ctx, held, o.Header, o.wrapped, r.Terms.Accounts)
	if err == nil {
		err = s.audit(ctx, r.event("ok"))
	}
	if err == nil {
		err = s.enter(ctx, r, m, held, k)
	}
	if err != nil {
		k.wipe()
		held.destroy(ctx, &err)
	}
	return err
}

// enter makes the unlock known, in the place of one that the peer held before.
func (s *Service) enter(ctx context.Context, r *UnlockRequest, m *making, held *objects, k keyring) error {
	u := &unlock{peer: r.Peer, terms: r.Terms, until: time.Now().Add(r.Terms.Duration), held: held, keys: k, left: r.Terms.Signatures}
	if !r.Terms.AnyTotal {
		u.allowed = new(big.Int)
		if r.Terms.TotalValue != nil {
			u.allowed.Set(r.Terms.TotalValue)
		}
	}
	key := unlockKey{r.Wallet, r.Peer.UID}
	s.end(ctx, false, only(key))
	u.mu.Lock() // whoever ends it waits until it is whole
	defer u.mu.Unlock()
	if err := s.unlocks.enter(m, key, u); err != nil {
		if s.freezing.has(r.Wallet) {
			return ErrFrozen // and was locked for that
		}
		return err
	}
	background := context.WithoutCancel(ctx)
	u.timer = time.AfterFunc(r.Terms.Duration, func() { s.endThis(background, key, u, ErrUnlockRequired) })
	if !r.Terms.AnyClient {
		u.hangup = context.AfterFunc(r.Peer.Connection, func() { s.endThis(background, key, u, ErrUnlockRequired) })
	}
	return nil
}
