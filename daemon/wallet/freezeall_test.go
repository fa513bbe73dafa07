package wallet_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/sigild/sigild/daemon/guard"
	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/wallet"
)

// FreezeAll freezes every relay's wallets, goes on where its time ended, and is
// not stopped by a record that somebody changed.
func TestFreezeAll(t *testing.T) {
	b := newBench(t)
	ctx := context.Background()
	for n := range 4 {
		b.peer.UID = uint32(1000 + n%2)
		b.create(t, fmt.Sprint("r-", n))
	}
	b.peer.UID = 1002
	b.spoil(t, b.create(t, "spoilt").Info.Header.Wallet)

	var total wallet.FreezeProgress
	calls := 0
	for next := total.Next; calls == 0 || next != nil; calls++ {
		done, err := b.FreezeAllBy(ctx, b.operator(), next, 0, 1)
		if err != nil {
			t.Fatal(err)
		}
		total.Wallets, total.Corrupt, next = total.Wallets+done.Wallets, append(total.Corrupt, done.Corrupt...), done.Next
	}
	if total.Wallets != 4 || len(total.Corrupt) != 1 || calls != 6 {
		t.Errorf("%d frozen, %x corrupt in %d calls, want 4, one, 6", total.Wallets, total.Corrupt, calls)
	}
	for _, uid := range []uint32{1000, 1001} {
		list, err := b.List(ctx, wallet.Peer{UID: uid}, wallet.Page{Limit: 10}, wallet.Frozen)
		if err != nil || len(list.Wallets) != 2 {
			t.Errorf("uid %d: %+v, %v, want two frozen wallets", uid, list, err)
		}
	}
	all, err := b.FreezeAll(ctx, b.operator(), nil, time.Hour)
	if err != nil || all.Wallets != 0 || len(all.Corrupt) != 1 || all.Next != nil {
		t.Errorf("again, in one call: %+v, %v", all, err)
	}
}

