package wallet

import (
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
}

// SetPolicyRequest asks for another policy.
type SetPolicyRequest struct {
	Peer      Peer
	RequestID string
	Wallet    seal.ID
	Policy    policy.Policy
	PIN       []byte
	Digest    [32]byte // of the parameters without the PIN
}

// Changed is the answer to a PIN change or a new policy.
type Changed struct {
	Existing bool
	Info     *Info
	Receipt  *Receipt
}

// ChangePIN seals the wallet's keys anew under another PIN: in one transaction,
// idempotent as Create is. The address stays, and the old ciphertext is gone
// from the record. Unlocks of the wallet end. A retry is answered by its request
// id, whatever PINs it has: nothing that could verify a PIN is stored for it.
func (s *Service) ChangePIN(ctx context.Context, r *ChangePINRequest) (*Changed, error) {
	c := &resealing{peer: r.Peer, method: "changePin", requestID: r.RequestID, wallet: r.Wallet,
		pin: r.PIN, newPIN: r.NewPIN, digest: r.Digest}
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
		pin: r.PIN, newPIN: r.PIN, digest: r.Digest}
	c.check = func() error { return nil }
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
	check       func() error // before anything is charged
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
	done, existing, err := once(ctx, s, c.event("ok"), func() (*Changed, error) { return s.resealedBefore(ctx, c, key) }, func() error {
		if err := c.check(); err != nil {
			return err
		}
		_, err := s.withPIN(ctx, c.peer, c.wallet, c.pin, usable, func(o *opened) error {
			return s.resealOpened(ctx, c, key, o)
		})
		return s.lined(ctx, c.event(""), err)
	})
	if err != nil {
		return nil, err
	}
	done.Existing = existing
	return done, nil
}

func (s *Service) resealedBefore(ctx context.Context, c *resealing, key RequestKey) (*Changed, error) {
	d, err := s.repeated(ctx, key, c.digest)
	if d == nil || err != nil {
		return nil, err
	}
	info, err := s.Get(ctx, c.peer, d.Wallet)
	if err != nil {
		return nil, err
	}
	receipt, err := s.receipt(ctx, c.method, d, info)
	if err != nil {
		return nil, err
	}
	return &Changed{Info: info, Receipt: receipt}, nil
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
