package wallet

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sigild/sigild/daemon/seal"
)

// ByAll is who froze a wallet that FreezeAll froze, so that an operator can take
// that back and nothing else.
const ByAll = "freezeAll"

const (
	everything = 256 // how many wallets FreezeAll reads at a time
	atOnce     = 32  // and freezes at a time: they share transactions and steps of the anchor
)

// FreezeProgress is how far one call of FreezeAll came.
type FreezeProgress struct {
	Wallets int       // were frozen by it
	Corrupt []seal.ID // have a record that was changed outside the daemon; they do not sign
	Next    *seal.ID  // go on after this one; nil: all are done
}

// FreezeAll freezes the wallets of all relays, by id, after one. From its first
// moment on no wallet is used: all unlocks end, and what waits is refused. When
// budget has passed it says where to go on: many wallets take longer than one
// request may, and no wallet is used for some seconds more, in which the next call
// comes. A corrupt record does not stop it, a device that does not answer does.
// Repeated, it skips what is frozen already.
func (s *Service) FreezeAll(ctx context.Context, a Actor, after *seal.ID, budget time.Duration) (*FreezeProgress, error) {
	return s.freezeAll(ctx, a, after, budget, everything)
}

func (s *Service) freezeAll(ctx context.Context, a Actor, after *seal.ID, budget time.Duration, atATime int) (_ *FreezeProgress, err error) {
	end := time.Now().Add(budget)
	done := &FreezeProgress{Next: after}
	unmark := s.freezing.markAll(after)
	defer func() { unmark(done.Next, err) }()
	if err := s.lockEverybody(ctx, a.Peer); err != nil {
		return nil, err
	}
	for {
		ids, err := s.Store.Everything(ctx, done.Next, atATime)
		if err != nil {
			return nil, err
		}
		if len(ids) == 0 {
			done.Next = nil
			// What was frozen before this call may wait for the TPM's confirmation yet.
			return done, s.Store.Settled(ctx)
		}
		if err := s.freezeThese(ctx, a, ids, done); err != nil {
			return nil, err
		}
		if done.Next = &ids[len(ids)-1]; !time.Now().Before(end) {
			return done, s.Store.Settled(ctx)
		}
	}
}

func (s *Service) lockEverybody(ctx context.Context, by Peer) error {
	ended := s.lock(ctx, func(unlockKey) bool { return true })
	if ended == 0 {
		return nil
	}
	return s.auditAnyway(ctx, lockedAll(by, ended, "all wallets are being frozen"))
}

// freezeThese freezes several wallets at a time. After a fault it begins no more.
func (s *Service) freezeThese(ctx context.Context, a Actor, ids []seal.ID, done *FreezeProgress) error {
	var workers sync.WaitGroup
	var mu sync.Mutex // over done and failed
	var failed error
	next := make(chan seal.ID)
	for range min(atOnce, len(ids)) {
		workers.Go(func() {
			for id := range next {
				frozen, err := s.freezeOnce(ctx, a, id)
				mu.Lock()
				switch {
				case errors.Is(err, seal.ErrCorrupt):
					done.Corrupt = append(done.Corrupt, id)
				case err != nil && failed == nil:
					failed = fmt.Errorf("wallet %x: %w", id, err)
				case frozen:
					done.Wallets++
				}
				mu.Unlock()
			}
		})
	}
	over := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return failed != nil
	}
	for _, id := range ids {
		if over() {
			break
		}
		next <- id
	}
	close(next)
	workers.Wait()
	return failed
}

// freezeOnce freezes a wallet that is neither frozen nor deleted.
func (s *Service) freezeOnce(ctx context.Context, a Actor, id seal.ID) (frozen bool, err error) {
	p, err := s.loadFor(ctx, a, id)
	if err == nil && usable(p) == nil {
		_, err = s.freeze(ctx, a, id, ByAll)
		frozen = err == nil
	}
	if errors.Is(err, ErrDeleted) || errors.Is(err, ErrNotFound) { // meanwhile
		return false, nil
	}
	return frozen, err
}
