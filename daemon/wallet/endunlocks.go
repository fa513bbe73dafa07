package wallet

import (
	"context"
	"strconv"

	"github.com/sigild/sigild/daemon/seal"
)

// Lock ends the peer's unlock of a wallet; true when there was one.
func (s *Service) Lock(ctx context.Context, peer Peer, wallet seal.ID) (bool, error) {
	if !s.end(ctx, unlockKey{wallet, peer.UID}, ErrUnlockRequired) {
		return false, nil
	}
	return true, s.audit(ctx, Event{Action: "lock", Peer: peer, Wallet: wallet, Result: "ok"})
}

// LockAll ends every unlock of the peer, or of everybody, and says how many.
func (s *Service) LockAll(ctx context.Context, peer Peer, everybody bool) (int, error) {
	ended := s.unlocks.takeOut(func(uid uint32) bool { return everybody || uid == peer.UID })
	s.finish(ctx, ErrUnlockRequired, ended...)
	return len(ended), s.audit(ctx, lockedAll(peer, len(ended), "asked"))
}

// LockUIDs ends every unlock of the uids that match, whom the configuration does
// not let in any more. One line tells of all of them, if there are any.
func (s *Service) LockUIDs(ctx context.Context, by Peer, match func(uid uint32) bool) (int, error) {
	ended := s.unlocks.takeOut(match)
	s.finish(ctx, ErrUnlockRequired, ended...)
	if len(ended) == 0 {
		return 0, nil
	}
	return len(ended), s.audit(ctx, lockedAll(by, len(ended), "not allowed any more"))
}

// CloseUnlocks ends every unlock for good, and lets nobody make another: who asks
// for one gets reason. No signature by an unlock begins once it has returned. The
// function that it gives waits for those under way, wipes the keys, and writes
// one line, if there was any unlock.
func (s *Service) CloseUnlocks(reason error) (finish func(ctx context.Context, by Peer) error) {
	ended := s.unlocks.close(reason)
	for _, u := range ended {
		u.stop(reason)
	}
	return func(ctx context.Context, by Peer) error {
		if len(ended) == 0 {
			return nil
		}
		wiped := wipeOut(reason, ended...)
		defer s.destroy(ctx, wiped) // last: at a stop the log-out does it too
		return s.audit(ctx, lockedAll(by, len(ended), reason.Error()))
	}
}

func lockedAll(by Peer, wallets int, why string) Event {
	return Event{Action: "lockAll", Peer: by, Result: "ok", Detail: map[string]string{"wallets": strconv.Itoa(wallets), "why": why}}
}

// Unlocks is how many wallets are unlocked.
func (s *Service) Unlocks() int { return len(s.unlocks.keys()) }

// UnlocksOfOne is how many of them the uid holds that holds most.
func (s *Service) UnlocksOfOne() int { return s.unlocks.mostOfOne() }

// endWallet ends every unlock of a wallet, whoever holds it, and the standing of what
// was made with its keys: it was frozen or deleted, or its PIN or policy was changed.
func (s *Service) endWallet(ctx context.Context, wallet seal.ID) {
	s.changes.of(wallet).Add(1)
	for _, key := range s.unlocks.keys() {
		if key.wallet == wallet {
			s.end(ctx, key, ErrUnlockRequired)
		}
	}
}

// end takes an unlock out and destroys its keys once no signature uses them.
func (s *Service) end(ctx context.Context, key unlockKey, reason error) bool {
	u := s.unlocks.remove(key, nil)
	if u != nil {
		s.finish(ctx, reason, u)
	}
	return u != nil
}

// endThis ends u unless another unlock has taken its place.
func (s *Service) endThis(ctx context.Context, key unlockKey, u *unlock, reason error) {
	if s.unlocks.remove(key, u) != nil {
		s.finish(ctx, reason, u)
	}
}

// finish ends unlocks that were taken out.
func (s *Service) finish(ctx context.Context, reason error, ended ...*unlock) {
	s.destroy(ctx, wipeOut(reason, ended...))
}

// wipeOut stops all of the unlocks, then waits for the signatures under way and
// wipes the tweaks. It gives the session objects that are left.
func wipeOut(reason error, ended ...*unlock) (left []Object) {
	for _, u := range ended {
		u.stop(reason)
	}
	for _, u := range ended {
		u.using.Wait()
		u.keys.wipe()
		left = append(left, u.held.held...)
	}
	return left
}

// destroy removes session objects also for a caller that is gone. A failure
// closes their sessions, which destroys them too.
func (s *Service) destroy(ctx context.Context, left []Object) {
	_ = s.Token.Destroy(context.WithoutCancel(ctx), left...)
}

// stop lets no further signature use the unlock.
func (u *unlock) stop(reason error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ended = reason
	u.timer.Stop()
	if u.hangup != nil {
		u.hangup()
	}
}
