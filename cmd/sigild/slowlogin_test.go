package main

import (
	"errors"
	"testing"
	"time"

	"github.com/sigild/sigild/daemon"
	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/ipc"
)

// TestSlowLogin has each log-in take longer than token.timeout: the token takes the
// PIN all the same, once for each time that the log-in is lost, and the daemon takes
// the log-in when it comes.
func TestSlowLogin(t *testing.T) {
	h := newFaultHost(t)
	start(t, h.Host)
	c := dial(t, h.Socket)
	w := create(t, c, "1")
	h.token.Slow("C_Login", 1500*time.Millisecond)
	for range 3 {
		before := h.token.Calls("C_Login")
		h.token.LogOut()
		awaitSignature(t, c, w.WalletID)
		if n := h.token.Calls("C_Login") - before; n != 1 {
			t.Errorf("%d log-ins", n)
		}
	}
	h.token.ClearAll()
	stop(t, h.Host)
	before := h.token.Calls("C_Login")
	start(t, h.Host) // no mark is left that would refuse it
	if n := h.token.Calls("C_Login") - before; n != 1 {
		t.Errorf("%d log-ins at the next start", n)
	}
}

// TestLoginsThatComeToNoSession has sessions open so slowly that several log-ins end
// before the PIN is presented: none of them counts as a try.
func TestLoginsThatComeToNoSession(t *testing.T) {
	h := newFaultHost(t)
	start(t, h.Host)
	c := dial(t, h.Socket)
	w := create(t, c, "1")
	before, opened := h.token.Calls("C_Login"), h.token.Calls(opening)
	h.token.Slow(opening, 1300*time.Millisecond)
	h.token.LogOut()
	await(t, "several attempts", func() bool {
		_, _ = tryPIN(t, c, w.WalletID, rightPIN)
		return h.token.Calls(opening) > opened+3
	})
	h.token.ClearAll()
	awaitSignature(t, c, w.WalletID)
	if n := h.token.Calls("C_Login") - before; n != 1 {
		t.Errorf("%d log-ins", n)
	}
}

// endsRefused has sigild meet that it is logged out, and wants it to end as one that
// is not restarted.
func endsRefused(t *testing.T, h *daemontest.Host, c *ipc.Client) {
	t.Helper()
	_, _ = c.CreateWallet(testContext(t), ipc.CreateWalletParams{RequestID: "2", Owner: "alice", PIN: ipc.Secret(rightPIN)})
	err := h.Wait(testContext(t))
	var exit *daemontest.ExitError
	if !errors.As(err, &exit) || exit.Code != daemon.ExitConfig {
		t.Fatalf("sigild ended with %v", err)
	}
}

// TestUnclearLoginsWithAnotherPIN changes the PIN to a wrong one under a daemon whose
// token answers log-ins with a code that says nothing: two may be counted, and no more.
func TestUnclearLoginsWithAnotherPIN(t *testing.T) {
	h, faults := pinInFile(t)
	provision(t, h)
	start(t, h)
	c := dial(t, h.Socket)
	create(t, c, "1")
	putPIN(t, h, falsePIN(h, 1))
	faults.Fail("C_Login", 0x80000123)
	before := faults.Calls("C_Login")
	faults.LogOut()
	endsRefused(t, h, c)
	if n := faults.Calls("C_Login") - before; n != 2 {
		t.Errorf("%d log-ins", n)
	}
}