// From the first moment of FreezeAll on no wallet is used, also one that it has not
// come to: unlocks end, what waits is refused, and so it stays until the next call.
func TestFreezeAllStopsEverythingFirst(t *testing.T) {
	b := newBench(t)
	b.unlockedWallets(t, 1000, 1002)
	b.peer.UID = 1001
	other := b.create(t, "other").Info.Header.Wallet
	begun, goOn := make(chan struct{}), make(chan struct{})
	b.audit.before = func(e wallet.Event) {
		if e.Action == "lockAll" {
			close(begun)
			<-goOn
		}
	}
	done := make(chan error, 1)
	var progress *wallet.FreezeProgress
	go func() {
		var err error
		progress, err = b.FreezeAllBy(context.Background(), b.operator(), nil, 0, 1)
		done <- err
	}()
	<-begun
	if b.Unlocks() != 0 {
		t.Errorf("%d are unlocked", b.Unlocks())
	}
	if _, err := b.sign(message(b, other, 0, goodPIN, [32]byte{1})); !errors.Is(err, wallet.ErrFrozen) {
		t.Errorf("before any wallet is frozen: %v", err)
	}
	close(goOn)
	if err := <-done; err != nil || progress.Next == nil {
		t.Fatalf("%+v, %v", progress, err)
	}
	if _, err := b.sign(message(b, other, 0, goodPIN, [32]byte{2})); !errors.Is(err, wallet.ErrFrozen) {
		t.Errorf("between two calls: %v", err)
	}
	if _, err := b.FreezeAll(t.Context(), b.operator(), nil, time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Unfreeze(t.Context(), b.operator(), other, wallet.ByAll); err != nil {
		t.Fatal(err)
	}
	if _, err := b.sign(message(b, other, 0, goodPIN, [32]byte{3})); err != nil {
		t.Errorf("all are frozen and this one unfrozen: %v", err)
	}
}

// A freeze of all wallets that fails leaves another one, between two of its calls, as
// it is: no wallet is used.
func TestFreezeAllFailsBesideAnother(t *testing.T) {
	b := newBench(t)
	wallets := []seal.ID{b.create(t, "first").Info.Header.Wallet, b.create(t, "second").Info.Header.Wallet}
	progress, err := b.FreezeAllBy(t.Context(), b.operator(), nil, 0, 1)
	if err != nil || progress.Next == nil {
		t.Fatalf("%+v, %v", progress, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.FreezeAll(ended, b.operator(), nil, time.Hour); err == nil {
		t.Fatal("a freeze whose caller went away did not fail")
	}
	refused := func(id seal.ID) bool {
		_, err := b.sign(message(b, id, 0, goodPIN, [32]byte{1}))
		return errors.Is(err, wallet.ErrFrozen)
	}
	for n, id := range wallets {
		if !refused(id) {
			t.Errorf("wallet %d is used", n)
		}
	}
	if done, err := b.FreezeAllBy(t.Context(), b.operator(), progress.Next, time.Hour, 1); err != nil || done.Next != nil {
		t.Fatalf("%+v, %v", done, err)
	}
	if _, err := b.Unfreeze(t.Context(), b.operator(), wallets[0], wallet.ByAll); err != nil || refused(wallets[0]) {
		t.Errorf("all are frozen and this one unfrozen: it is refused, %v", err)
	}
}

// What FreezeAll froze can be told from what somebody froze for its own sake,
// before or after it.
func TestUnfreezeWhatFreezeAllFroze(t *testing.T) {
	b := newBench(t)
	relay := wallet.Actor{Peer: b.peer}
	only, before, after := b.create(t, "r0").Info.Header.Wallet, b.create(t, "r1").Info.Header.Wallet, b.create(t, "r2").Info.Header.Wallet
	freeze := func(id seal.ID) {
		t.Helper()
		if _, err := b.Freeze(t.Context(), relay, id, "relay"); err != nil {
			t.Fatal(err)
		}
	}
	freeze(before)
	if done, err := b.FreezeAll(t.Context(), b.operator(), nil, time.Hour); err != nil || done.Wallets != 2 {
		t.Fatalf("%+v, %v", done, err)
	}
	freeze(after)
	for id, want := range map[seal.ID]wallet.Status{only: wallet.Active, before: wallet.Frozen, after: wallet.Frozen} {
		if info, err := b.Unfreeze(t.Context(), b.operator(), id, wallet.ByAll); err != nil || info.Status() != want {
			t.Errorf("%+v, %v, want %s", info, err, want)
		}
	}
}

// Many wallets share transactions and steps of the anchor.
func TestFreezeAllIsBatched(t *testing.T) {
	b := newBench(t)
	for n := range 40 {
		b.peer.UID = uint32(1000 + n%4)
		b.create(t, fmt.Sprint("r-", n))
	}
	before, _ := b.steps.Read(t.Context())
	if done, err := b.FreezeAll(t.Context(), b.operator(), nil, time.Hour); err != nil || done.Wallets != 40 {
		t.Fatalf("%+v, %v", done, err)
	}
	if after, _ := b.steps.Read(t.Context()); after-before > 20 {
		t.Errorf("%d steps of the anchor for 40 wallets", after-before)
	}
}

// spoil changes a wallet's record as somebody who can write the file would.
func (b *bench) spoil(t *testing.T, id seal.ID) {
	t.Helper()
	ctx := context.Background()
	record, err := b.store.Record(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	changed := append([]byte(nil), record...)
	changed[len(changed)-1] ^= 1
	if err := b.store.Replace(ctx, wallet.Change{Wallet: id, Prev: record, Next: changed}); err != nil {
		t.Fatal(err)
	}
}

// What an earlier call froze is not told as done before the TPM confirmed it.
func TestFreezeAllWaitsForTheTPM(t *testing.T) {
	b := newBench(t)
	b.create(t, "r")
	if _, err := b.FreezeAll(context.Background(), b.operator(), nil, time.Minute); err != nil {
		t.Fatal(err)
	}
	b.Service.Store = unsettled{b.store}
	if done, err := b.FreezeAll(context.Background(), b.operator(), nil, time.Minute); !errors.Is(err, guard.ErrUnconfirmed) {
		t.Errorf("%+v, %v", done, err)
	}
}
