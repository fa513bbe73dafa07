package wallet

import (
	"context"
	"errors"
	"strconv"

	"github.com/sigild/sigild/daemon/seal"
)

// GiveBack gives n attempts back to a wallet and ends its wait. It is the
// operator's, and capped; the audit log has each.
func (s *Service) GiveBack(ctx context.Context, a Actor, wallet seal.ID, n uint32) (*Info, error) {
	if err := s.begin(ctx, a, "giveBack", wallet); err != nil {
		return nil, err
	}
	info, err := s.giveBack(ctx, a, wallet, n)
	e := Event{Action: "giveBack", Peer: a.Peer, Wallet: wallet, Result: "ok",
		Detail: map[string]string{"attempts": strconv.FormatUint(uint64(n), 10)}}
	if err != nil {
		e.Result = reasonOf(err)
	}
	return info, errors.Join(err, s.audit(ctx, e))
}

func (s *Service) giveBack(ctx context.Context, a Actor, wallet seal.ID, n uint32) (*Info, error) {
	done, err := s.Guard.Turn(ctx, wallet)
	if err != nil {
		return nil, err
	}
	defer done()
	p, err := s.loadFor(ctx, a, wallet)
	if err != nil {
		return nil, err
	}
	attempts, err := s.Guard.GiveBack(ctx, wallet, p.Header.Limits, n)
	if err != nil {
		return nil, err
	}
	return &Info{Header: p.Header, State: p.State, Attempts: attempts}, nil
}
