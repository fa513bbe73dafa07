package main

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/ipc"
	"github.com/sigild/sigild/ipc/ipctest"
)

// outcome is what the JavaScript client says of one request.
type outcome struct {
	Result                 map[string]json.RawMessage
	Key                    string // that an export gave
	Error, Reason, Message string
	Proven                 bool
	Data                   struct{ AttemptsLeft int }
}

// askJavaScript has the JavaScript client make one request through a relay.
func askJavaScript(t *testing.T, h *daemontest.Host, r *ipctest.Relay, method, params, pin string) (o outcome) {
	t.Helper()
	cmd := exec.CommandContext(testContext(t), "node", filepath.Join(ipctest.JavaScript(), "test", "relay-client.js"),
		r.Serve(t, h.Socket), identity(t, h).String(), method, params, `{"pin":"`+pin+`"}`)
	out, err := cmd.Output()
	if err != nil || json.Unmarshal(out, &o) != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return o
}

// TestP5JavaScript: the JavaScript client does what it should with the real
// daemon, and what the relay changes is refused by one of them.
func TestP5JavaScript(t *testing.T) {
	if !ipctest.JavaScriptClient(t) {
		return
	}
	h, plain := serving(t)
	w, other := create(t, plain, "1"), create(t, plain, "2")
	mallory := ipctest.NewChannel(t)
	message := `{"walletId":"` + w.WalletID.String() + `","message":"0x6869"}`
	swap := func(member, value string) *ipctest.Relay {
		return &ipctest.Relay{Request: func(method string, m ipctest.Message) bool {
			if method != ipc.MethodPinKey {
				m["params"] = changed(t, m["params"], member, value)
			}
			return true
		}}
	}
	answer := func(to string, change func(m ipctest.Message)) *ipctest.Relay {
		return &ipctest.Relay{Answer: func(method string, m ipctest.Message) bool {
			if method == to {
				change(m)
			}
			return true
		}}
	}
	create := `{"requestId":"js","owner":"alice"}`
	transaction := `{"walletId":"` + w.WalletID.String() + `","transaction":` + transfer + `}`
	unlock := `{"walletId":"` + w.WalletID.String() + `","terms":` + string(mustJSON(t, terms(1))) + `}`
	for name, c := range map[string]struct {
		relay         *ipctest.Relay
		method        string
		params, pin   string
		class, reason string
	}{
		"a signature":     {&ipctest.Relay{}, ipc.MethodSignMessage, message, rightPIN, "", ""},
		"a wallet":        {&ipctest.Relay{}, ipc.MethodCreateWallet, create, rightPIN, "", ""},
		"a wrong PIN":     {&ipctest.Relay{}, ipc.MethodSignMessage, message, wrongPIN, "SigildError", "wrongPin"},
		"another message": {swap("message", `"0x6870"`), ipc.MethodSignMessage, message, rightPIN, "SigildError", ipc.ReasonSealedPINInvalid},
		"another account": {swap("account", `1`), ipc.MethodSignMessage, message, rightPIN, "SigildError", ipc.ReasonSealedPINInvalid},
		"another wallet":  {swap("walletId", `"`+other.WalletID.String()+`"`), ipc.MethodSignMessage, message, rightPIN, "SigildError", ipc.ReasonSealedPINInvalid},
		"another transaction": {swap("transaction", strings.Replace(transfer, `"value":"0x1"`, `"value":"0x2"`, 1)), ipc.MethodSignTransaction,
			transaction, rightPIN, "SigildError", ipc.ReasonSealedPINInvalid},
		"another recipient": {swap("transaction", strings.Replace(transfer, "0x9858EfFD232B4033E47d90003D41EC34EcaEda94", "0x0000000000000000000000000000000000000001", 1)),
			ipc.MethodSignTransaction, transaction, rightPIN, "SigildError", ipc.ReasonSealedPINInvalid},
		"other terms": {swap("terms", string(mustJSON(t, terms(1000)))), ipc.MethodUnlock, unlock, rightPIN, "SigildError", ipc.ReasonSealedPINInvalid},
		"its own key": {answer(ipc.MethodPinKey, func(m ipctest.Message) {
			own, err := mallory.PinKey(t.Context(), nil)
			if err != nil {
				t.Error(err)
			}
			m["result"] = mustJSON(t, own)
		}), ipc.MethodSignMessage, message, rightPIN, "IdentityError", ""},
		"another address": {answer(ipc.MethodCreateWallet, func(m ipctest.Message) {
			m["result"] = json.RawMessage(strings.Replace(string(m["result"]), `"address":"0x`, `"address":"0x00`, 1))
		}), ipc.MethodCreateWallet, create, rightPIN, "ProofError", ""},
		"no proof": {answer(ipc.MethodSignMessage, func(m ipctest.Message) {
			m["result"] = json.RawMessage(strings.Replace(string(m["result"]), `"proof"`, `"prove"`, 1))
		}), ipc.MethodSignMessage, message, rightPIN, "ProofError", ""},
		"an invented wrong PIN": {answer(ipc.MethodSignMessage, func(m ipctest.Message) {
			delete(m, "result")
			m["error"] = json.RawMessage(`{"code":4100,"message":"wrong PIN","data":{"reason":"wrongPin"}}`)
		}), ipc.MethodSignMessage, message, rightPIN, "ProofError", ""},
		"an invented lock": {answer(ipc.MethodSignMessage, func(m ipctest.Message) {
			delete(m, "result")
			m["error"] = json.RawMessage(`{"code":4100,"message":"locked","data":{"reason":"locked","charged":false}}`)
		}), ipc.MethodSignMessage, message, rightPIN, "ProofError", ""},
		"an invented failure": {answer(ipc.MethodSignMessage, func(m ipctest.Message) {
			delete(m, "result")
			m["error"] = json.RawMessage(`{"code":4100,"message":"wrong PIN","data":{"reason":"wrongPin","attemptsLeft":1,"charged":true}}`)
		}), ipc.MethodSignMessage, message, rightPIN, "ProofError", ""},
	} {
		t.Run(name, func(t *testing.T) {
			o := askJavaScript(t, h, c.relay, c.method, c.params, c.pin)
			if o.Error != c.class || o.Reason != c.reason || (c.class == "") != (o.Result != nil) || o.Proven != (c.reason == "wrongPin") {
				t.Errorf("%+v", o)
			}
		})
	}
	if left := attemptsLeft(t, plain, other.WalletID); left != 10 {
		t.Errorf("%d attempts left", left)
	}
}

