package wallet

import (
	"bytes"
	"context"
	"crypto/subtle"

	"github.com/sigild/sigild/daemon/policy"
	"github.com/sigild/sigild/daemon/seal"
)

// ChangePINRequest asks for a new PIN.
type ChangePINRequest struct {
	Peer        Peer
	RequestID   string
	Wallet      seal.ID
	PIN, NewPIN []byte
	Digest      [32]byte // of the parameters without the PINs
	Repetition
}

// SetPolicyRequest asks for another policy.
type SetPolicyRequest struct {
	Peer      Peer
	RequestID string
	Wallet    seal.ID
	Policy    policy.Policy
	PIN       []byte
	Digest    [32]byte // of the parameters without the PIN
	Repetition
}

// Changed is the answer to a PIN change or a new policy.
type Changed struct {
	Existing bool
	Info     *Info
	Receipt  *Receipt
}

// ChangePIN seals the wallet's keys anew under another PIN: in one transaction,
// idempotent as Create is. The address stays, and the old ciphertext is gone
// from the record. Unlocks of the wallet end. Nothing that could verify a PIN is
// stored for a retry: what shows that the change is in force is that the new PIN
// opens the wallet.
func (s *Service) ChangePIN(ctx context.Context, r *ChangePINRequest) (*Changed, error) {
	c := &resealing{peer: r.Peer, method: "changePin", requestID: r.RequestID, wallet: r.Wallet,
		pin: r.PIN, newPIN: r.NewPIN, digest: r.Digest, repetition: r.Repetition, holds: s.usable}
	c.check = func() error {
		if subtle.ConstantTimeCompare(r.PIN, r.NewPIN) == 1 {
			return &FieldError{"newPin", "is the old one"}
		}
		return seal.CheckNew(r.NewPIN)
	}
	c.apply = func(o *opened, now int64) error {
		o.State.PINSet = now
		return nil
	}
	return s.reseal(ctx, c)
}

// SetPolicy gives the wallet another policy, which only its PIN can do.
// Unlocks of the wallet end.
func (s *Service) SetPolicy(ctx context.Context, r *SetPolicyRequest) (*Changed, error) {
	rules, err := r.Policy.Encode()
	if err != nil {
		return nil, &FieldError{"policy", err.Error()}
	}
	c := &resealing{peer: r.Peer, method: "setPolicy", requestID: r.RequestID, wallet: r.Wallet,
		pin: r.PIN, newPIN: r.PIN, digest: r.Digest, repetition: r.Repetition}
	c.check = func() error { return nil }
	c.holds = func(p *seal.Parsed) error {
		if !bytes.Equal(p.Header.Policy, rules) { // another one took its place
			return ErrRequestReused
		}
		return s.usable(p)
	}
	c.apply = func(o *opened, _ int64) error {
		o.Header.Policy = rules
		return nil
	}
	return s.reseal(ctx, c)
}

// resealing is a request that opens a record, changes it and seals it anew.
type resealing struct {
	peer        Peer
	method      string
	requestID   string
	wallet      seal.ID
	pin, newPIN []byte
	digest      [32]byte
	repetition  Repetition
	check       func() error             // before anything is charged
	holds       func(*seal.Parsed) error // whether a change that was made is in force still
	apply       func(o *opened, now int64) error
}

func (c *resealing) event(result string) Event {
	return Event{Action: c.method, Peer: c.peer, Wallet: c.wallet, Digest: c.digest[:], Result: result}
}

func (s *Service) reseal(ctx context.Context, c *resealing) (*Changed, error) {
	if err := checkText("requestId", c.requestID, 1, maxRequestID); err != nil {
		return nil, err
	}
	key, err := s.requestKey(ctx, c.peer.UID, string(c.wallet[:]), c.method, c.requestID)
	if err != nil {
		return nil, err
	}
	d, existing, err := s.once(ctx, &idempotent{key: key, digest: c.digest, event: c.event("ok"),
		run:   func() error { return s.resealOnce(ctx, c, key) },
		again: func(*done) error { return s.confirm(ctx, c.repetition, c.event("ok"), c.newPIN, c.holds) }})
	if err != nil {
		return nil, err
	}
	info, err := s.Get(ctx, c.peer, d.Wallet)
	if err != nil {
		return nil, err
	}
	receipt, err := s.receipt(ctx, c.method, d, info)
	return &Changed{Existing: existing, Info: info, Receipt: receipt}, err
}

func (s *Service) resealOnce(ctx context.Context, c *resealing, key RequestKey) error {
	if err := c.check(); err != nil {
		return err
	}
	_, err := s.withPIN(ctx, c.peer, c.wallet, c.pin, s.unlessDone(ctx, key, c.digest, s.usable), func(o *opened) error {
		return s.resealOpened(ctx, c, key, o)
	})
	return s.noted(ctx, c.event("ok"), err)
}

func (s *Service) resealOpened(ctx context.Context, c *resealing, key RequestKey, o *opened) error {
	now := s.Now().Unix()
	if err := c.apply(o, now); err != nil {
		return err
	}
	d := &done{Digest: c.digest, Wallet: c.wallet, Time: now}
	err := s.rewrite(ctx, c.newPIN, o, key, d, nil)
	s.endWallet(ctx, c.wallet) // also when it is not known to be written
	if err != nil {
		return err
	}
	return s.audit(ctx, c.event("ok"))
}
