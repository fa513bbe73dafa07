package wallet

import (
	"context"
	"errors"
	"fmt"

	"github.com/sigild/sigild/daemon/seal"
)

// opened is a record that its PIN opened: the token's ciphertexts of the keys.
type opened struct {
	*seal.Parsed
	wrapped   *seal.Wrapped
	rewritten bool // the stored record is newer than Parsed
}

// withPIN checks a PIN and, when it is right, runs use with the opened record.
// The order is the promise: record verified, check (owner, frozen, policy),
// a free slot, the charge on disk, the devices, the AEAD, the charge settled
// on disk, use. The attempts that it returns count the failures before.
func (s *Service) withPIN(ctx context.Context, peer Peer, id seal.ID, pin []byte,
	check func(*seal.Parsed) error, use func(*opened) error) (Attempts, error) {
	if err := seal.CheckSyntax(pin); err != nil {
		return Attempts{}, err
	}
	waited := s.clock(StageQueue)
	done, err := s.Guard.Turn(ctx, id)
	waited()
	if err != nil {
		return Attempts{}, err
	}
	defer done()
	p, err := s.load(ctx, peer, id)
	if err != nil {
		return Attempts{}, err
	}
	decided := s.clock(StagePolicy)
	err = check(p)
	decided()
	if err != nil {
		return Attempts{}, err
	}
	o, attempts, err := s.open(ctx, p, pin, check)
	if err != nil {
		return Attempts{}, err
	}
	defer o.wrapped.Wipe()
	if err := use(o); err != nil {
		return Attempts{}, err
	}
	s.modernise(ctx, peer, pin, o)
	return attempts, nil
}

// modernise seals a record anew that was made with a cheaper PIN stretching or
// an older host key than new ones are. The PIN is at hand only now. What the
// request asked for is done already, so that a failure here is only audited.
func (s *Service) modernise(ctx context.Context, peer Peer, pin []byte, o *opened) {
	if o.rewritten || !s.outdated(o.Header) {
		return
	}
	e := Event{Action: "modernise", Peer: peer, Wallet: o.Header.Wallet, Result: "ok"}
	if err := s.resealAsNew(ctx, pin, o); err != nil {
		e.Result = reasonOf(err)
	}
	_ = s.audit(ctx, e)
}

func (s *Service) outdated(h *seal.Header) bool {
	have, want := h.KDF, s.KDF
	weaker := have.Memory <= want.Memory && have.Time <= want.Time &&
		(have.Memory < want.Memory || have.Time < want.Time)
	return weaker || h.Keys.Host != s.Token.Keys().Host
}

func (s *Service) resealAsNew(ctx context.Context, pin []byte, o *opened) error {
	o.State.Revision++
	o.Header.Keys.Host = s.Token.Keys().Host
	next, err := s.seal(ctx, pin, o.Header, o.State, o.wrapped, len(o.Header.Accounts))
	if err != nil {
		return err
	}
	return s.Store.Replace(ctx, Change{Wallet: o.Header.Wallet, Relay: o.Header.Relay, Prev: o.Stored, Next: next})
}

// usable refuses a wallet that is deleted or frozen, or is being frozen.
func (s *Service) usable(p *seal.Parsed) error {
	if err := usable(p); err != nil {
		return err
	}
	if s.freezing.has(p.Header.Wallet) {
		return ErrFrozen
	}
	return nil
}

// ready is usable before another check.
func (s *Service) ready(check func(*seal.Parsed) error) func(*seal.Parsed) error {
	return func(p *seal.Parsed) error {
		if err := s.usable(p); err != nil {
			return err
		}
		return check(p)
	}
}

// usable refuses a record of a wallet that is deleted or frozen.
func usable(p *seal.Parsed) error {
	if p.State.Deleted != 0 {
		return ErrDeleted
	}
	if p.State.Frozen != 0 {
		return ErrFrozen
	}
	return nil
}

// open charges one check and makes it. A freeze that came while it waited for a
// slot is heeded: check is asked once more.
func (s *Service) open(ctx context.Context, p *seal.Parsed, pin []byte, check func(*seal.Parsed) error) (*opened, Attempts, error) {
	waited := s.clock(StageQueue)
	release, err := s.slots.acquire(ctx)
	waited()
	if err != nil {
		return nil, Attempts{}, err
	}
	defer release()
	if s.freezing.has(p.Header.Wallet) {
		if err := check(p); err != nil {
			return nil, Attempts{}, err
		}
	}
	factors, err := s.Token.Factors(p.Header.Keys)
	if err != nil {
		return nil, Attempts{}, err
	}
	charge, err := s.Guard.Charge(ctx, p.Header.Wallet, p.Header.Limits)
	if err != nil {
		return nil, Attempts{}, err
	}
	wrapped, err := s.unseal(ctx, p, pin, factors)
	if err != nil {
		return nil, Attempts{}, settle(ctx, charge, err)
	}
	attempts, err := charge.Passed(ctx)
	if err != nil {
		wrapped.Wipe()
		return nil, Attempts{}, settle(ctx, charge, err)
	}
	return &opened{Parsed: p, wrapped: wrapped}, attempts, nil
}

func unseal(ctx context.Context, p *seal.Parsed, pin []byte, f seal.Factors) (*seal.Wrapped, error) {
	key, err := seal.DeriveKey(ctx, pin, p.Header.Wallet, p.Header.KDF, f)
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	w, err := seal.Open(key, p.Record.Header, p.Record.Box)
	if err != nil {
		return nil, err
	}
	if len(w.Roots) != len(p.Header.Accounts) {
		w.Wipe()
		return nil, seal.ErrCorrupt
	}
	return w, nil
}

// settle ends a charge whose record did not open: only the AEAD's refusal is a
// wrong PIN, any other fault gives the attempt back.
func settle(ctx context.Context, c Charge, cause error) error {
	if errors.Is(cause, seal.ErrOpen) {
		return &PINError{Attempts: c.Failed()}
	}
	if err := c.Void(ctx); err != nil {
		return fmt.Errorf("%w: %w: %w", cause, ErrChargeStands, err)
	}
	return cause
}