// TestP5JavaScriptReplay: a relay that sends the JavaScript client's request
// twice gets one signature, and the client the proven one.
func TestP5JavaScriptReplay(t *testing.T) {
	if !ipctest.JavaScriptClient(t) {
		return
	}
	h, plain := serving(t)
	w := create(t, plain, "1")
	var again json.RawMessage
	r := &ipctest.Relay{Request: func(method string, m ipctest.Message) bool {
		if method == ipc.MethodSignMessage {
			again = m["params"]
		}
		return true
	}}
	if o := askJavaScript(t, h, r, ipc.MethodSignMessage, `{"walletId":"`+w.WalletID.String()+`","message":"0x6869"}`, rightPIN); o.Error != "" {
		t.Fatalf("%+v", o)
	}
	lines := auditLines(t, h)
	conn := ipctest.Connect(t, h.Socket)
	answers := json.NewDecoder(conn)
	same, _ := exchange(t, conn, answers, request(ipc.MethodSignMessage, string(again[1:len(again)-1])))
	if same == nil || auditLines(t, h) != lines {
		t.Errorf("the repetition got %s, and the audit log has %d lines after %d", same, auditLines(t, h), lines)
	}
	other := changed(t, again, "message", `"0x6870"`)
	if _, reason := exchange(t, conn, answers, request(ipc.MethodSignMessage, string(other[1:len(other)-1]))); reason != ipc.ReasonSealedPINUsed {
		t.Errorf("another message: %q", reason)
	}
}
