package wallet_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sigild/sigild/daemon/guard"
	"github.com/sigild/sigild/daemon/policy"
	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/wallet"
)

// acknowledged are the changes that are answered, by their lines. Each can be
// repeated.
func acknowledged(b *bench, id seal.ID) map[string]func() error {
	ctx := context.Background()
	relay := wallet.Actor{Peer: b.peer}
	label := "another"
	result := func(_ any, err error) error { return err }
	return map[string]func() error{
		"createWallet": func() error { return result(b.Create(ctx, b.creation("second"))) },
		"deriveAccount": func() error {
			return result(b.Derive(ctx, &wallet.DeriveRequest{Peer: b.peer, RequestID: "a", Wallet: id, Count: 1, PIN: []byte(goodPIN)}))
		},
		"changePin": func() error {
			return result(b.ChangePIN(ctx, &wallet.ChangePINRequest{Peer: b.peer, RequestID: "c", Wallet: id,
				PIN: []byte(goodPIN), NewPIN: []byte("518263")}))
		},
		"setPolicy": func() error {
			return result(b.SetPolicy(ctx, &wallet.SetPolicyRequest{Peer: b.peer, RequestID: "s", Wallet: id,
				Policy: policy.Policy{Operations: []policy.Operation{policy.Message}}, PIN: []byte(goodPIN)}))
		},
		"deleteWallet": func() error {
			return result(b.Delete(ctx, &wallet.DeleteRequest{Actor: relay, RequestID: "d", Wallet: id, PIN: []byte(goodPIN)}))
		},
		"freeze":        func() error { return result(b.Freeze(ctx, relay, id, "relay")) },
		"unfreeze":      func() error { return result(b.Unfreeze(ctx, b.operator(), id, "")) },
		"restoreWallet": func() error { return result(b.Restore(ctx, b.operator(), id)) },
		"update":        func() error { return result(b.Update(ctx, b.peer, id, &wallet.Update{Label: &label})) },
		"labelAccount":  func() error { return result(b.LabelAccount(ctx, b.peer, id, 0, label)) },
		"purgeWallet": func() error {
			b.now = b.now.Add(2 * time.Hour)
			return result(b.Purge(ctx, b.peer, time.Hour))
		},
	}
}

// undoes says which change one needs to come before it, if any.
func undoes(name string) string {
	return map[string]string{"unfreeze": "freeze", "restoreWallet": "deleteWallet", "purgeWallet": "deleteWallet"}[name]
}

// A change whose line could not be written is not acknowledged, and neither is
// its retry before it has one.
func TestNothingIsAcknowledgedWithoutALine(t *testing.T) {
	for name := range acknowledged(&bench{}, seal.ID{}) {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			changes := acknowledged(b, b.create(t, "r").Info.Header.Wallet)
			change := changes[name]
			if undone := undoes(name); undone != "" {
				if err := changes[undone](); err != nil {
					t.Fatal(err)
				}
			}
			full := errors.New("disk full")
			b.audit.err = full
			for range 2 {
				if err := change(); !errors.Is(err, full) {
					t.Errorf("acknowledged without a line: %v", err)
				}
			}
			b.audit.err = nil
			b.audit.events = nil
			if err := change(); err != nil {
				t.Fatalf("the retry: %v", err)
			}
			if lines := b.audit.lines(); !slices.Contains(lines, name+" ok") {
				t.Errorf("acknowledged, and the log has %q", lines)
			}
		})
	}
}

// What the TPM did not confirm has a line that says so, and another one when its
// retry is acknowledged.
func TestUnconfirmedChangesHaveTheirLines(t *testing.T) {
	for name := range acknowledged(&bench{}, seal.ID{}) {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			changes := acknowledged(b, b.create(t, "r").Info.Header.Wallet)
			change := changes[name]
			if undone := undoes(name); undone != "" {
				if err := changes[undone](); err != nil {
					t.Fatal(err)
				}
			}
			b.Service.Store = &unanchored{Store: b.store, once: true}
			b.audit.events = nil
			if err := change(); !errors.Is(err, guard.ErrUnanchored) {
				t.Fatalf("%v, want ErrUnanchored", err)
			}
			if lines := b.audit.lines(); !slices.Contains(lines, name+" "+guard.ErrUnanchored.Error()) {
				t.Errorf("unconfirmed, and the log has %q", lines)
			}
			if err := change(); err != nil {
				t.Fatalf("the retry: %v", err)
			}
			if lines := b.audit.lines(); name != "purgeWallet" && lines[len(lines)-1] != name+" ok" { // a purge leaves nothing to retry
				t.Errorf("acknowledged, and the log has %q", lines)
			}
		})
	}
}

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
