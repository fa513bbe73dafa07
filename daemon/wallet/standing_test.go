package wallet_test

import (
	"testing"

	"github.com/sigild/sigild/daemon/wallet"
)

// What was signed, or taken out, stands until the wallet's right to sign is taken
// away, and in spite of everything else.
func TestStandingEndsWithTheRight(t *testing.T) {
	for change := range changesOfRights(nil, [16]byte{}) {
		b := custodyBench(t)
		r := b.creation("r")
		r.Exportable = true
		id := b.bringIn(t, r).Info.Header.Wallet
		request := message(b, id, 0, goodPIN, [32]byte{1})
		_, _, err := b.Service.Sign(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		out, err := b.takeOut(id, 0, goodPIN, &taker{})
		if err != nil {
			t.Fatal(err)
		}
		holds := func(when string, want bool) {
			t.Helper()
			if request.Standing.Holds() != want || out.Standing.Holds() != want {
				t.Errorf("%s: %v and %v", when, request.Standing.Holds(), out.Standing.Holds())
			}
		}
		b.doWhatTakesNothing(t, id)
		holds("before "+change, true)
		if err := changesOfRights(b, id)[change](t.Context()); err != nil {
			t.Fatal(err)
		}
		holds("after "+change, change == "lock" || change == "lockAll") // these end unlocks
	}
}

// A key that was taken out is not given again once the operator lets none out.
func TestNoKeyStandsThatMayNotLeave(t *testing.T) {
	b := custodyBench(t)
	r := b.creation("r")
	r.Exportable = true
	out, err := b.takeOut(b.bringIn(t, r).Info.Header.Wallet, 0, goodPIN, &taker{})
	if err != nil || !out.Standing.Holds() {
		t.Fatalf("%+v, %v", out, err)
	}
	b.allowed.Export = false
	if out.Standing.Holds() {
		t.Error("it stands")
	}
}

// doWhatTakesNothing changes the wallet, and another one, without taking a right away.
func (b *bench) doWhatTakesNothing(t *testing.T, id [16]byte) {
	t.Helper()
	name := "name"
	if _, err := b.Update(t.Context(), b.peer, id, &wallet.Update{Label: &name}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Derive(t.Context(), &wallet.DeriveRequest{Peer: b.peer, RequestID: "a", Wallet: id, Count: 1, PIN: []byte(goodPIN)}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.unlock(id, goodPIN, anything()); err != nil {
		t.Fatal(err)
	}
	other := b.create(t, "other").Info.Header.Wallet
	if other[0] == id[0] && other[1] == id[1] {
		return // they share a count
	}
	if _, err := b.Freeze(t.Context(), wallet.Actor{Peer: b.peer}, other, "relay"); err != nil {
		t.Fatal(err)
	}
}

// While a freeze waits for its turn nothing is used any more, and what was made
// does not stand; a signature that was made meanwhile falls with the freeze.
func TestNothingStandsDuringAFreeze(t *testing.T) {
	b := newBench(t)
	id := b.create(t, "r").Info.Header.Wallet
	early := message(b, id, 0, goodPIN, [32]byte{1})
	if _, _, err := b.Service.Sign(t.Context(), early); err != nil {
		t.Fatal(err)
	}
	turns := b.askedTurns()
	late := message(b, id, 0, goodPIN, [32]byte{2})
	var frozen chan error
	b.audit.before = func(e wallet.Event) {
		if e.Action != "sign" {
			return
		}
		turns.await(1) // the signature's own
		frozen = b.freezes(id)
		turns.await(1)
		if early.Standing.Holds() || late.Standing.Holds() {
			t.Error("a signature stands while the wallet is being frozen")
		}
	}
	if _, _, err := b.Service.Sign(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	if err := <-frozen; err != nil {
		t.Fatal(err)
	}
	if early.Standing.Holds() || late.Standing.Holds() {
		t.Error("a signature stands after the freeze")
	}
}
