package wallet_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/wallet"
)

// A repetition is answered to the PIN that opens the wallet, whoever had the
// request carried out.
func TestRepetitionChecksThePIN(t *testing.T) {
	b := newBench(t)
	id := b.create(t, "r").Info.Header.Wallet
	again := b.creation("r")
	again.PIN = []byte("775533")
	var wrong *wallet.PINError
	if c, err := b.Create(t.Context(), again); c != nil || !errors.As(err, &wrong) || wrong.Attempts.Left != 9 {
		t.Fatalf("a wrong PIN: %+v, %v", c, err)
	}
	last := b.audit.events[len(b.audit.events)-1]
	if last.Action != "createWallet" || last.Wallet != id || last.Result != "wrong PIN" {
		t.Errorf("audited as %+v", last)
	}
	c, err := b.Create(t.Context(), b.creation("r"))
	if err != nil || !c.Existing || c.Info.Header.Wallet != id || c.Info.Attempts.Left != 10 {
		t.Errorf("the right PIN: %+v, %v", c, err)
	}
	again.PIN = nil
	if c, err := b.Create(t.Context(), again); c != nil || !errors.Is(err, seal.ErrPINSyntax) {
		t.Errorf("without a PIN: %+v, %v", c, err)
	}
}

// A change of the PIN that is asked for again while it is made, and after it, is
// made once; the old PIN, which is the wrong one by then, costs nothing.
func TestRepetitionWaitsForTheFirst(t *testing.T) {
	b := newBench(t)
	id := b.create(t, "r").Info.Header.Wallet
	r := &wallet.ChangePINRequest{Peer: b.peer, RequestID: "c", Wallet: id, PIN: []byte(goodPIN), NewPIN: []byte("518263")}
	var wg sync.WaitGroup
	made := make(chan bool, 8)
	for range cap(made) {
		wg.Go(func() {
			c, err := b.ChangePIN(t.Context(), r)
			if err != nil {
				t.Error(err)
				return
			}
			made <- !c.Existing
		})
	}
	wg.Wait()
	close(made)
	n := 0
	for first := range made {
		if first {
			n++
		}
	}
	if n != 1 {
		t.Errorf("the change was made %d times", n)
	}
	for _, e := range b.audit.events {
		if e.Result != "ok" {
			t.Errorf("audited: %+v", e)
		}
	}
}

// The same for deletions.
func TestRepeatedDeletionsAtTheSameTime(t *testing.T) {
	b := newBench(t)
	id := b.create(t, "r").Info.Header.Wallet
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := b.Delete(t.Context(), &wallet.DeleteRequest{Actor: wallet.Actor{Peer: b.peer}, RequestID: "d", Wallet: id, PIN: []byte(goodPIN)}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
