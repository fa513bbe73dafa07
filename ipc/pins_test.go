package ipc_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sigild/sigild/daemon/channel"
	"github.com/sigild/sigild/ipc"
	"github.com/sigild/sigild/ipc/ipctest"
)

// sealing serves one method behind the PIN channel.
func sealing(t *testing.T, method string, h ipc.Handler) (*ipctest.Channel, string) {
	t.Helper()
	c := ipctest.NewChannel(t)
	_, path := ipctest.Serve(t, ipc.Options{Allow: func(ipc.Peer) bool { return true },
		Methods: map[string]ipc.Handler{ipc.MethodPinKey: c.PinKey, method: c.Open(method, h)}})
	return c, path
}

func dialWith(t *testing.T, path string, options ...ipc.Option) *ipc.Client {
	t.Helper()
	c, err := ipc.Dial(t.Context(), path, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestClientSealsPINs(t *testing.T) {
	seen := make(chan string, 2)
	c, path := sealing(t, ipc.MethodChangePIN, func(_ context.Context, params json.RawMessage) (any, error) {
		seen <- string(params)
		return json.RawMessage(`{"existing":true,"wallet":{"owner":"<&>","attemptsLeft":10},"later":[1]}`), nil
	})
	passed := make(chan string, 4)
	relay := &ipctest.Relay{Request: func(_ string, m ipctest.Message) bool { passed <- string(m["params"]); return true }}
	client := dialWith(t, relay.Serve(t, path), ipc.Identity(c.Identity))
	p := ipc.ChangePINParams{RequestID: "r", WalletID: ipc.Hex{1}, PIN: ipc.Secret("271828"), NewPIN: ipc.Secret("314159")}
	var raw json.RawMessage
	if err := client.Call(t.Context(), ipc.MethodChangePIN, p, &raw); err != nil {
		t.Fatal(err)
	}
	if want := `{"existing":true,"wallet":{"owner":"\u003c\u0026\u003e","attemptsLeft":10},"later":[1]}`; string(raw) != want {
		t.Errorf("got %s, want %s", raw, want)
	}
	if want := `[{"requestId":"r","walletId":"0x01","pin":"271828","newPin":"314159"}]`; <-seen != want {
		t.Error("the daemon saw other parameters")
	}
	if r, err := client.ChangePIN(t.Context(), p); err != nil || !r.Existing || r.Wallet.Owner != "<&>" {
		t.Errorf("%+v, %v", r, err)
	}
	close(passed)
	n := 0
	for text := range passed {
		n++
		var list []struct{ Pin, NewPin, SealedPin json.RawMessage }
		if json.Unmarshal([]byte(text), &list) != nil || list[0].Pin != nil || list[0].NewPin != nil || (n > 1) != (list[0].SealedPin != nil) {
			t.Errorf("request %d: %s", n, text)
		}
	}
	if n != 3 { // pinKey once
		t.Errorf("%d requests passed, want 3", n)
	}
}

func TestClientSendsNoPlainPIN(t *testing.T) {
	_, path := sealing(t, ipc.MethodDeriveAccount, func(context.Context, json.RawMessage) (any, error) {
		t.Error("a PIN left the client")
		return nil, nil
	})
	client := dialWith(t, path)
	p := ipc.DeriveAccountParams{RequestID: "r", WalletID: ipc.Hex{1}, PIN: ipc.Secret("271828")}
	if _, err := client.DeriveAccount(t.Context(), p); !errors.Is(err, ipc.ErrNoIdentity) {
		t.Errorf("without an identity: %v", err)
	}
	if err := client.Call(t.Context(), ipc.MethodDeriveAccount, []any{ipc.Secret("271828")}, nil); !errors.Is(err, ipc.ErrParams) {
		t.Errorf("a PIN by position: %v", err)
	}
	other := ipctest.NewChannel(t)
	for name, key := range map[string][]byte{"short": other.Identity[1:], "off the curve": append([]byte{4}, make([]byte, 64)...)} {
		if _, err := ipc.Dial(t.Context(), path, ipc.Identity(key)); err == nil {
			t.Errorf("an identity key that is %s", name)
		}
	}
	if err := client.PinIdentity(other.Identity); err != nil {
		t.Fatal(err)
	}
	if _, err := client.DeriveAccount(t.Context(), p); !errors.Is(err, ipc.ErrIdentity) {
		t.Errorf("another installation's identity: %v", err)
	}
}

// What JSON may round cannot be sealed: two payloads would be one.
func TestClientSealsExactNumbersOnly(t *testing.T) {
	c, path := sealing(t, ipc.MethodSignTransaction, func(context.Context, json.RawMessage) (any, error) {
		t.Error("it was sent")
		return nil, nil
	})
	client := dialWith(t, path, ipc.Identity(c.Identity))
	_, err := client.SignTransaction(t.Context(), ipc.SignTransactionParams{Transaction: json.RawMessage(`{"value":9007199254740993}`), PIN: ipc.Secret("271828")})
	if !errors.Is(err, ipc.ErrParams) {
		t.Error(err)
	}
}

func TestProvenErrors(t *testing.T) {
	left, charged := 9, true
	wrong := &ipc.Error{Code: 4100, Reason: "wrongPin", Message: "wrong PIN", AttemptsLeft: &left, Charged: &charged}
	c, path := sealing(t, ipc.MethodUnlock, func(context.Context, json.RawMessage) (any, error) { return nil, wrong })
	ask := func(r *ipctest.Relay) error {
		client := dialWith(t, r.Serve(t, path), ipc.Identity(c.Identity))
		_, err := client.Unlock(t.Context(), ipc.UnlockParams{WalletID: ipc.Hex{1}, PIN: ipc.Secret("271828")})
		return err
	}
	var got *ipc.Error
	if err := ask(&ipctest.Relay{}); !errors.As(err, &got) || got.Reason != "wrongPin" || *got.AttemptsLeft != 9 || !got.Proven {
		t.Errorf("%+v, %v", got, err)
	}
	forge := func(data string) error {
		return ask(&ipctest.Relay{Answer: func(method string, m ipctest.Message) bool {
			if method == ipc.MethodUnlock {
				delete(m, "result")
				m["error"] = json.RawMessage(`{"code":-32000,"message":"x","data":` + data + `}`)
			}
			return true
		}})
	}
	for _, data := range []string{
		`{"reason":"wrongPin","attemptsLeft":9}`, `{"reason":"wrongPin","charged":true}`,
		`{"reason":"locked","lockedUntil":"2030-01-01T00:00:00Z"}`,
		`{"reason":"wrongPin","attemptsLeft":9,"charged":true,"proof":"0x00"}`,
		`{"reason":"wrongPin"}`, `{"reason":"locked","charged":false}`, `{"reason":"internal"}`, `{"reason":"unheardOf"}`, `{}`,
		`{"reason":"overloaded","attemptsLeft":9}`, `{"reason":"overloaded","charged":true}`,
	} {
		if err := forge(data); !errors.Is(err, ipc.ErrProof) {
			t.Errorf("%s: %v", data, err)
		}
	}
	if err := forge(`{"reason":"overloaded","retryAfter":1,"charged":false}`); !errors.As(err, &got) || got.Reason != "overloaded" || got.Proven {
		t.Errorf("an error from before the PIN was looked at: %v", err)
	}
}

// A lost answer is asked for again, byte by byte; the daemon acts once.
func TestLostAnswerIsAskedForAgain(t *testing.T) {
	var acted, lost atomic.Int32
	c, path := sealing(t, ipc.MethodDeriveAccount, func(context.Context, json.RawMessage) (any, error) {
		acted.Add(1)
		return json.RawMessage(`{"existing":false}`), nil
	})
	r := &ipctest.Relay{Hangup: func(method string) bool { return method == ipc.MethodDeriveAccount && lost.Add(1) <= 2 }}
	client := dialWith(t, r.Serve(t, path), ipc.Identity(c.Identity))
	p := ipc.DeriveAccountParams{RequestID: "r", WalletID: ipc.Hex{1}, PIN: ipc.Secret("271828")}
	if _, err := client.DeriveAccount(t.Context(), p); err != nil || acted.Load() != 1 {
		t.Errorf("%v, the daemon acted %d times", err, acted.Load())
	}
	lost.Store(-100) // every answer is lost
	if _, err := client.DeriveAccount(t.Context(), p); !errors.Is(err, ipc.ErrConnectionLost) || acted.Load() != 2 {
		t.Errorf("%v, the daemon acted %d times", err, acted.Load())
	}
}

// A daemon that was started anew has another key: the client seals once more,
// but not when the relay only says so.
func TestKeyUnknown(t *testing.T) {
	var acted atomic.Int32
	act := func(context.Context, json.RawMessage) (any, error) {
		acted.Add(1)
		return json.RawMessage(`{"existing":false}`), nil
	}
	c, path := sealing(t, ipc.MethodDeriveAccount, act)
	client := dialWith(t, path, ipc.Identity(c.Identity))
	p := ipc.DeriveAccountParams{RequestID: "r", WalletID: ipc.Hex{1}, PIN: ipc.Secret("271828")}
	if _, err := client.DeriveAccount(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	c.Receiver = channel.NewReceiver(c.Config)
	if _, err := client.DeriveAccount(t.Context(), p); err != nil || acted.Load() != 2 {
		t.Errorf("after a restart: %v, acted %d times", err, acted.Load())
	}
	asked := 0
	r := &ipctest.Relay{Answer: func(method string, m ipctest.Message) bool {
		if method == ipc.MethodDeriveAccount {
			asked++
			delete(m, "result")
			m["error"] = json.RawMessage(`{"code":-32602,"message":"x","data":{"reason":"pinKeyUnknown","charged":false}}`)
		}
		return true
	}}
	client = dialWith(t, r.Serve(t, path), ipc.Identity(c.Identity))
	if _, err := client.DeriveAccount(t.Context(), p); ipc.ReasonOf(err) != ipc.ReasonPinKeyUnknown || asked != 1 {
		t.Errorf("%v, asked %d times", err, asked)
	}
}

// That a key is unknown is not proven, and two are good for a while: an unlock, which
// a relay could have made, used up and asked for again, is sent once.
func TestUnlockIsSentOnce(t *testing.T) {
	var acted atomic.Int32
	c, path := sealing(t, ipc.MethodUnlock, func(context.Context, json.RawMessage) (any, error) {
		acted.Add(1)
		return json.RawMessage(`{"signatures":1,"until":"2026-11-21T09:51:58Z","attemptsLeft":10,"failures":0}`), nil
	})
	client := dialWith(t, path, ipc.Identity(c.Identity))
	p := ipc.UnlockParams{WalletID: ipc.Hex{1}, PIN: ipc.Secret("271828")}
	unlock := func(reason string, want int32) {
		t.Helper()
		if _, err := client.Unlock(t.Context(), p); ipc.ReasonOf(err) != reason || acted.Load() != want {
			t.Errorf("%v, unlocked %d times, want %q and %d", err, acted.Load(), reason, want)
		}
	}
	unlock("", 1)
	c.Receiver = channel.NewReceiver(c.Config)
	unlock(ipc.ReasonPinKeyUnknown, 1)
	unlock("", 2)
}

// The daemon's clock went ahead of what the client knows of it: it was set, or the
// client's host was suspended. One request is refused, and is not sent again; the
// next goes by a newly signed time.
func TestClockWentAhead(t *testing.T) {
	var acted, asked, fetched atomic.Int32
	var ahead atomic.Int64
	c, path := sealing(t, ipc.MethodDeriveAccount, func(context.Context, json.RawMessage) (any, error) {
		acted.Add(1)
		return json.RawMessage(`{"existing":false}`), nil
	})
	config := c.Config
	config.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	c.Receiver = channel.NewReceiver(config)
	r := &ipctest.Relay{Request: func(method string, _ ipctest.Message) bool {
		if method == ipc.MethodPinKey {
			fetched.Add(1)
		} else {
			asked.Add(1)
		}
		return true
	}}
	client := dialWith(t, r.Serve(t, path), ipc.Identity(c.Identity))
	derive := func() error {
		_, err := client.DeriveAccount(t.Context(), ipc.DeriveAccountParams{RequestID: "r", WalletID: ipc.Hex{1}, PIN: ipc.Secret("271828")})
		return err
	}
	if err := derive(); err != nil {
		t.Fatal(err)
	}
	ahead.Store(int64(channel.Lifetime + 30*time.Second))
	if err := derive(); ipc.ReasonOf(err) != ipc.ReasonSealedPINExpired || asked.Load() != 2 {
		t.Errorf("just after the step: %v, sent %d times", err, asked.Load()-1)
	}
	if err := derive(); err != nil || acted.Load() != 2 || asked.Load() != 3 || fetched.Load() != 2 {
		t.Errorf("%v; acted %d times, asked %d, fetched %d keys", err, acted.Load(), asked.Load(), fetched.Load())
	}
}
