package wallet

import (
	"context"
	"errors"

	"github.com/sigild/sigild/daemon/seal"
)

// DeriveRequest asks for the next account of a wallet.
type DeriveRequest struct {
	Peer      Peer
	RequestID string
	Wallet    seal.ID
	PIN       []byte
	Digest    [32]byte // of the parameters without the PIN
}

// Derived is the answer to a derivation.
type Derived struct {
	Existing bool
	Account  seal.Account
	Info     *Info
	Receipt  *Receipt
}

// Derive adds the next account to a wallet: a root pair of its own, so that no
// two accounts are related, and a tweak from the wallet's derivation key. It is
// idempotent as Create is.
func (s *Service) Derive(ctx context.Context, r *DeriveRequest) (*Derived, error) {
	if err := checkText("requestId", r.RequestID, 1, maxRequestID); err != nil {
		return nil, err
	}
	key := newRequestKey(r.Peer.UID, string(r.Wallet[:]), "deriveAccount", r.RequestID)
	if d, err := s.derivedBefore(ctx, r, key); d != nil || err != nil {
		return d, err
	}
	_, err := s.withPIN(ctx, r.Peer, r.Wallet, r.PIN, mayDerive, func(o *opened) error {
		return s.addAccount(ctx, r, key, o)
	})
	if err != nil && !errors.Is(err, ErrRequestReused) {
		return nil, err
	}
	d, again := s.derivedBefore(ctx, r, key)
	if d == nil || again != nil {
		return nil, errors.Join(err, again)
	}
	d.Existing = err != nil
	return d, nil
}

func mayDerive(p *seal.Parsed) error {
	if err := usable(p); err != nil {
		return err
	}
	if len(p.Header.Accounts) >= MaxAccounts {
		return ErrTooManyAccounts
	}
	return nil
}

func (s *Service) derivedBefore(ctx context.Context, r *DeriveRequest, key RequestKey) (*Derived, error) {
	done, err := s.repeated(ctx, key, r.Digest)
	if done == nil || err != nil {
		return nil, err
	}
	info, err := s.Get(ctx, r.Peer, done.Wallet)
	if err != nil {
		return nil, err
	}
	if int64(done.Account) >= int64(len(info.Header.Accounts)) {
		return nil, seal.ErrCorrupt
	}
	receipt, err := s.receipt(ctx, "deriveAccount", done, info)
	if err != nil {
		return nil, err
	}
	return &Derived{Existing: true, Account: info.Header.Accounts[done.Account], Info: info, Receipt: receipt}, nil
}

// addAccount makes the account, seals the record anew and stores it.
func (s *Service) addAccount(ctx context.Context, r *DeriveRequest, key RequestKey, o *opened) error {
	index, now := uint32(len(o.Header.Accounts)), s.Now().Unix()
	addr, next, err := s.grow(ctx, r.PIN, o, index, now)
	if err != nil {
		return err
	}
	request, err := s.request(ctx, key, &done{Digest: r.Digest, Wallet: r.Wallet, Account: index, Time: now})
	if err != nil {
		return err
	}
	c := Change{Wallet: r.Wallet, Relay: o.Header.Relay, Prev: o.Stored, Next: next, Addresses: [][20]byte{*addr}, Request: request}
	if err := s.Store.Replace(ctx, c); err != nil {
		return err
	}
	return s.audit(ctx, Event{Action: "deriveAccount", Peer: r.Peer, Wallet: r.Wallet,
		Account: index, Digest: r.Digest[:], Result: "ok"})
}

// grow gives the record with one account more, and that account's address.
func (s *Service) grow(ctx context.Context, pin []byte, o *opened, index uint32, now int64) (addr *[20]byte, next []byte, err error) {
	held := &objects{token: s.Token}
	defer held.destroy(ctx, &err)
	derivation, err := held.add(s.Token.Unwrap(ctx, o.Header.Keys, o.Header.Mechanism, Derivation, o.wrapped.Derivation))
	if err != nil {
		return nil, nil, err
	}
	a, err := s.generateRoot(ctx, held)
	if err != nil {
		return nil, nil, err
	}
	if err := s.derive(ctx, a, derivation, index); err != nil {
		return nil, nil, err
	}
	defer a.tweak.wipe()
	root, err := s.Token.Wrap(ctx, Root, a.root)
	if err != nil {
		return nil, nil, err
	}
	o.wrapped.Roots = append(o.wrapped.Roots, root)
	o.Header.Accounts = append(o.Header.Accounts, s.describe(a, index, now))
	o.State.Revision++
	next, err = s.seal(ctx, pin, o.Header, o.State, o.wrapped)
	at := address(a.public)
	return &at, next, err
}
