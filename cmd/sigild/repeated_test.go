package main

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/ipc"
	"github.com/sigild/sigild/ipc/ipctest"
)

// relayPIN is one that a relay chose, in the hope of a user's wallet.
const relayPIN = "739146"

// P5: a relay makes the user's wallet beforehand, with its own PIN. What it then
// hands on to the user is no proof of a wallet that the user's PIN opens.
func TestP5RelayCreatesBeforehand(t *testing.T) {
	h, plain := serving(t)
	params := ipc.CreateWalletParams{RequestID: "signup", Owner: "alice", PIN: ipc.Secret(relayPIN)}
	relays, err := dialSealed(t, h, h.Socket).CreateWallet(testContext(t), params)
	if err != nil {
		t.Fatal(err)
	}
	id := relays.Wallet.WalletID
	user := dialSealed(t, h, h.Socket)
	params.PIN = ipc.Secret(rightPIN)
	r, err := user.CreateWallet(testContext(t), params)
	if e := wantReason(t, err, "wrongPin"); r != nil || *e.AttemptsLeft != 9 || !e.Proven {
		t.Errorf("the user gets %+v, %+v", r, e)
	}
	if n := auditedAs(t, h, "createWallet", "wrong PIN"); n != 1 {
		t.Errorf("%d lines in the audit log", n)
	}
	javaScriptCannotTell(t, h, `{"requestId":"signup","owner":"alice"}`)
	params.PIN = ipc.Secret(relayPIN) // whose wallet it is
	again, err := user.CreateWallet(testContext(t), params)
	if err != nil || !again.Existing || !bytes.Equal(again.Wallet.WalletID, id) || again.Receipt.Statement != relays.Receipt.Statement {
		t.Errorf("%+v, %v", again, err)
	}
	if left := attemptsLeft(t, plain, id); left != 10 {
		t.Errorf("%d attempts left after the right PIN", left)
	}
}

// javaScriptCannotTell has the JavaScript client ask for a wallet that has
// another PIN.
func javaScriptCannotTell(t *testing.T, h *daemontest.Host, params string) {
	t.Helper()
	if !ipctest.JavaScriptClient(t) {
		return
	}
	o := askJavaScript(t, h, &ipctest.Relay{}, ipc.MethodCreateWallet, params, rightPIN)
	if o.Error != "SigildError" || o.Reason != "wrongPin" || !o.Proven || o.Result != nil {
		t.Errorf("JavaScript: %+v", o)
	}
}

// P5: two creations under one request id at the same time, with two PINs: one
// of them is told that its PIN is wrong.
func TestP5RelayCreatesAtTheSameTime(t *testing.T) {
	h, plain := serving(t)
	results := make(chan error, 2)
	for _, pin := range []string{relayPIN, rightPIN} {
		c := dialSealed(t, h, h.Socket)
		go func() {
			_, err := c.CreateWallet(testContext(t), ipc.CreateWalletParams{RequestID: "1", Owner: "alice", PIN: ipc.Secret(pin)})
			results <- err
		}()
	}
	one, other := <-results, <-results
	if one != nil {
		one, other = other, one
	}
	if one != nil {
		t.Fatal(one, other)
	}
	wantReason(t, other, "wrongPin")
	if n := countWallets(t, plain); n != 1 {
		t.Errorf("%d wallets", n)
	}
}

// repetition is a request that is made twice. The second one is sealed anew.
type repetition struct {
	ask  func(ctx context.Context, c *ipc.Client, w *ipc.WalletInfo, pin, next string) (existing bool, err error)
	next string // the PIN that opens the wallet afterwards
}

func repetitions() map[string]repetition {
	changed := func(r *ipc.ChangedWalletResult, err error) (bool, error) { return r != nil && r.Existing, err }
	return map[string]repetition{
		"derive": {func(ctx context.Context, c *ipc.Client, w *ipc.WalletInfo, pin, _ string) (bool, error) {
			r, err := c.DeriveAccount(ctx, ipc.DeriveAccountParams{RequestID: "1", WalletID: w.WalletID, PIN: ipc.Secret(pin)})
			return r != nil && r.Existing, err
		}, rightPIN},
		"policy": {func(ctx context.Context, c *ipc.Client, w *ipc.WalletInfo, pin, _ string) (bool, error) {
			rules := *w.Policy
			rules.Operations = []string{"message"}
			return changed(c.SetPolicy(ctx, ipc.SetPolicyParams{RequestID: "1", WalletID: w.WalletID, Policy: rules, PIN: ipc.Secret(pin)}))
		}, rightPIN},
		"change of the PIN": {func(ctx context.Context, c *ipc.Client, w *ipc.WalletInfo, pin, next string) (bool, error) {
			return changed(c.ChangePIN(ctx, ipc.ChangePINParams{RequestID: "1", WalletID: w.WalletID, PIN: ipc.Secret(pin), NewPIN: ipc.Secret(next)}))
		}, relayPIN},
	}
}

