package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/daemon/entropy/kmstest"
	"github.com/sigild/sigild/hsm/hsmtest"
	"github.com/sigild/sigild/ipc"
)

// await repeats a question until the answer is yes.
func await(t testing.TB, what string, yes func() bool) {
	t.Helper()
	again := time.NewTicker(2 * time.Millisecond)
	defer again.Stop()
	for ctx := testContext(t); !yes(); {
		select {
		case <-again.C:
		case <-ctx.Done():
			t.Fatalf("still waiting: %s", what)
		}
	}
}

// reasonsOf asks for the state and the reasons.
func reasonsOf(t testing.TB, c *ipc.Client) (state string, reasons []string) {
	t.Helper()
	s, err := c.Status(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range s.Reasons {
		reasons = append(reasons, r.Reason)
		if r.Detail == "" || r.Works == "" || r.Action == "" || r.Since.IsZero() {
			t.Errorf("a reason says too little: %+v", r)
		}
	}
	return s.State, reasons
}

// kindsOfMethods calls one method of each kind that there is: wallets are made, read,
// changed with and without a PIN, unlocked, locked and signed with.
func kindsOfMethods(c *ipc.Client, w ipc.Hex, request string) map[string]func(context.Context) error {
	pin := ipc.Secret(rightPIN)
	policy := ipc.Policy{Operations: []string{"message"}}
	return map[string]func(context.Context) error{
		"createWallet": func(ctx context.Context) error {
			_, err := c.CreateWallet(ctx, ipc.CreateWalletParams{RequestID: request, Owner: "alice", PIN: pin})
			return err
		},
		"getWallet": func(ctx context.Context) error {
			_, err := c.GetWallet(ctx, ipc.GetWalletParams{WalletID: w})
			return err
		},
		"listWallets": func(ctx context.Context) error {
			_, err := c.ListWallets(ctx, ipc.ListWalletsParams{})
			return err
		},
		"deriveAccount": func(ctx context.Context) error {
			_, err := c.DeriveAccount(ctx, ipc.DeriveAccountParams{RequestID: request, WalletID: w, PIN: pin})
			return err
		},
		"updateWallet": func(ctx context.Context) error {
			_, err := c.UpdateWallet(ctx, ipc.UpdateWalletParams{WalletID: w, Label: new(string)})
			return err
		},
		"freezeWallet": func(ctx context.Context) error {
			_, err := c.FreezeWallet(ctx, ipc.WalletParams{WalletID: w})
			return err
		},
		"changePin": func(ctx context.Context) error {
			_, err := c.ChangePIN(ctx, ipc.ChangePINParams{RequestID: request + " pin", WalletID: w, PIN: pin, NewPIN: pin})
			return err
		},
		"setPolicy": func(ctx context.Context) error {
			_, err := c.SetPolicy(ctx, ipc.SetPolicyParams{RequestID: request + " policy", WalletID: w, PIN: pin, Policy: policy})
			return err
		},
		"unlock": func(ctx context.Context) error {
			_, err := c.Unlock(ctx, ipc.UnlockParams{WalletID: w, PIN: pin, Terms: terms(1)})
			return err
		},
		"signMessage": func(ctx context.Context) error {
			_, err := c.SignMessage(ctx, ipc.SignMessageParams{WalletID: w, Message: ipc.Hex("hello"), PIN: pin})
			return err
		},
		"deleteWallet": func(ctx context.Context) error {
			_, err := c.DeleteWallet(ctx, ipc.DeleteWalletParams{RequestID: request + " deletion", WalletID: w, PIN: pin})
			return err
		},
	}
}

// TestStartWithoutDevices starts while each device, and both, are away: status
// serves, everything else is unavailable, and the devices are taken when they
// come.
func TestStartWithoutDevices(t *testing.T) {
	h := newFaultHost(t)
	start(t, h.Host)
	w := create(t, dial(t, h.Socket), "before")
	stop(t, h.Host)
	for name, away := range map[string]struct{ token, tpm bool }{
		"token": {token: true}, "TPM": {tpm: true}, "both": {token: true, tpm: true},
	} {
		t.Run(name, func(t *testing.T) {
			h.t = t
			if away.token {
				h.token.Vanish()
			}
			if away.tpm {
				h.stopTPM()
			}
			start(t, h.Host)
			defer stop(t, h.Host)
			c := dial(t, h.Socket)
			if state, reasons := reasonsOf(t, c); state != "failing" || len(reasons) == 0 {
				t.Errorf("state %q, reasons %v", state, reasons)
			}
			for method, call := range kindsOfMethods(c, w.WalletID, "away "+name) {
				err := call(testContext(t))
				var e *ipc.Error
				if !errors.As(err, &e) || e.RetryAfter == nil || !strings.HasSuffix(e.Reason, "Unavailable") {
					t.Errorf("%s: %v", method, err)
				}
			}
			if away.tpm {
				h.startTPM()
			}
			if away.token {
				h.token.ClearAll()
			}
			begun := time.Now()
			await(t, "the devices", func() bool { state, _ := reasonsOf(t, c); return state == "ready" })
			t.Logf("ready %v after the devices were back", time.Since(begun).Round(time.Millisecond))
			if _, err := tryPIN(t, c, w.WalletID, rightPIN); err != nil {
				t.Error(err)
			}
			create(t, c, "back "+name)
		})
	}
	checkNothingCharged(t, h.Host)
}

// TestRefusedPINEndsTheDaemon changes the token's PIN under a daemon that runs:
// it tries the old one once, and ends with the exit code on which nobody starts
// it again.
func TestRefusedPINEndsTheDaemon(t *testing.T) {
	h, faults := pinInFile(t)
	provision(t, h)
	start(t, h)
	c := dial(t, h.Socket)
	create(t, c, "1")
	putPIN(t, h, falsePIN(h, 1))
	before := faults.Calls("C_Login")
	faults.LogOut()
	endsRefused(t, h, c)
	if tries := faults.Calls("C_Login") - before; tries != 1 {
		t.Errorf("%d log-ins", tries)
	}
	refusedWith(t, h, "refused this user PIN")
	if tries := faults.Calls("C_Login") - before; tries != 1 {
		t.Errorf("%d log-ins after another start", tries)
	}
}

// TestBadSignaturesTakeTheTokenOutOfService has the token sign wrongly, and
// repeat a nonce in signatures that verify: nothing leaves, and nobody signs
// until an operator allows it, over restarts.
func TestBadSignaturesTakeTheTokenOutOfService(t *testing.T) {
	for reason, misbehave := range map[string]func(*hsmtest.Faults){
		"tokenFault":  func(f *hsmtest.Faults) { f.WrongSignatures(hsmtest.Forever) },
		"nonceReused": func(f *hsmtest.Faults) { f.RepeatNonces(true) },
	} {
		t.Run(reason, func(t *testing.T) {
			faults, module := faultyToken(t)
			faults.LearnRoots()
			h, c := serving(t, module)
			w := create(t, c, "1")
			misbehave(faults)
			var nonce []byte // r of the last signature that left
			sign := func(text string) error {
				s, err := c.SignMessage(testContext(t), ipc.SignMessageParams{WalletID: w.WalletID, Message: ipc.Hex(text), PIN: ipc.Secret(rightPIN)})
				if err == nil {
					if bytes.Equal(nonce, s.Signature[:32]) {
						t.Fatal("a signature with a repeated nonce left")
					}
					nonce = s.Signature[:32]
				}
				return err
			}
			if reason == "nonceReused" {
				if err := sign("first"); err != nil {
					t.Fatalf("the first signature with this nonce: %v", err)
				}
			}
			err := sign("second")
			for n := 0; err == nil && n < 8; n++ { // the module did not repeat its nonce yet
				err = sign(fmt.Sprint("another ", n))
			}
			wantReason(t, err, reason)
			faults.ClearAll()
			for range 2 {
				wantReason(t, sign("third"), "tokenFault")
				if state, reasons := reasonsOf(t, c); state != "failing" || reasons[0] != "tokenFault" {
					t.Errorf("state %q, reasons %v", state, reasons)
				}
				stop(t, h)
				start(t, h)
			}
			stop(t, h)
			code, said := command(t, h, "", "clear-token-fault")
			if code != 0 {
				t.Fatalf("exit code %d: %s", code, said)
			}
			mustContain(t, said, "in service")
			start(t, h)
			if err := sign("fourth"); err != nil {
				t.Error(err)
			}
			if left := attemptsLeft(t, c, w.WalletID); left != 10 {
				t.Errorf("%d attempts left", left)
			}
			if audited(t, h, "clearTokenFault") != 1 {
				t.Error("the operator's decision is not in the audit log")
			}
		})
	}
}

// TestHangingTokenIsReported lets every call into the module hang: the status
// serves and says so, and service returns without a restart.
func TestHangingTokenIsReported(t *testing.T) {
	h := newFaultHost(t)
	start(t, h.Host)
	c := dial(t, h.Socket)
	w := create(t, c, "1")
	threads := resourcesOf(t, h.Host).threads
	h.token.HangTimes("C_UnwrapKey", 1) // which no probe calls
	_, err := tryPIN(t, c, w.WalletID, rightPIN)
	wantReason(t, err, "timeout")
	for range 10 {
		if _, err := tryPIN(t, c, w.WalletID, rightPIN); err != nil {
			t.Fatalf("beside one call that hangs: %v", err)
		}
	}
	await(t, "tokenSlow", func() bool { state, r := reasonsOf(t, c); return state == "degraded" && r[0] == "tokenSlow" })
	h.token.Hang(signing)
	await(t, "tokenUnavailable at once", func() bool {
		_, err := tryPIN(t, c, w.WalletID, rightPIN)
		return ipc.ReasonOf(err) == "tokenUnavailable"
	})
	if state, _ := reasonsOf(t, c); state == "ready" {
		t.Errorf("state %q", state)
	}
	if now := resourcesOf(t, h.Host).threads; now > threads+16 {
		t.Errorf("%d threads, %d before", now, threads)
	}
	h.token.ClearAll()
	await(t, "a signature", func() bool { _, err := tryPIN(t, c, w.WalletID, rightPIN); return err == nil })
	await(t, "ready", func() bool { state, _ := reasonsOf(t, c); return state == "ready" })
	for spared := range signaturesInACheck { // each call of a check is the first to hang once
		h.token.Spare(signing, spared)
		h.token.Hang(signing)
		if _, err := tryPIN(t, c, w.WalletID, rightPIN); err == nil {
			t.Errorf("signed, although all calls after %d hang", spared)
		}
		h.token.Clear(signing)
		awaitSignature(t, c, w.WalletID)
	}
	stop(t, h.Host)
	checkNothingCharged(t, h.Host)
}

// TestKMSIsAskedUntilItAnswers has KMS refuse one creation. The daemon then asks
// by itself, seldom, and the state is ready again without another creation.
func TestKMSIsAskedUntilItAnswers(t *testing.T) {
	log := new(record)
	h := newFaultHost(t, func(o *daemontest.Options) { o.Log = log.add })
	start(t, h.Host)
	c := dial(t, h.Socket)
	w := create(t, c, "1")
	asked := func() int { return h.KMS.Stats().Requests }
	quiet := asked()
	h.KMS.Denied(kmstest.Always)
	_, err := c.CreateWallet(testContext(t), ipc.CreateWalletParams{RequestID: "2", Owner: "alice", PIN: ipc.Secret(rightPIN)})
	wantReason(t, err, "entropyFailed")
	if state, reasons := reasonsOf(t, c); state != "degraded" || !slices.Equal(reasons, []string{"kms"}) {
		t.Errorf("state %q, reasons %v", state, reasons)
	}
	begun := time.Now()
	await(t, "two questions", func() bool { return asked() >= quiet+3 })
	if took := time.Since(begun); took < time.Second {
		t.Errorf("two questions in %v", took)
	}
	if state, _ := reasonsOf(t, c); state != "degraded" {
		t.Errorf("state %q while KMS refuses", state)
	}
	h.KMS.Reset()
	begun = time.Now()
	await(t, "ready", func() bool { state, _ := reasonsOf(t, c); return state == "ready" })
	t.Logf("ready %v after KMS was back, by %d questions", time.Since(begun).Round(time.Millisecond), asked()-quiet-1)
	if _, err := tryPIN(t, c, w.WalletID, rightPIN); err != nil {
		t.Error(err)
	}
	if most := quiet + 5; asked() > most {
		t.Errorf("KMS was asked %d times, want at most %d", asked(), most)
	}
	create(t, c, "2")
	stop(t, h.Host)
	mustContain(t, strings.Join(log.all(), "\n"), "msg=degraded reason=kms", "AccessDenied", `msg="no longer degraded" reason=kms`)
}
