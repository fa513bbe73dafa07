package wallet

import (
	"context"
	"errors"

	"github.com/sigild/sigild/daemon/seal"
)

// Repetition says how a request is answered that was carried out before.
type Repetition struct {
	// Unproven is true for a request whose answer proves nothing to whoever typed
	// the PIN: its repetition is answered without a look at the PIN. Otherwise
	// the PIN is checked, and charged as every check is: the one who has the
	// request repeated need not be the one who had it carried out.
	Unproven bool
}

// idempotent is a request that is carried out once.
type idempotent struct {
	key    RequestKey
	digest [32]byte
	event  Event // of a repetition that is answered
	run    func() error
	// again lets a repetition be answered. It is not asked after this request's
	// own run.
	again func(*done) error
}

// once carries a request out unless it was before, and gives what is stored of
// it. existing: it was carried out before, or by somebody else meanwhile.
//
// Nothing is answered without a line in the audit log. run writes one when the
// change is on disk, and may fail just then; so a repetition has a line of its own.
func (s *Service) once(ctx context.Context, r *idempotent) (d *done, existing bool, err error) {
	if d, err = s.repeated(ctx, r.key, r.digest); err != nil {
		return nil, false, err
	}
	existing = d != nil
	if !existing {
		err := r.run()
		if existing = errors.Is(err, ErrRequestReused); err != nil && !existing {
			return nil, false, err
		}
		if d, err = s.repeated(ctx, r.key, r.digest); err != nil {
			return nil, false, err
		}
		if d == nil {
			return nil, false, seal.ErrCorrupt
		}
	}
	if !existing {
		return d, false, nil
	}
	if err := r.again(d); err != nil {
		return nil, true, err
	}
	e := r.event
	e.Wallet, e.Result, e.Detail = d.Wallet, "ok", map[string]string{"existing": "true"}
	return d, true, s.audit(ctx, e)
}

// unlessDone makes a check refuse a request that was carried out while it waited
// for the wallet's turn. Its PIN may be the old one by now, which must not cost
// an attempt.
func (s *Service) unlessDone(ctx context.Context, key RequestKey, digest [32]byte, check func(*seal.Parsed) error) func(*seal.Parsed) error {
	return func(p *seal.Parsed) error {
		switch d, err := s.repeated(ctx, key, digest); {
		case err != nil:
			return err
		case d != nil:
			return ErrRequestReused
		}
		return check(p)
	}
}

// confirm checks the PIN of a repetition. A right one costs nothing.
func (s *Service) confirm(ctx context.Context, r Repetition, e Event, pin []byte, check func(*seal.Parsed) error) error {
	if r.Unproven {
		return nil
	}
	_, err := s.withPIN(ctx, e.Peer, e.Wallet, pin, check, func(*opened) error { return nil })
	return s.noted(ctx, e, err)
}

// noted audits a request that was refused or failed, but for one that was
// carried out before.
func (s *Service) noted(ctx context.Context, e Event, err error) error {
	if err == nil || errors.Is(err, ErrRequestReused) {
		return err
	}
	e.Result = reasonOf(err)
	return errors.Join(err, s.auditAnyway(ctx, e))
}
