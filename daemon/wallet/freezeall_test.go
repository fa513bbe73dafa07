package wallet_test

import (
	"context"
	"fmt"
	"testing"
	"time"

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
		done, err := b.FreezeAll(ctx, b.operator(), "operator", next, 0)
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
	all, err := b.FreezeAll(ctx, b.operator(), "operator", nil, time.Hour)
	if err != nil || all.Wallets != 0 || len(all.Corrupt) != 1 || all.Next != nil {
		t.Errorf("again, in one call: %+v, %v", all, err)
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
