package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/ipc"
	"github.com/sigild/sigild/ipc/ipctest"
)

// identity is the installation's identity key, as its operator hands it out.
func identity(t testing.TB, h *daemontest.Host) ipc.Hex {
	t.Helper()
	s, err := dial(t, h.Socket).Status(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	return s.IdentityKey
}

// dialSealed gives a client that pins the identity key, through socket.
func dialSealed(t testing.TB, h *daemontest.Host, socket string) *ipc.Client {
	t.Helper()
	c, err := ipc.Dial(testContext(t), socket, ipc.Identity(identity(t, h)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

const transfer = `{"type":"0x2","chainId":"0x1","nonce":"0x0","to":"0x9858EfFD232B4033E47d90003D41EC34EcaEda94",` +
	`"value":"0x1","gas":"0x5208","maxFeePerGas":"0x2","maxPriorityFeePerGas":"0x1"}`

func terms(signatures int) ipc.Terms {
	return ipc.Terms{Signatures: signatures, Seconds: 60, TotalValue: ipc.Any,
		Policy: ipc.Policy{Operations: []string{"message"}, Chains: []string{ipc.Any}, Recipients: []string{ipc.Any}, Selectors: []string{ipc.Any}, MaxValue: ipc.Any, MaxCost: ipc.Any}}
}

// TestSealedPINs does every kind of request with a PIN that was sealed, once
// with a wrong one.
func TestSealedPINs(t *testing.T) {
	h, plain := serving(t)
	c := dialSealed(t, h, h.Socket)
	w := create(t, c, "1")
	pin, id := ipc.Secret(rightPIN), w.WalletID
	ctx := testContext(t)
	account := func() error {
		r, err := c.DeriveAccount(ctx, ipc.DeriveAccountParams{RequestID: "2", WalletID: id, PIN: pin})
		if err == nil && r.Account.Index != 1 {
			return fmt.Errorf("account %d", r.Account.Index)
		}
		return err
	}
	for name, call := range map[string]func() error{
		"derive": account,
		"transaction": func() error {
			_, err := c.SignTransaction(ctx, ipc.SignTransactionParams{WalletID: id, Transaction: json.RawMessage(transfer), PIN: pin})
			return err
		},
		"batch": func() error {
			_, err := c.SignBatch(ctx, ipc.SignBatchParams{WalletID: id, Items: []ipc.BatchItem{{Transaction: json.RawMessage(transfer)}}, PIN: pin})
			return err
		},
		"policy": func() error {
			_, err := c.SetPolicy(ctx, ipc.SetPolicyParams{RequestID: "3", WalletID: id, Policy: *w.Policy, PIN: pin})
			return err
		},
		"unlock": func() error {
			if _, err := c.Unlock(ctx, ipc.UnlockParams{WalletID: id, Terms: terms(1), PIN: pin}); err != nil {
				return err
			}
			_, err := c.SignMessage(ctx, ipc.SignMessageParams{WalletID: id, Message: ipc.Hex("hi")})
			return err
		},
	} {
		if err := call(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := tryPIN(t, c, id, wrongPIN)
	if e := wantReason(t, err, "wrongPin"); *e.AttemptsLeft != 9 || !e.Proven {
		t.Errorf("%+v", e)
	}
	if _, err := c.ChangePIN(ctx, ipc.ChangePINParams{RequestID: "4", WalletID: id, PIN: pin, NewPIN: ipc.Secret(wrongPIN)}); err != nil {
		t.Fatal(err)
	}
	if _, err := tryPIN(t, plain, id, wrongPIN); err != nil {
		t.Errorf("the new PIN: %v", err)
	}
	if _, err := c.DeleteWallet(ctx, ipc.DeleteWalletParams{RequestID: "5", WalletID: id, PIN: ipc.Secret(wrongPIN)}); err != nil {
		t.Error(err)
	}
}

// TestPlainPINsAreForSomeOnly has another user send a PIN in the clear, which
// only the daemon's own user and root may unless the configuration names more.
func TestPlainPINsAreForSomeOnly(t *testing.T) {
	h := openToAll(t, "allow = "+uids(own, relayUID), withConfig(map[string]string{"pin": cheapPIN}))
	w := create(t, dial(t, h.Socket), "1")
	if canBeOthers(t) {
		othersSealTheirPINs(t, h)
	}
	stop(t, h)
	h.Config["pin"] = cheapPIN + "\nplain_from = " + uids(relayUID)
	if err := h.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	start(t, h)
	if canBeOthers(t) {
		if err := createPlain(t, h); err != nil {
			t.Errorf("with plain_from: %v", err)
		}
	}
	_, err := tryPIN(t, dial(t, h.Socket), w.WalletID, rightPIN)
	if e := wantReason(t, err, ipc.ReasonPlainPINRefused); e.Charged == nil || *e.Charged { // not in the list
		t.Errorf("%+v", e)
	}
	var status ipc.StatusResult
	if err := newRelay(t, h, own).call(ipc.MethodStatus, "{}", &status); err != nil || status.PINCheck.PlainPIN {
		t.Errorf("status tells this user: plain PINs %v, %v", status.PINCheck.PlainPIN, err)
	}
}

// createPlain creates a wallet as another user, with a PIN in the clear.
func createPlain(t *testing.T, h *daemontest.Host) error {
	t.Helper()
	params := fmt.Sprintf(`{"requestId":"1","owner":"alice","pin":%q}`, rightPIN)
	return newRelay(t, h, relayUID).call(ipc.MethodCreateWallet, params, new(ipc.CreateWalletResult))
}

func othersSealTheirPINs(t *testing.T, h *daemontest.Host) {
	t.Helper()
	if e := wantReason(t, createPlain(t, h), ipc.ReasonPlainPINRefused); e.Charged == nil || *e.Charged {
		t.Errorf("%+v", e)
	}
	var status ipc.StatusResult
	if err := newRelay(t, h, relayUID).call(ipc.MethodStatus, "{}", &status); err != nil || status.PINCheck.PlainPIN {
		t.Errorf("status tells this user: plain PINs %v, %v", status.PINCheck.PlainPIN, err)
	}
}

// changed gives parameters with one member replaced.
func changed(t *testing.T, params json.RawMessage, name, value string) json.RawMessage {
	t.Helper()
	var list []map[string]json.RawMessage
	if err := json.Unmarshal(params, &list); err != nil || len(list) != 1 {
		t.Fatalf("%s: %v", params, err)
	}
	list[0][name] = json.RawMessage(value)
	out, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// altering is a relay that replaces one member of each request but those for the key.
func altering(t *testing.T, name, value string) *ipctest.Relay {
	return &ipctest.Relay{Request: func(method string, m ipctest.Message) bool {
		if method != ipc.MethodPinKey {
			m["params"] = changed(t, m["params"], name, value)
		}
		return true
	}}
}

// TestP5RelayChangesRequests: the daemon refuses what the PIN was not sealed
// for, and charges nothing.
func TestP5RelayChangesRequests(t *testing.T) {
	h, plain := serving(t)
	w, other := create(t, plain, "1"), create(t, plain, "2")
	pin := ipc.Secret(rightPIN)
	ctx := testContext(t)
	for name, attack := range map[string]struct {
		member, value string
		ask           func(*ipc.Client) error
	}{
		"transaction": {"transaction", strings.Replace(transfer, `"value":"0x1"`, `"value":"0x2"`, 1), func(c *ipc.Client) error {
			_, err := c.SignTransaction(ctx, ipc.SignTransactionParams{WalletID: w.WalletID, Transaction: json.RawMessage(transfer), PIN: pin})
			return err
		}},
		"recipient": {"transaction", strings.Replace(transfer, "0x9858EfFD232B4033E47d90003D41EC34EcaEda94", "0x0000000000000000000000000000000000000001", 1), func(c *ipc.Client) error {
			_, err := c.SignTransaction(ctx, ipc.SignTransactionParams{WalletID: w.WalletID, Transaction: json.RawMessage(transfer), PIN: pin})
			return err
		}},
		"account": {"account", "1", func(c *ipc.Client) error {
			_, err := c.SignMessage(ctx, ipc.SignMessageParams{WalletID: w.WalletID, Message: ipc.Hex("hi"), PIN: pin})
			return err
		}},
		"wallet": {"walletId", `"` + other.WalletID.String() + `"`, func(c *ipc.Client) error {
			_, err := c.SignMessage(ctx, ipc.SignMessageParams{WalletID: w.WalletID, Message: ipc.Hex("hi"), PIN: pin})
			return err
		}},
		"terms": {"terms", string(mustJSON(t, terms(1000))), func(c *ipc.Client) error {
			_, err := c.Unlock(ctx, ipc.UnlockParams{WalletID: w.WalletID, Terms: terms(1), PIN: pin})
			return err
		}},
		"policy": {"policy", `{"operations":["rawDigest"],"chains":["any"]}`, func(c *ipc.Client) error {
			_, err := c.SetPolicy(ctx, ipc.SetPolicyParams{RequestID: "p", WalletID: w.WalletID, Policy: *w.Policy, PIN: pin})
			return err
		}},
		"owner": {"owner", `"mallory"`, func(c *ipc.Client) error {
			_, err := c.CreateWallet(ctx, ipc.CreateWalletParams{RequestID: "p", Owner: "alice", PIN: pin})
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r := altering(t, attack.member, attack.value)
			wantReason(t, attack.ask(dialSealed(t, h, r.Serve(t, h.Socket))), ipc.ReasonSealedPINInvalid)
		})
	}
	t.Run("method", func(t *testing.T) {
		r := &ipctest.Relay{Request: func(method string, m ipctest.Message) bool {
			if method == ipc.MethodDeriveAccount {
				m["method"] = json.RawMessage(`"sigild_deleteWallet"`)
			}
			return true
		}}
		_, err := dialSealed(t, h, r.Serve(t, h.Socket)).DeriveAccount(ctx, ipc.DeriveAccountParams{RequestID: "x", WalletID: w.WalletID, PIN: pin})
		wantReason(t, err, ipc.ReasonSealedPINInvalid)
	})
	for _, id := range []ipc.Hex{w.WalletID, other.WalletID} {
		if left := attemptsLeft(t, plain, id); left != 10 {
			t.Errorf("%d attempts left", left)
		}
	}
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// captured is a request with a sealed PIN that a relay kept for itself.
func captured(t *testing.T, h *daemontest.Host, pin string, wallet ipc.Hex) json.RawMessage {
	t.Helper()
	var kept atomic.Pointer[json.RawMessage]
	r := &ipctest.Relay{Request: func(method string, m ipctest.Message) bool {
		if method == ipc.MethodSignMessage {
			params := m["params"]
			kept.Store(&params)
		}
		return true
	}}
	_, _ = tryPIN(t, dialSealed(t, h, r.Serve(t, h.Socket)), wallet, pin)
	return (*kept.Load())[1 : len(*kept.Load())-1]
}

// TestP5RelayReplays: the same bytes get the same answer, and nothing is done
// or charged again; other bytes, another user, and another start get nothing.
func TestP5RelayReplays(t *testing.T) {
	h := openToAll(t, "allow = "+uids(own, relayUID))
	c := dial(t, h.Socket)
	w := create(t, c, "1")
	block := captured(t, h, rightPIN, w.WalletID)
	lines := auditLines(t, h)
	conn := ipctest.Connect(t, h.Socket)
	answers := json.NewDecoder(conn)
	first, reason := exchange(t, conn, answers, request(ipc.MethodSignMessage, string(block)))
	second, _ := exchange(t, conn, answers, request(ipc.MethodSignMessage, string(block)))
	if reason != "" || !bytes.Equal(first, second) || !bytes.Contains(first, []byte(`"proof"`)) {
		t.Errorf("repetitions got %q, %s and %s", reason, first, second)
	}
	if got := auditLines(t, h); got != lines {
		t.Errorf("%d lines in the audit log, %d before the repetitions", got, lines)
	}
	if _, reason := exchange(t, conn, answers, request(ipc.MethodSignMessage, strings.Replace(string(block), `{`, `{ `, 1))); reason != ipc.ReasonSealedPINUsed {
		t.Errorf("other bytes: %q", reason)
	}
	if canBeOthers(t) {
		err := newRelay(t, h, relayUID).call(ipc.MethodSignMessage, string(block), new(ipc.SignMessageResult))
		wantReason(t, err, ipc.ReasonSealedPINUsed)
	}
	wrong := captured(t, h, wrongPIN, w.WalletID)
	for range 3 {
		if _, reason := exchange(t, conn, answers, request(ipc.MethodSignMessage, string(wrong))); reason != "wrongPin" {
			t.Errorf("a repeated wrong PIN: %q", reason)
		}
	}
	if left := attemptsLeft(t, c, w.WalletID); left != 9 {
		t.Errorf("%d attempts left after one wrong PIN that was repeated", left)
	}
	stop(t, h)
	start(t, h)
	conn = ipctest.Connect(t, h.Socket)
	if _, reason := exchange(t, conn, json.NewDecoder(conn), request(ipc.MethodSignMessage, string(block))); reason != ipc.ReasonPinKeyUnknown {
		t.Errorf("after a restart: %q", reason)
	}
}

func auditLines(t *testing.T, h *daemontest.Host) int {
	t.Helper()
	text, err := os.ReadFile(h.AuditLog())
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(text, []byte("\n"))
}

// TestSealedRequestOutlivesItsConnection: a relay that hangs up at once and asks
// again gets the one answer.
func TestSealedRequestOutlivesItsConnection(t *testing.T) {
	h, plain := serving(t)
	w := create(t, plain, "1")
	var lost atomic.Int32
	r := &ipctest.Relay{Hangup: func(method string) bool { return method == ipc.MethodChangePIN && lost.Add(1) <= 2 }}
	c := dialSealed(t, h, r.Serve(t, h.Socket))
	p := ipc.ChangePINParams{RequestID: "1", WalletID: w.WalletID, PIN: ipc.Secret(rightPIN), NewPIN: ipc.Secret(wrongPIN)}
	if got, err := c.ChangePIN(testContext(t), p); err != nil || got.Existing {
		t.Errorf("%+v, %v", got, err)
	}
	if left := attemptsLeft(t, plain, w.WalletID); left != 10 || lost.Load() != 3 {
		t.Errorf("%d attempts left, %d answers", left, lost.Load())
	}
}

// TestSealedPINsAreBounded: what is over limits.sealed_pins is refused, told when
// to come again, and costs nothing.
func TestSealedPINsAreBounded(t *testing.T) {
	h, plain := serving(t, withConfig(map[string]string{"limits": "sealed_pins = 2"}))
	w := create(t, plain, "1")
	c := dialSealed(t, h, h.Socket)
	for range 2 {
		if _, err := tryPIN(t, c, w.WalletID, rightPIN); err != nil {
			t.Fatal(err)
		}
	}
	_, err := tryPIN(t, c, w.WalletID, wrongPIN)
	if e := wantReason(t, err, ipc.ReasonOverloaded); e.RetryAfter == nil || e.Charged == nil || *e.Charged {
		t.Errorf("%+v", e)
	}
	if left := attemptsLeft(t, plain, w.WalletID); left != 10 {
		t.Errorf("%d attempts left", left)
	}
}

// TestBlocksThatCannotBe: what is no block is refused by name.
func TestBlocksThatCannotBe(t *testing.T) {
	h, plain := serving(t)
	w := create(t, plain, "1")
	block := captured(t, h, rightPIN, w.WalletID)
	conn := ipctest.Connect(t, h.Socket)
	answers := json.NewDecoder(conn)
	var object map[string]json.RawMessage
	if err := json.Unmarshal(block, &object); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ params, reason string }{
		"beside a PIN":  {strings.Replace(string(block), `{`, `{"pin":"402916",`, 1), ipc.ReasonInvalidParams},
		"no block":      {`{"walletId":"0x00","message":"0x00","sealedPin":{}}`, ipc.ReasonInvalidParams},
		"a number":      {`{"walletId":"0x00","message":"0x00","account":1.0,"sealedPin":` + string(object["sealedPin"]) + `}`, ipc.ReasonInvalidParams},
		"unknown key":   {`{"walletId":"0x00","message":"0x00","sealedPin":{"keyId":"0x00","enc":"0x","ciphertext":"0x","expires":"2020-01-01T00:00:00Z"}}`, ipc.ReasonPinKeyUnknown},
		"not this pair": {`{"walletId":"0x00","message":"0x00","sealedPin":{"keyId":"0x","enc":"0x","ciphertext":"0x","expires":"2020-01-01T00:00:00Z"}}`, ipc.ReasonPinKeyUnknown},
	} {
		if _, reason := exchange(t, conn, answers, request(ipc.MethodSignMessage, c.params)); reason != c.reason {
			t.Errorf("%s: %q, want %q", name, reason, c.reason)
		}
	}
	if _, reason := exchange(t, conn, answers, request(ipc.MethodGetWallet, `{"walletId":"0x00","sealedPin":{}}`)); reason != ipc.ReasonInvalidParams {
		t.Errorf("a method without a PIN: %q", reason)
	}
}
