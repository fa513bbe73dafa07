package main

import (
	"slices"
	"testing"
	"time"

	"github.com/sigild/sigild/hsm/hsmtest"
	"github.com/sigild/sigild/ipc"
)

// TestWrongSignaturesOutsideRequests has a health probe, and then a receipt, signed
// wrongly: the token is out of service until an operator has looked, as after a
// wallet's wrong signature.
func TestWrongSignaturesOutsideRequests(t *testing.T) {
	for name, meet := range map[string]func(*faultHost, *ipc.Client){
		"a probe": func(h *faultHost, _ *ipc.Client) { h.token.WrongSignatures(hsmtest.Forever) },
		"a receipt": func(h *faultHost, c *ipc.Client) {
			h.token.WrongSignatures(1)
			_, err := c.CreateWallet(testContext(h.t), ipc.CreateWalletParams{RequestID: "1", Owner: "alice", PIN: ipc.Secret(rightPIN)})
			wantReason(h.t, err, "tokenFault")
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newFaultHost(t)
			start(t, h.Host)
			c := dial(t, h.Socket)
			w := create(t, c, "1") // asked for again, it is signed a receipt for again
			meet(h, c)
			condemned := func() bool {
				state, reasons := reasonsOf(t, c)
				return state == "failing" && slices.Contains(reasons, "tokenFault")
			}
			await(t, "tokenFault", condemned)
			h.token.ClearAll()
			await(t, "the end of all other faults", func() bool { _, reasons := reasonsOf(t, c); return len(reasons) == 1 })
			_, err := tryPIN(t, c, w.WalletID, rightPIN)
			wantReason(t, err, "tokenFault")
			stop(t, h.Host)
			start(t, h.Host)
			await(t, "tokenFault after a restart", condemned)
		})
	}
}

// TestTokenGoesBesideAHangingCall pulls the token out while one call hangs: both are
// said, and service is back before that call is.
func TestTokenGoesBesideAHangingCall(t *testing.T) {
	h := newFaultHost(t)
	start(t, h.Host)
	c := dial(t, h.Socket)
	w := create(t, c, "1")
	h.token.HangTimes("C_UnwrapKey", 1) // which no probe calls
	_, err := tryPIN(t, c, w.WalletID, rightPIN)
	wantReason(t, err, "timeout")
	h.token.Vanish()
	await(t, "tokenAway and tokenSlow", func() bool {
		_, err := tryPIN(t, c, w.WalletID, rightPIN)
		state, reasons := reasonsOf(t, c)
		return err != nil && state == "failing" && slices.Equal(reasons, []string{"tokenAway", "tokenSlow"})
	})
	h.token.Return(0)
	h.backAndReady(t, c, w, "tokenSlow")
	h.token.ClearAll()
	h.backAndReady(t, c, w)
	stop(t, h.Host)
	checkNothingCharged(t, h.Host)
}

// backAndReady waits for a signature, soon, and for a state with these reasons alone.
func (h *faultHost) backAndReady(t *testing.T, c *ipc.Client, w ipc.WalletInfo, reasons ...string) {
	t.Helper()
	ended := time.Now()
	await(t, "a signature", func() bool { _, err := tryPIN(t, c, w.WalletID, rightPIN); return err == nil })
	if back := time.Since(ended); back > backWithin() {
		t.Errorf("back after %v", back)
	}
	await(t, "the state", func() bool { _, now := reasonsOf(t, c); return slices.Equal(now, reasons) })
}

// TestEveryKindOfCallHangs lets the calls hang, one function after the other, by which
// a log-in, a session, a wallet and a receipt are made, until the state says so. It
// ends without a restart when they answer, and costs nobody an attempt.
func TestEveryKindOfCallHangs(t *testing.T) {
	for name, f := range map[string]struct {
		begin func(*hsmtest.Faults)
		state string
	}{
		"C_UnwrapKey":    {func(f *hsmtest.Faults) { f.Hang("C_UnwrapKey") }, "failing(tokenHangs)"},
		"C_Login":        {func(f *hsmtest.Faults) { f.Hang("C_Login"); f.LogOut() }, "failing(tokenHangs)"},
		"C_OpenSession":  {func(f *hsmtest.Faults) { f.Hang(opening); f.LoseSessions() }, "failing(tokenHangs)"},
		"C_CloseSession": {func(f *hsmtest.Faults) { f.Hang("C_CloseSession"); f.LogOut() }, "failing(tokenHangs)"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newFaultHost(t)
			start(t, h.Host)
			pid := h.PID()
			c := dial(t, h.Socket)
			w := create(t, c, "1")
			f.begin(h.token)
			await(t, f.state, func() bool {
				_, _ = tryPIN(t, c, w.WalletID, rightPIN)
				return stateText(reasonsOf(t, c)) == f.state
			})
			h.token.ClearAll()
			h.backAndReady(t, c, w)
			if h.PID() != pid {
				t.Errorf("process %d became %d", pid, h.PID())
			}
			stop(t, h.Host)
			checkNothingCharged(t, h.Host)
		})
	}
}

// TestReceiptsHang has every P-256 call hang: nothing is made that has a receipt, and
// wallets sign.
func TestReceiptsHang(t *testing.T) {
	h := newFaultHost(t)
	start(t, h.Host)
	w := create(t, dial(t, h.Socket), "1")
	stop(t, h.Host)
	start(t, h.Host)
	c := dial(t, h.Socket)
	// A P-256 key is looked for when it signs first, and by nothing else from now on.
	h.token.Hang("C_FindObjectsInit")
	again := func() error {
		_, err := c.CreateWallet(testContext(t), ipc.CreateWalletParams{RequestID: "1", Owner: "alice", PIN: ipc.Secret(rightPIN)})
		return err
	}
	for range 2 {
		wantReason(t, again(), "timeout")
	}
	await(t, "tokenSlow", func() bool { return stateText(reasonsOf(t, c)) == "degraded(tokenSlow)" })
	wantReason(t, again(), "tokenUnavailable")
	if _, err := tryPIN(t, c, w.WalletID, rightPIN); err != nil {
		t.Errorf("beside receipts that hang: %v", err)
	}
	h.token.ClearAll()
	await(t, "ready", func() bool { return stateText(reasonsOf(t, c)) == "ready" })
	if err := again(); err != nil {
		t.Error(err)
	}
	stop(t, h.Host)
	checkNothingCharged(t, h.Host)
}
