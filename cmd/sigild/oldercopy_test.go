package main

import (
	"os"
	"strings"
	"testing"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/ipc"
)

func copyOf(t *testing.T, h *daemontest.Host) []byte {
	t.Helper()
	stop(t, h)
	data, err := os.ReadFile(h.Database())
	if err != nil {
		t.Fatal(err)
	}
	start(t, h)
	return data
}

func putBack(t *testing.T, h *daemontest.Host, data []byte) {
	t.Helper()
	stop(t, h)
	if err := os.WriteFile(h.Database(), data, 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, h)
}

// check runs `sigild check`.
func check(t *testing.T, h *daemontest.Host, args ...string) (said string, err error) {
	t.Helper()
	out, err := h.Command(testContext(t), append([]string{"check"}, args...)...).CombinedOutput()
	return string(out), err
}

// P4: a copy from before a wrong PIN, a PIN change, a freeze and a deletion is
// found. The daemon serves what needs no PIN and says what is wrong; the
// operator looks, and accepts; the audit log has it.
func TestP4OlderCopyEndToEnd(t *testing.T) {
	h, c := serving(t)
	for what, change := range map[string]func(w ipc.Hex) error{
		"a wrong PIN": func(w ipc.Hex) error {
			_, err := tryPIN(t, c, w, wrongPIN)
			wantReason(t, err, "wrongPin")
			return nil
		},
		"a PIN change": func(w ipc.Hex) error {
			_, err := c.ChangePIN(testContext(t), ipc.ChangePINParams{RequestID: "c", WalletID: w, PIN: ipc.Secret(rightPIN), NewPIN: ipc.Secret("518263")})
			return err
		},
		"a freeze": func(w ipc.Hex) error {
			_, err := c.FreezeWallet(testContext(t), ipc.WalletParams{WalletID: w})
			return err
		},
		"a deletion": func(w ipc.Hex) error {
			_, err := c.DeleteWallet(testContext(t), ipc.DeleteWalletParams{RequestID: "d", WalletID: w, PIN: ipc.Secret(rightPIN)})
			return err
		},
	} {
		t.Run(what, func(t *testing.T) {
			w := create(t, c, what).WalletID
			old := copyOf(t, h)
			if err := change(w); err != nil {
				t.Fatal(err)
			}
			putBack(t, h, old)
			refusedCopy(t, h, c, w)
			stop(t, h)
			said, err := check(t, h)
			if err == nil {
				t.Error("check found nothing")
			}
			mustContain(t, said, "NOT SERVED", "older copy", "check --accept")
			if said, err = check(t, h, "--accept"); err != nil {
				t.Fatalf("%v: %s", err, said)
			}
			mustContain(t, said, "accepted as the latest")
			if said, err = check(t, h, "--accept"); err == nil || !strings.Contains(said, "nothing to accept") {
				t.Errorf("accepted twice: %s", said)
			}
			start(t, h)
			if left := attemptsLeft(t, c, w); left != 3 {
				t.Errorf("%d attempts left after accepting, want 3", left)
			}
			if _, err := tryPIN(t, c, w, rightPIN); err != nil {
				t.Error(err)
			}
			log, err := os.ReadFile(h.AuditLog())
			if err != nil {
				t.Fatal(err)
			}
			mustContain(t, string(log), `"action":"acceptDatabase"`, "older copy")
		})
	}
}

// refusedCopy wants PINs and changes refused and the rest served.
func refusedCopy(t *testing.T, h *daemontest.Host, c *ipc.Client, w ipc.Hex) {
	t.Helper()
	s, err := c.Status(testContext(t))
	if err != nil || s.State != "failing" || len(s.Reasons) != 1 || s.Reasons[0].Reason != "databaseRefused" || !strings.Contains(s.Reasons[0].Detail, "older copy") {
		t.Errorf("status %+v, %v", s, err)
	}
	if _, err := c.GetWallet(testContext(t), ipc.GetWalletParams{WalletID: w}); err != nil {
		t.Error(err)
	}
	for range 3 {
		_, err := tryPIN(t, c, w, wrongPIN)
		wantReason(t, err, "databaseRefused")
	}
	if _, err := c.GetWallet(testContext(t), ipc.GetWalletParams{WalletID: w}); err != nil {
		t.Errorf("after a PIN was refused: %v", err)
	}
	_, err = c.CreateWallet(testContext(t), ipc.CreateWalletParams{RequestID: "new", Owner: "alice", PIN: ipc.Secret(rightPIN)})
	wantReason(t, err, "databaseRefused")
	_, err = c.FreezeWallet(testContext(t), ipc.WalletParams{WalletID: w})
	wantReason(t, err, "databaseRefused")
}

// The anchor's mode is changed over by the operator.
func TestAnchorIsChangedOver(t *testing.T) {
	h, c := serving(t)
	w := create(t, c, "1").WalletID
	h.Config["guard"] = "anchor = \"durable\"\nhandle = 0x01800161"
	stop(t, h)
	if err := h.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	code, said := refusedStart(t, h)
	if code != 78 {
		t.Errorf("exit code %d", code)
	}
	mustContain(t, said, "[guard]", "check --accept")
	if said, err := check(t, h, "--accept"); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	start(t, h)
	s, err := c.Status(testContext(t))
	if err != nil || s.PINCheck.Anchor != "durable" || s.State != "ready" {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := tryPIN(t, c, w, rightPIN); err != nil {
		t.Error(err)
	}
}
