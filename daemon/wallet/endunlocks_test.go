package wallet_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/wallet"
)

// unlockedWallets makes and unlocks one wallet for each uid.
func (b *bench) unlockedWallets(t *testing.T, uids ...uint32) (ids []seal.ID) {
	t.Helper()
	for _, uid := range uids {
		b.peer.UID = uid
		id := b.create(t, "r").Info.Header.Wallet
		if _, err := b.unlock(id, goodPIN, anything()); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	b.audit.events = nil
	return ids
}

func TestLockUIDs(t *testing.T) {
	b := newBench(t)
	ids := b.unlockedWallets(t, 1000, 1001, 1002)
	gone := func(uid uint32) bool { return uid != 1001 }
	for _, want := range []int{2, 0} {
		if n, err := b.LockUIDs(t.Context(), wallet.Peer{UID: 7}, gone); err != nil || n != want {
			t.Errorf("%d ended, %v, want %d", n, err, want)
		}
	}
	for n, id := range ids {
		b.peer.UID = uint32(1000 + n)
		if _, err := b.sign(unlocked(b, id, text, 1)); (err == nil) != (b.peer.UID == 1001) {
			t.Errorf("uid %d: %v", b.peer.UID, err)
		}
	}
	if lines := b.audit.lines(); lines[0] != "lockAll ok" || slices.Contains(lines[1:], "lockAll ok") {
		t.Errorf("the log has %q, want one line of the two unlocks", lines)
	}
}

// At a stop, and when the database is refused, nothing signs by an unlock any
// more, also not by one that is being made; the keys are wiped, and one line tells.
func TestCloseUnlocks(t *testing.T) {
	b := newBench(t)
	ids := b.unlockedWallets(t, 1000, 1000, 1001)[1:] // the first of the two is replaced
	b.peer.UID = 1000
	over := errors.New("it is over")
	var finish func() error
	b.token.during = map[string]func(){"Pepper": func() {
		end := b.CloseUnlocks(over)
		finish = func() error { return end(t.Context(), wallet.Peer{UID: 7}) }
	}}
	if _, err := b.unlock(ids[0], goodPIN, anything()); !errors.Is(err, over) {
		t.Errorf("an unlock that was being made: %v", err)
	}
	if _, err := b.sign(unlocked(b, ids[0], text, 1)); !errors.Is(err, over) {
		t.Errorf("a signature before the keys are wiped: %v", err)
	}
	if err := finish(); err != nil {
		t.Error(err)
	}
	b.token.during = nil
	if _, err := b.unlock(ids[0], goodPIN, anything()); !errors.Is(err, over) || b.Unlocks() != 0 {
		t.Errorf("another unlock: %v; %d are held", err, b.Unlocks())
	}
	if err := b.objectsLeft(); err != nil {
		t.Error(err)
	}
	if err := b.CloseUnlocks(errors.New("again"))(t.Context(), wallet.Peer{}); err != nil {
		t.Error(err)
	}
	ended := 0
	for _, line := range b.audit.lines() {
		if line == "lockAll ok" {
			ended++
		}
	}
	if ended != 1 {
		t.Errorf("the log has %q, want one lockAll", b.audit.lines())
	}
}

// A deletion, by PIN or by an operator, ends the unlocks for good.
func TestDeletionEndsUnlocks(t *testing.T) {
	for by, r := range map[string]wallet.DeleteRequest{"PIN": {PIN: []byte(goodPIN)}, "operator": {}} {
		t.Run(by, func(t *testing.T) {
			b := newBench(t)
			id := b.create(t, "r").Info.Header.Wallet
			if _, err := b.unlock(id, goodPIN, anything()); err != nil {
				t.Fatal(err)
			}
			r.Actor, r.RequestID, r.Wallet = wallet.Actor{Peer: b.peer, Operator: by == "operator"}, "d", id
			if _, err := b.Delete(t.Context(), &r); err != nil || b.Unlocks() != 0 {
				t.Errorf("%v; %d are unlocked", err, b.Unlocks())
			}
			if _, err := b.Restore(t.Context(), b.operator(), id); err != nil {
				t.Fatal(err)
			}
			if _, err := b.sign(unlocked(b, id, text, 1)); !errors.Is(err, wallet.ErrUnlockRequired) {
				t.Errorf("restored, by the unlock: %v", err)
			}
		})
	}
}

// A relay ends its own unlocks only, an operator everybody's.
func TestLockAll(t *testing.T) {
	b := newBench(t)
	b.unlockedWallets(t, 1000, 1001, 1002)
	if n, err := b.LockAll(t.Context(), wallet.Peer{UID: 1000}, false); n != 1 || err != nil || b.Unlocks() != 2 {
		t.Errorf("a relay ended %d, %v; %d are left", n, err, b.Unlocks())
	}
	if n, err := b.LockAll(t.Context(), b.operator().Peer, true); n != 2 || err != nil || b.Unlocks() != 0 {
		t.Errorf("an operator ended %d, %v; %d are left", n, err, b.Unlocks())
	}
	if err := b.objectsLeft(); err != nil {
		t.Error(err)
	}
}
