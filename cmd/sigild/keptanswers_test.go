package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/ipc"
	"github.com/sigild/sigild/ipc/ipctest"
)

// signsAnything makes an exportable wallet whose policy allows everything.
func signsAnything(t *testing.T, c *ipc.Client, requestID string) ipc.WalletInfo {
	t.Helper()
	every := []string{ipc.Any}
	r, err := c.CreateWallet(testContext(t), ipc.CreateWalletParams{RequestID: requestID, Owner: "alice", PIN: ipc.Secret(rightPIN), Exportable: true,
		Policy: &ipc.Policy{Operations: []string{"transaction", "message", "typedData", "authorization", "userOperation", "rawDigest"},
			Chains: every, Recipients: every, Selectors: every, MaxValue: ipc.Any, MaxCost: ipc.Any, ContractCreation: true}})
	if err != nil {
		t.Fatal(err)
	}
	return r.Wallet
}

// sealedRequest is a request with a sealed PIN, to be sent byte by byte.
type sealedRequest func() (result json.RawMessage, reason string)

// signingRequests are one of every method that signs with a PIN, and of the one
// that gives a key out.
func signingRequests(t *testing.T, h *daemontest.Host, w ipc.WalletInfo) map[string]sealedRequest {
	t.Helper()
	conn := ipctest.Connect(t, h.Socket)
	answers, seals := json.NewDecoder(conn), &sealer{host: h}
	out := map[string]sealedRequest{}
	for method, calls := range foreignCalls(w) {
		if !strings.HasPrefix(method, "sigild_sign") && method != ipc.MethodExportAccount {
			continue
		}
		params := strings.Replace(calls[0], fmt.Sprintf(`"pin":%q`, wrongPIN), fmt.Sprintf(`"sealedPin":"<sealed %s>"`, wrongPIN), 1)
		text := request(method, seals.params(t, method, strings.Replace(params, wrongPIN, rightPIN, 1)))
		out[method] = func() (json.RawMessage, string) { return exchange(t, conn, answers, text) }
	}
	return out
}

// P6: a signature or a key that is kept for whoever lost the answer is given again
// while the wallet is as it was, and not once a freeze was acknowledged.
func TestKeptSignaturesEndWithAFreeze(t *testing.T) {
	h, c := serving(t, custody())
	w := signsAnything(t, c, "1")
	requests := signingRequests(t, h, w)
	if len(requests) < 8 {
		t.Errorf("only %d methods", len(requests))
	}
	first := map[string]string{}
	for method, ask := range requests {
		result, reason := ask()
		if first[method] = string(result); reason != "" {
			t.Errorf("%s: %s", method, reason)
		}
	}
	wantAgain := func(when string) {
		t.Helper()
		for method, ask := range requests {
			if again, reason := ask(); reason != "" || string(again) != first[method] {
				t.Errorf("%s %s: %q, %s", method, when, reason, again)
			}
		}
	}
	wantAgain("at once")
	another := create(t, c, "2")
	for _, id := range []ipc.Hex{another.WalletID, w.WalletID} {
		if id.String() == w.WalletID.String() {
			wantAgain("after another wallet's freeze")
		}
		if _, err := c.FreezeWallet(testContext(t), ipc.WalletParams{WalletID: id}); err != nil {
			t.Fatal(err)
		}
	}
	for method, ask := range requests {
		if result, reason := ask(); reason != ipc.ReasonSealedPINUsed || result != nil {
			t.Errorf("%s of a frozen wallet: %q, %s", method, reason, result)
		}
	}
	if left := attemptsLeft(t, c, w.WalletID); left != 10 {
		t.Errorf("%d attempts left", left)
	}
}

// P6: nor once the wallet has another policy or PIN, or is deleted.
func TestKeptSignaturesEndWithTheRight(t *testing.T) {
	h, c := serving(t, custody())
	ctx, pin := testContext(t), ipc.Secret(rightPIN)
	for name, change := range map[string]func(w ipc.WalletInfo) error{
		"a new policy": func(w ipc.WalletInfo) error {
			_, err := c.SetPolicy(ctx, ipc.SetPolicyParams{RequestID: "p", WalletID: w.WalletID, Policy: ipc.Policy{Operations: []string{"message"}}, PIN: pin})
			return err
		},
		"a new PIN": func(w ipc.WalletInfo) error {
			_, err := c.ChangePIN(ctx, ipc.ChangePINParams{RequestID: "c", WalletID: w.WalletID, PIN: pin, NewPIN: ipc.Secret("518263")})
			return err
		},
		"a deletion": func(w ipc.WalletInfo) error {
			_, err := c.DeleteWallet(ctx, ipc.DeleteWalletParams{RequestID: "d", WalletID: w.WalletID, PIN: pin})
			return err
		},
	} {
		w := signsAnything(t, c, name)
		ask := signingRequests(t, h, w)[ipc.MethodSignTransaction]
		if _, reason := ask(); reason != "" {
			t.Fatal(reason)
		}
		if err := change(w); err != nil {
			t.Fatal(err)
		}
		if _, reason := ask(); reason != ipc.ReasonSealedPINUsed {
			t.Errorf("after %s: %q", name, reason)
		}
	}
}
