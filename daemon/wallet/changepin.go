package wallet

import (
	"context"
	"crypto/subtle"
	"errors"

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

// ChangedPIN is the answer to a PIN change.
type ChangedPIN struct {
	Existing bool
	Info     *Info
	Receipt  *Receipt
}

// ChangePIN seals the wallet's keys anew under another PIN: in one transaction,
// idempotent as Create is. The address stays, and the old ciphertext is gone
// from the database. Unlocks of the wallet end.
func (s *Service) ChangePIN(ctx context.Context, r *ChangePINRequest) (*ChangedPIN, error) {
	if err := checkText("requestId", r.RequestID, 1, maxRequestID); err != nil {
		return nil, err
	}
	key := newRequestKey(r.Peer.UID, string(r.Wallet[:]), "changePin", r.RequestID)
	if c, err := s.changedBefore(ctx, r, key); c != nil || err != nil {
		return c, err
	}
	if err := seal.CheckNew(r.NewPIN); err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(r.PIN, r.NewPIN) == 1 {
		return nil, &FieldError{"newPin", "is the old one"}
	}
	_, err := s.withPIN(ctx, r.Peer, r.Wallet, r.PIN, usable, func(o *opened) error {
		return s.reseal(ctx, r, key, o)
	})
	if err != nil && !errors.Is(err, ErrRequestReused) {
		return nil, errors.Join(err, s.audit(ctx, Event{Action: "changePin", Peer: r.Peer, Wallet: r.Wallet,
			Digest: r.Digest[:], Result: reasonOf(err)}))
	}
	c, again := s.changedBefore(ctx, r, key)
	if c == nil || again != nil {
		return nil, errors.Join(err, again)
	}
	c.Existing = err != nil
	return c, nil
}

func (s *Service) changedBefore(ctx context.Context, r *ChangePINRequest, key RequestKey) (*ChangedPIN, error) {
	d, err := s.repeated(ctx, key, r.Digest)
	if d == nil || err != nil {
		return nil, err
	}
	info, err := s.Get(ctx, r.Peer, d.Wallet)
	if err != nil {
		return nil, err
	}
	receipt, err := s.receipt(ctx, "changePin", d, info)
	if err != nil {
		return nil, err
	}
	return &ChangedPIN{Existing: true, Info: info, Receipt: receipt}, nil
}

func (s *Service) reseal(ctx context.Context, r *ChangePINRequest, key RequestKey, o *opened) error {
	now := s.Now().Unix()
	o.State.Revision++
	o.State.PINSet = now
	o.Header.Keys.Host = s.Token.Keys().Host
	next, err := s.seal(ctx, r.NewPIN, o.Header, o.State, o.wrapped)
	if err != nil {
		return err
	}
	request, err := s.request(ctx, key, &done{Digest: r.Digest, Wallet: r.Wallet, Time: now})
	if err != nil {
		return err
	}
	err = s.Store.Replace(ctx, Change{Wallet: r.Wallet, Relay: o.Header.Relay, Prev: o.Stored, Next: next, Request: request})
	if err != nil {
		return err
	}
	s.endWallet(ctx, r.Wallet)
	return s.audit(ctx, Event{Action: "changePin", Peer: r.Peer, Wallet: r.Wallet, Digest: r.Digest[:], Result: "ok"})
}
