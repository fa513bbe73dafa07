package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/sigild/sigild/ipc"
	"github.com/sigild/sigild/ipc/ipctest"
)

// TestP5RelayForgesAnswers: the client takes no key and no answer that is not
// the daemon's.
func TestP5RelayForgesAnswers(t *testing.T) {
	h, plain := serving(t)
	w := create(t, plain, "1")
	mallory := ipctest.NewChannel(t)
	forged := `"0x000000000000000000000000000000000000bEEF"`
	for name, attack := range map[string]struct {
		want   error
		method string
		change func(result map[string]json.RawMessage, m ipctest.Message)
	}{
		"its own PIN key": {ipc.ErrIdentity, ipc.MethodPinKey, func(_ map[string]json.RawMessage, m ipctest.Message) {
			own, err := mallory.PinKey(t.Context(), nil)
			if err != nil {
				t.Error(err)
			}
			m["result"] = mustJSON(t, own)
		}},
		"the key in the daemon's statement": {ipc.ErrIdentity, ipc.MethodPinKey, func(r map[string]json.RawMessage, m ipctest.Message) {
			a, err := mallory.Announce(t.Context())
			if err != nil {
				t.Error(err)
			}
			r["statement"] = mustJSON(t, a.Text)
			m["result"] = mustJSON(t, r)
		}},
		"another address": {ipc.ErrProof, ipc.MethodCreateWallet, func(r map[string]json.RawMessage, m ipctest.Message) {
			var wallet map[string]json.RawMessage
			var accounts []map[string]json.RawMessage
			if err := errors.Join(json.Unmarshal(r["wallet"], &wallet), json.Unmarshal(wallet["accounts"], &accounts)); err != nil {
				t.Error(err)
			}
			accounts[0]["address"] = json.RawMessage(forged)
			wallet["accounts"] = mustJSON(t, accounts)
			r["wallet"] = mustJSON(t, wallet)
			m["result"] = mustJSON(t, r)
		}},
		"no proof": {ipc.ErrProof, ipc.MethodCreateWallet, func(r map[string]json.RawMessage, m ipctest.Message) {
			delete(r, "proof")
			m["result"] = mustJSON(t, r)
		}},
		"another wallet's creation": {ipc.ErrProof, ipc.MethodCreateWallet, func(_ map[string]json.RawMessage, m ipctest.Message) {
			m["result"] = mustJSON(t, map[string]any{"existing": true, "wallet": w, "receipt": map[string]string{}})
		}},
		"a wrong PIN": {ipc.ErrProof, ipc.MethodCreateWallet, func(_ map[string]json.RawMessage, m ipctest.Message) {
			delete(m, "result")
			m["error"] = json.RawMessage(`{"code":4100,"message":"wrong PIN","data":{"reason":"wrongPin","attemptsLeft":1,"charged":true}}`)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r := &ipctest.Relay{Answer: func(method string, m ipctest.Message) bool {
				if method == attack.method {
					var result map[string]json.RawMessage
					if err := json.Unmarshal(m["result"], &result); err != nil {
						t.Error(err)
					}
					attack.change(result, m)
				}
				return true
			}}
			_, err := dialSealed(t, h, r.Serve(t, h.Socket)).CreateWallet(testContext(t),
				ipc.CreateWalletParams{RequestID: name, Owner: "alice", PIN: ipc.Secret(rightPIN)})
			if !errors.Is(err, attack.want) {
				t.Errorf("%v, want %v", err, attack.want)
			}
		})
	}
}

// TestP5RelayInventsErrors: whatever reason a relay gives to a request that was
// carried out, the Go client believes only what may come without proof.
func TestP5RelayInventsErrors(t *testing.T) {
	h, plain := serving(t)
	w := create(t, plain, "1")
	var data atomic.Pointer[string]
	r := &ipctest.Relay{Answer: func(method string, m ipctest.Message) bool {
		if method == ipc.MethodSignMessage && m["result"] != nil {
			delete(m, "result")
			m["error"] = json.RawMessage(`{"code":4100,"message":"no","data":` + *data.Load() + `}`)
		}
		return true
	}}
	c := dialSealed(t, h, r.Serve(t, h.Socket))
	for _, reason := range documentedReasons(t) {
		for _, more := range []string{"", `,"charged":false`, `,"retryAfter":1`} {
			text := fmt.Sprintf(`{"reason":%q%s}`, reason, more)
			data.Store(&text)
			_, err := tryPIN(t, c, w.WalletID, rightPIN)
			if !slices.Contains(ipc.ReasonsWithoutProof(), reason) {
				if !errors.Is(err, ipc.ErrProof) {
					t.Errorf("%s: %v", text, err)
				}
				break
			}
			if e := wantReason(t, err, reason); e.Proven {
				t.Errorf("%s is said to be proven", text)
			}
		}
	}
}
