package wallet_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/sigild/sigild/daemon/guard"
	"github.com/sigild/sigild/daemon/wallet"
)

// A change that changes nothing takes no step of the TPM's counter, and is
// acknowledged only when the change that made it so is confirmed.
func TestNoChangeTakesNoStep(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	id := b.create(t, "r").Info.Header.Wallet
	label, tags := "savings", []string{"a", "b"}
	changes := map[string]func() (*wallet.Info, error){
		"update": func() (*wallet.Info, error) {
			return b.Update(ctx, b.peer, id, &wallet.Update{Label: &label, Tags: &tags})
		},
		"label account": func() (*wallet.Info, error) { return b.LabelAccount(ctx, b.peer, id, 0, "main") },
		"freeze":        func() (*wallet.Info, error) { return b.Freeze(ctx, wallet.Actor{Peer: b.peer}, id, "relay") },
	}
	for _, name := range []string{"update", "label account", "freeze"} {
		first, err := changes[name]()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		before, _ := b.steps.Read(ctx)
		again, err := changes[name]()
		if err != nil || again.State.Revision != first.State.Revision {
			t.Errorf("%s again: %+v, %v", name, again, err)
		}
		if after, _ := b.steps.Read(ctx); after != before {
			t.Errorf("%s again took %d steps", name, after-before)
		}
	}
	b.Service.Store = unsettled{b.store}
	for name, change := range changes {
		if _, err := change(); !errors.Is(err, guard.ErrUnconfirmed) {
			t.Errorf("%s again, while it is not confirmed: %v", name, err)
		}
	}
}

// unsettled has a change that the TPM did not confirm yet.
type unsettled struct{ wallet.Store }

func (unsettled) Settled(context.Context) error { return guard.ErrUnconfirmed }

// One relay cannot wear the TPM out by changes that need no PIN, and keeps no
// other from making theirs. What changes nothing is not counted.
func TestChangesAreRated(t *testing.T) {
	b := newBench(t)
	ids := map[uint32]*wallet.Created{}
	for _, uid := range []uint32{1000, 1001} {
		b.peer.UID = uid
		ids[uid] = b.create(t, "r")
	}
	update := func(uid uint32, label string) error {
		_, err := b.Update(t.Context(), wallet.Peer{UID: uid}, ids[uid].Info.Header.Wallet, &wallet.Update{Label: &label})
		return err
	}
	var rated *wallet.RateError
	made := 1 // the creation
	for ; rated == nil && made < 1000; made++ {
		if err := update(1000, fmt.Sprint(made)); err != nil && !errors.As(err, &rated) {
			t.Fatal(err)
		}
	}
	if made < 60 || rated == nil || rated.After <= 0 || rated.After > time.Second {
		t.Fatalf("after %d changes: %+v, want 60 at once and then to wait up to a second", made, rated)
	}
	before := b.peer
	b.peer.UID = 1000
	if _, err := b.Create(t.Context(), b.creation("another")); !errors.As(err, &rated) {
		t.Errorf("a creation beyond the rate: %v", err)
	}
	if c, err := b.Create(t.Context(), b.creation("r")); err != nil || !c.Existing {
		t.Errorf("a retry, which changes nothing: %v", err)
	}
	if _, err := b.Freeze(t.Context(), wallet.Actor{Peer: b.peer}, ids[1000].Info.Header.Wallet, "relay"); err != nil {
		t.Errorf("a freeze, which no rate may stop: %v", err)
	}
	b.peer = before
	if err := update(1001, "mine"); err != nil {
		t.Errorf("another relay: %v", err)
	}
}
