package wallet_test

import (
	"context"
	"errors"
	"slices"
	"testing"

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
		"unfreeze":      func() error { return result(b.Unfreeze(ctx, b.operator(), id)) },
		"restoreWallet": func() error { return result(b.Restore(ctx, b.operator(), id)) },
		"update":        func() error { return result(b.Update(ctx, b.peer, id, &wallet.Update{Label: &label})) },
		"labelAccount":  func() error { return result(b.LabelAccount(ctx, b.peer, id, 0, label)) },
	}
}

// A change whose line could not be written is not acknowledged, and neither is
// its retry before it has one.
func TestNothingIsAcknowledgedWithoutALine(t *testing.T) {
	for name := range acknowledged(&bench{}, seal.ID{}) {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			change := acknowledged(b, b.create(t, "r").Info.Header.Wallet)[name]
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
			if undone := map[string]string{"unfreeze": "freeze", "restoreWallet": "deleteWallet"}[name]; undone != "" {
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
			if lines := b.audit.lines(); lines[len(lines)-1] != name+" ok" {
				t.Errorf("acknowledged, and the log has %q", lines)
			}
		})
	}
}
