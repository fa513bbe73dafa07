package wallet

import (
	"context"
	"strconv"

	"github.com/sigild/sigild/daemon/seal"
)

// Lock ends the peer's unlock of a wallet, also one that is being made; true when
// there was one.
func (s *Service) Lock(ctx context.Context, peer Peer, wallet seal.ID) (bool, error) {
	if s.lock(ctx, only(unlockKey{wallet, peer.UID})) == 0 {
		return false, nil
	}
	return true, s.auditAnyway(ctx, Event{Action: "lock", Peer: peer, Wallet: wallet, Result: "ok"})
}

// LockAll ends every unlock of the peer, or of everybody, and says how many.
func (s *Service) LockAll(ctx context.Context, peer Peer, everybody bool) (int, error) {
	ended := s.lock(ctx, func(key unlockKey) bool { return everybody || key.uid == peer.UID })
	return ended, s.auditAnyway(ctx, lockedAll(peer, ended, "asked"))
}

// LockUIDs ends every unlock of the uids that match, whom the configuration does
// not let in any more. One line tells of all of them, if there are any.
func (s *Service) LockUIDs(ctx context.Context, by Peer, match func(uid uint32) bool) (int, error) {
	ended := s.lock(ctx, func(key unlockKey) bool { return match(key.uid) })
	if ended == 0 {
		return 0, nil
	}
	return ended, s.auditAnyway(ctx, lockedAll(by, ended, "not allowed any more"))
}

// lock ends the unlocks that match, and those that are being made, and says how many
// there were.
func (s *Service) lock(ctx context.Context, match func(unlockKey) bool) int {
	return s.unlocks.lock(match) + s.end(ctx, true, match)
}

// CloseUnlocks ends every unlock for good, and lets nobody make another: who asks
// for one gets reason. No signature by an unlock begins once it has returned, nor the
// next one of a batch. The function that it gives waits for those under way, wipes the
// keys, and writes one line, if there was any unlock.
func (s *Service) CloseUnlocks(reason error) (finish func(ctx context.Context, by Peer) error) {
	s.unlocks.close(reason)
	ended, others := s.unlocks.takeOut(true, func(unlockKey) bool { return true })
	stopAll(reason, ended)
	stopAll(reason, others)
	return func(ctx context.Context, by Peer) error {
		wiped := s.wipeOut(reason, ended...)
		await(others)
		if len(ended) == 0 {
			return nil
		}
		defer s.destroy(ctx, wiped) // last: at a stop the log-out does it too
		return s.auditAnyway(ctx, lockedAll(by, len(ended), reason.Error()))
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
	s.end(ctx, true, func(key unlockKey) bool { return key.wallet == wallet })
}

// only matches one unlock.
func only(key unlockKey) func(unlockKey) bool {
	return func(other unlockKey) bool { return other == key }
}

// end takes the unlocks that match out and destroys their keys once no signature uses
// them; cut has batches under way end at their next item. Where somebody else is ending
// one that matches, it waits for the signatures too: when it returns, none by any of
// them is under way.
func (s *Service) end(ctx context.Context, cut bool, match func(unlockKey) bool) int {
	ended, others := s.unlocks.takeOut(cut, match)
	stopAll(ErrUnlockRequired, others)
	s.finish(ctx, ErrUnlockRequired, ended...)
	await(others)
	return len(ended)
}

// endThis ends u unless another unlock has taken its place.
func (s *Service) endThis(ctx context.Context, key unlockKey, u *unlock, reason error) {
	if s.unlocks.remove(key, u) {
		s.finish(ctx, reason, u)
	}
}

// finish ends unlocks that were taken out.
func (s *Service) finish(ctx context.Context, reason error, ended ...*unlock) {
	s.destroy(ctx, s.wipeOut(reason, ended...))
}

// wipeOut stops all of the unlocks, then waits for the signatures under way and
// wipes the tweaks. It gives the session objects that are left.
func (s *Service) wipeOut(reason error, ended ...*unlock) (left []Object) {
	stopAll(reason, ended)
	await(ended)
	for _, u := range ended {
		u.keys.wipe()
		left = append(left, u.held.held...)
	}
	s.unlocks.gone(ended...)
	return left
}

// await waits for the signatures under way by unlocks that were stopped.
func await(ended []*unlock) {
	for _, u := range ended {
		u.using.Wait()
	}
}

// destroy removes session objects also for a caller that is gone. A failure
// closes their sessions, which destroys them too.
func (s *Service) destroy(ctx context.Context, left []Object) {
	_ = s.Token.Destroy(context.WithoutCancel(ctx), left...)
}

func stopAll(reason error, ended []*unlock) {
	for _, u := range ended {
		u.stop(reason)
	}
}

// revoked says why no further item of a batch may be signed, nil while one may.
func (u *unlock) revoked() error {
	if !u.cut.Load() {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ended != nil {
		return u.ended
	}
	return ErrUnlockRequired // it is being stopped
}

// stop lets no further signature use the unlock. The first reason stays.
func (u *unlock) stop(reason error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ended != nil {
		return
	}
	u.ended = reason
	u.timer.Stop()
	if u.hangup != nil {
		u.hangup()
	}
}