// P5: what was carried out before is proven to the PIN that opens the wallet
// only; a right one costs nothing, a wrong one an attempt, and a wallet that is
// frozen, locked or deleted proves nothing.
func TestP5RepetitionsNeedThePIN(t *testing.T) {
	h, plain := serving(t)
	c := dialSealed(t, h, h.Socket)
	for name, r := range repetitions() {
		t.Run(name, func(t *testing.T) {
			w := create(t, plain, name)
			ask := func(c *ipc.Client, pin, next string) (bool, error) { return r.ask(testContext(t), c, &w, pin, next) }
			if existing, err := ask(c, rightPIN, r.next); err != nil || existing {
				t.Fatalf("existing %v, %v", existing, err)
			}
			if existing, err := ask(c, rightPIN, r.next); err != nil || !existing {
				t.Errorf("again: existing %v, %v", existing, err)
			}
			if left := attemptsLeft(t, plain, w.WalletID); left != 10 {
				t.Errorf("%d attempts left", left)
			}
			_, err := ask(c, wrongPIN, "518263")
			if e := wantReason(t, err, "wrongPin"); *e.AttemptsLeft != 9 || !e.Proven {
				t.Errorf("%+v", e)
			}
			if existing, err := ask(plain, wrongPIN, "518263"); err != nil || !existing {
				t.Errorf("in the clear: existing %v, %v", existing, err)
			}
			refusedInState(t, plain, &w, r.next, func() error { _, err := ask(c, rightPIN, r.next); return err })
		})
	}
}

// refusedInState brings the wallet into each state in which no PIN is checked.
func refusedInState(t *testing.T, operator *ipc.Client, w *ipc.WalletInfo, pin string, ask func() error) {
	t.Helper()
	ctx, id := testContext(t), ipc.WalletParams{WalletID: w.WalletID}
	if _, err := operator.FreezeWallet(ctx, id); err != nil {
		t.Fatal(err)
	}
	wantReason(t, ask(), "frozen")
	if _, err := operator.UnfreezeWallet(ctx, ipc.UnfreezeParams{WalletID: id.WalletID}); err != nil {
		t.Fatal(err)
	}
	if _, err := operator.DeleteWallet(ctx, ipc.DeleteWalletParams{RequestID: "x", WalletID: w.WalletID, PIN: ipc.Secret(pin)}); err != nil {
		t.Fatal(err)
	}
	wantReason(t, ask(), "deleted")
}

// P5: a request id that was used for another change does not prove this one.
func TestP5OldRequestsProveNothingNew(t *testing.T) {
	h, plain := serving(t)
	w := create(t, plain, "1")
	c, ctx := dialSealed(t, h, h.Socket), testContext(t)
	rules, others := *w.Policy, *w.Policy
	others.Operations = []string{"message"}
	pin := ipc.Secret(rightPIN)
	set := func(request string, p ipc.Policy) error {
		_, err := c.SetPolicy(ctx, ipc.SetPolicyParams{RequestID: request, WalletID: w.WalletID, Policy: p, PIN: pin})
		return err
	}
	if err := errors.Join(set("1", others), set("2", rules)); err != nil {
		t.Fatal(err)
	}
	wantReason(t, set("1", others), "requestReused")
	remove := func(request string) (*ipc.ChangedWalletResult, error) {
		return c.DeleteWallet(ctx, ipc.DeleteWalletParams{RequestID: request, WalletID: w.WalletID, PIN: pin})
	}
	if _, err := remove("d"); err != nil {
		t.Fatal(err)
	}
	if again, err := remove("d"); err != nil || !again.Existing || again.Wallet.State != "deleted" {
		t.Errorf("%+v, %v", again, err)
	}
	if _, err := plain.RestoreWallet(ctx, ipc.WalletParams{WalletID: w.WalletID}); err != nil {
		t.Fatal(err)
	}
	_, err := remove("d")
	wantReason(t, err, "requestReused")
	if _, err := tryPIN(t, c, w.WalletID, rightPIN); err != nil {
		t.Error(err)
	}
}
