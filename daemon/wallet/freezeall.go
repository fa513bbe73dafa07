package wallet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sigild/sigild/daemon/seal"
)

// everything is how many wallets FreezeAll reads at a time.
const everything = 500

// FreezeProgress is how far one call of FreezeAll came.
type FreezeProgress struct {
	Wallets int       // were frozen by it
	Corrupt []seal.ID // have a record that was changed outside the daemon; they do not sign
	Next    *seal.ID  // go on after this one; nil: all are done
}

// FreezeAll freezes the wallets of all relays, by id, after one. When budget has
// passed it says where to go on: many wallets take longer than one request may.
// A corrupt record does not stop it, a device that does not answer does.
// Repeated, it skips what is frozen already.
func (s *Service) FreezeAll(ctx context.Context, a Actor, by string, after *seal.ID, budget time.Duration) (*FreezeProgress, error) {
	end := time.Now().Add(budget)
	done := &FreezeProgress{Next: after}
	for {
		ids, err := s.Store.Everything(ctx, done.Next, everything)
		if err != nil {
			return nil, err
		}
		if len(ids) == 0 {
			done.Next = nil
			return done, nil
		}
		for _, id := range ids {
			if err := s.freezeOnce(ctx, a, id, by, done); err != nil {
				return nil, fmt.Errorf("wallet %x: %w", id, err)
			}
			if done.Next = &id; !time.Now().Before(end) {
				return done, nil
			}
		}
	}
}

// freezeOnce freezes a wallet that is neither frozen nor deleted.
func (s *Service) freezeOnce(ctx context.Context, a Actor, id seal.ID, by string, done *FreezeProgress) error {
	p, err := s.loadFor(ctx, a, id)
	if err == nil && usable(p) == nil {
		if _, err = s.freeze(ctx, a, id, by); err == nil {
			done.Wallets++
		}
	}
	switch {
	case errors.Is(err, seal.ErrCorrupt):
		done.Corrupt = append(done.Corrupt, id)
	case errors.Is(err, ErrDeleted), errors.Is(err, ErrNotFound): // meanwhile
	default:
		return err
	}
	return nil
}
