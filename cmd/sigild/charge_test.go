package main

import (
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/ipc"
)

// reboot restarts sigild and the TPM under it.
func reboot(t testing.TB, h *daemontest.Host) {
	t.Helper()
	stop(t, h)
	if err := h.RebootTPM(testContext(t)); err != nil {
		t.Fatal(err)
	}
	start(t, h)
}

// holdHMAC makes the TPM's next HMAC, the one in the middle of a PIN check,
// wait. The first channel says that one waits, the function lets it go.
func holdHMAC(tap *daemontest.Tap) (waiting <-chan struct{}, release func()) {
	arrived, leave := make(chan struct{}, 1), make(chan struct{})
	tap.Watch(func(code uint32) {
		if code == uint32(tpm2.TPMCCHMAC) {
			arrived <- struct{}{}
			<-leave
		}
	})
	return arrived, func() { tap.Watch(nil); close(leave) }
}

// killInCheck sends a PIN and kills sigild between the charge and the answer.
func killInCheck(t testing.TB, h *daemontest.Host, tap *daemontest.Tap, wallet ipc.Hex, pin string) {
	t.Helper()
	killInRequest(t, h, tap, func(c *ipc.Client) error {
		_, err := c.SignMessage(testContext(t), ipc.SignMessageParams{WalletID: wallet, Message: ipc.Hex("hello"), PIN: ipc.Secret(pin)})
		return err
	})
}

// killInRequest makes a request and kills sigild when it waits for the TPM's
// HMAC.
func killInRequest(t testing.TB, h *daemontest.Host, tap *daemontest.Tap, request func(*ipc.Client) error) {
	t.Helper()
	waiting, release := holdHMAC(tap)
	defer release()
	c := dial(t, h.Socket)
	answer := make(chan error, 1)
	go func() { answer <- request(c) }()
	select {
	case <-waiting:
	case err := <-answer:
		t.Fatalf("answered without the TPM: %v", err)
	}
	kill(t, h)
	if err := <-answer; err == nil {
		t.Fatal("an answer came from a process that was killed before it")
	}
}

func TestKillNineInACheckGivesNoAttemptBack(t *testing.T) {
	h := newHost(t)
	tap, err := h.TapTPM()
	if err != nil {
		t.Fatal(err)
	}
	provision(t, h)
	start(t, h)
	c := dial(t, h.Socket)
	w := create(t, c, "1")
	left := 10
	for _, pin := range []string{wrongPIN, rightPIN, wrongPIN} {
		killInCheck(t, h, tap, w.WalletID, pin)
		start(t, h)
		left--
		if got := attemptsLeft(t, c, w.WalletID); got != left {
			t.Fatalf("%d attempts left after a kill in a check, want %d", got, left)
		}
	}
	if _, err := tryPIN(t, c, w.WalletID, rightPIN); err != nil {
		t.Fatal(err)
	}
	if got := attemptsLeft(t, c, w.WalletID); got != 10 {
		t.Errorf("%d attempts left after the right PIN", got)
	}
}

func TestKillNineInTheLastCheckLocks(t *testing.T) {
	h := newHost(t, withConfig(map[string]string{"pin": cheapPIN + "\nconsecutive = 1"}))
	tap, err := h.TapTPM()
	if err != nil {
		t.Fatal(err)
	}
	provision(t, h)
	start(t, h)
	c := dial(t, h.Socket)
	w := create(t, c, "1")
	killInCheck(t, h, tap, w.WalletID, wrongPIN)
	start(t, h)
	_, err = tryPIN(t, c, w.WalletID, rightPIN)
	wantReason(t, err, "locked")
}

// TestKillNineInACreationLeavesNothing kills sigild in a creation; the same
// request then makes the one wallet.
func TestKillNineInACreationLeavesNothing(t *testing.T) {
	h := newHost(t)
	tap, err := h.TapTPM()
	if err != nil {
		t.Fatal(err)
	}
	provision(t, h)
	start(t, h)
	killInRequest(t, h, tap, func(c *ipc.Client) error {
		_, err := c.CreateWallet(testContext(t), ipc.CreateWalletParams{RequestID: "1", Owner: "alice", PIN: ipc.Secret(rightPIN)})
		return err
	})
	start(t, h)
	c := dial(t, h.Socket)
	if n := countWallets(t, c); n != 0 {
		t.Fatalf("%d wallets after a creation that was cut short", n)
	}
	signAll(t, c, create(t, c, "1"), 0)
	if n := countWallets(t, c); n != 1 {
		t.Errorf("%d wallets", n)
	}
}
