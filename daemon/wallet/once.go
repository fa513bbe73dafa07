package wallet

import (
	"context"
	"errors"
)

// once carries a request out, unless that was done before, and answers from what
// is stored for it, nil when that is nothing. existing says that another call,
// before or at the same time, carried it out.
//
// Nothing is answered without a line in the audit log. run writes one when the
// change is on disk, and may fail just then; so what is answered again gets a
// line of its own.
func once[A any](ctx context.Context, s *Service, e Event, stored func() (*A, error), run func() error) (a *A, existing bool, err error) {
	if a, err = stored(); err != nil {
		return nil, false, err
	}
	if a == nil {
		if err = run(); err != nil && !errors.Is(err, ErrRequestReused) {
			return nil, false, err
		}
		var missing error
		if a, missing = stored(); a == nil || missing != nil {
			return nil, false, errors.Join(err, missing)
		}
		if err == nil {
			return a, false, nil
		}
	}
	e.Result, e.Detail = "ok", map[string]string{"existing": "true"}
	if err := s.audit(ctx, e); err != nil {
		return nil, false, err
	}
	return a, true, nil
}

// lined is err once the line of the request that failed by it is written. One
// that somebody else carried out meanwhile did not fail.
func (s *Service) lined(ctx context.Context, e Event, err error) error {
	if err == nil || errors.Is(err, ErrRequestReused) {
		return err
	}
	e.Result = reasonOf(err)
	return errors.Join(err, s.refused(ctx, e))
}
