package wallet

import (
	"context"
	"fmt"

	"github.com/sigild/sigild/daemon/seal"
)

// DeriveRequest asks for the next accounts of a wallet.
type DeriveRequest struct {
	Peer      Peer
	RequestID string
	Wallet    seal.ID
	Count     int // 1 to MaxDerive
	PIN       []byte
	Digest    [32]byte // of the parameters without the PIN
	Repetition
}

// MaxDerive is how many accounts one request may add.
const MaxDerive = 32

// Derived is the answer to a derivation.
type Derived struct {
	Existing bool
	Accounts []seal.Account
	Info     *Info
	Receipt  *Receipt
}

// Derive adds the next accounts to a wallet, all or none: each has a root pair
// of its own, so that no two are related, and a tweak from the wallet's
// derivation key. It is idempotent as Create is.
func (s *Service) Derive(ctx context.Context, r *DeriveRequest) (*Derived, error) {
	if err := checkText("requestId", r.RequestID, 1, maxRequestID); err != nil {
		return nil, err
	}
	if r.Count < 1 || r.Count > MaxDerive {
		return nil, &FieldError{"count", fmt.Sprintf("must be 1 to %d", MaxDerive)}
	}
	key, err := s.requestKey(ctx, r.Peer.UID, string(r.Wallet[:]), "deriveAccount", r.RequestID)
	if err != nil {
		return nil, err
	}
	d, existing, err := s.once(ctx, &idempotent{key: key, digest: r.Digest, event: r.event("ok"),
		run: func() error {
			_, err := s.withPIN(ctx, r.Peer, r.Wallet, r.PIN, s.unlessDone(ctx, key, r.Digest, s.ready(r.check)), func(o *opened) error {
				return s.addAccounts(ctx, r, key, o)
			})
			return s.noted(ctx, r.event("ok"), err)
		},
		again: func(*done) error { return s.confirm(ctx, r.Repetition, r.event("ok"), r.PIN, s.usable) }})
	if err != nil {
		return nil, err
	}
	return s.derived(ctx, r, d, existing)
}

func (r *DeriveRequest) event(result string) Event {
	return Event{Action: "deriveAccount", Peer: r.Peer, Wallet: r.Wallet, Digest: r.Digest[:], Result: result}
}

func (r *DeriveRequest) check(p *seal.Parsed) error {
	if len(p.Header.Accounts)+r.Count > MaxAccounts {
		return ErrTooManyAccounts
	}
	return nil
}

// derived answers from what is stored.
func (s *Service) derived(ctx context.Context, r *DeriveRequest, d *done, existing bool) (*Derived, error) {
	info, err := s.Get(ctx, r.Peer, d.Wallet)
	if err != nil {
		return nil, err
	}
	first, last := int64(d.Account), int64(d.Account)+int64(r.Count)
	if last > int64(len(info.Header.Accounts)) {
		return nil, seal.ErrCorrupt
	}
	receipt, err := s.receiptFor(ctx, "deriveAccount", d, info, r.Count)
	return &Derived{Existing: existing, Accounts: info.Header.Accounts[first:last], Info: info, Receipt: receipt}, err
}

// addAccounts makes the accounts, seals the record anew and stores it.
func (s *Service) addAccounts(ctx context.Context, r *DeriveRequest, key RequestKey, o *opened) error {
	first, now := uint32(len(o.Header.Accounts)), s.Now().Unix()
	addresses, err := s.grow(ctx, o, r.Count, now)
	if err != nil {
		return err
	}
	d := &done{Digest: r.Digest, Wallet: r.Wallet, Account: first, Time: now}
	if err := s.rewrite(ctx, r.PIN, o, key, d, addresses); err != nil {
		return err
	}
	e := r.event("ok")
	e.Account = first
	return s.audit(ctx, e)
}

// grow adds accounts to an opened record and gives their addresses.
func (s *Service) grow(ctx context.Context, o *opened, count int, now int64) (addresses [][20]byte, err error) {
	held := &objects{token: s.Token}
	defer held.destroy(ctx, &err)
	derivation, err := held.add(s.Token.Unwrap(ctx, o.Header.Keys, o.Header.Mechanism, derivationClass(o.Header), o.wrapped.Derivation))
	if err != nil {
		return nil, err
	}
	for range count {
		addr, err := s.growOne(ctx, held, o, derivation, now)
		if err != nil {
			return nil, err
		}
		addresses = append(addresses, addr)
	}
	return addresses, nil
}

func (s *Service) growOne(ctx context.Context, held *objects, o *opened, derivation Object, now int64) ([20]byte, error) {
	index := uint32(len(o.Header.Accounts))
	a, err := s.generateRoot(ctx, held)
	if err != nil {
		return [20]byte{}, err
	}
	if err := s.derive(ctx, a, derivation, index); err != nil {
		return [20]byte{}, err
	}
	defer a.tweak.wipe()
	root, err := s.Token.Wrap(ctx, o.Header.Keys, rootClass(o.Header), a.root)
	if err != nil {
		return [20]byte{}, err
	}
	o.wrapped.Roots = append(o.wrapped.Roots, root)
	o.Header.Accounts = append(o.Header.Accounts, s.describe(a, index, now))
	return address(a.public), nil
}

// rewrite seals an opened and changed record under a PIN and puts it in the
// place of the old one, with the request that asked for it.
func (s *Service) rewrite(ctx context.Context, pin []byte, o *opened, key RequestKey, d *done, addresses [][20]byte) error {
	o.State.Revision++
	o.Header.Keys.Host = s.Token.Keys().Host
	next, err := s.seal(ctx, pin, o.Header, o.State, o.wrapped, len(o.Header.Accounts)-len(addresses))
	if err != nil {
		return err
	}
	request, err := s.request(ctx, key, d)
	if err != nil {
		return err
	}
	o.rewritten = true
	return s.Store.Replace(ctx, Change{Wallet: d.Wallet, Relay: o.Header.Relay, Prev: o.Stored, Next: next,
		Addresses: addresses, Request: request})
}
