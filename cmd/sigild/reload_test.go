package main

import (
	"strings"
	"syscall"
	"testing"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/ipc"
)

// watched passes on the lines of sigild's log.
func watched(lines chan<- string) func(*daemontest.Options) {
	return func(o *daemontest.Options) {
		log := o.Log
		o.Log = func(line string) {
			log(line)
			select {
			case lines <- line:
			default: // nobody waits for a line so old
			}
		}
	}
}

// hangUp writes other lines into sections, sends SIGHUP and waits for a line of
// the log with these words.
func hangUp(t *testing.T, h *daemontest.Host, lines <-chan string, sections map[string]string, words ...string) {
	t.Helper()
	for section, text := range sections {
		h.Config[section] = text
	}
	if err := h.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	for len(lines) > 0 {
		<-lines
	}
	if err := syscall.Kill(h.PID(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	ctx := testContext(t)
	for {
		select {
		case line := <-lines:
			if containsAll(line, words) {
				return
			}
		case <-ctx.Done():
			t.Fatalf("the log never said %q", words)
		}
	}
}

func containsAll(line string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(line, w) {
			return false
		}
	}
	return true
}

// SIGHUP changes what can be changed at once, names what cannot, and keeps the
// old configuration when the new one has a fault.
func TestReload(t *testing.T) {
	lines := make(chan string, 1000)
	h, c := serving(t, watched(lines))
	ctx := testContext(t)
	w := create(t, c, "r")
	if _, err := c.FreezeAll(ctx); err != nil {
		t.Fatalf("the daemon's user is no operator: %v", err)
	}

	hangUp(t, h, lines, map[string]string{"socket": "operators = [12345]"}, "configuration reloaded", "changed=socket.operators")
	_, err := c.UnfreezeWallet(ctx, ipc.UnfreezeParams{WalletID: w.WalletID})
	wantReason(t, err, "operatorOnly")

	hangUp(t, h, lines, map[string]string{"socket": "operators = " + uids(own) + "\nidle_timeout = 1"}, "not reloaded", "unknown key socket.idle_timeout")
	_, err = c.UnfreezeWallet(ctx, ipc.UnfreezeParams{WalletID: w.WalletID})
	wantReason(t, err, "operatorOnly")

	// An open connection of a uid that is not allowed any more is not served.
	hangUp(t, h, lines, map[string]string{"socket": "allow = [12345]"}, "configuration reloaded", "changed=socket.allow,socket.operators")
	_, err = c.Status(ctx)
	wantReason(t, err, ipc.ReasonPeerNotAllowed)

	hangUp(t, h, lines, map[string]string{"socket": operating(), "limits": "batch = 3", "pin": cheapPIN + "\nchecks = 1"},
		"need a restart", "keys=pin.checks,limits.batch")
	if _, err := c.UnfreezeWallet(ctx, ipc.UnfreezeParams{WalletID: w.WalletID}); err != nil {
		t.Errorf("the user is allowed and an operator again: %v", err)
	}

	hangUp(t, h, lines, map[string]string{"log": `level = "debug"`}, "configuration reloaded", "changed=log.level")
	if _, err := tryPIN(t, c, w.WalletID, rightPIN); err != nil {
		t.Error(err)
	}

	hangUp(t, h, lines, map[string]string{"pin": cheapPIN + "\nchecks = 1\nplain_from = [12345]"}, "configuration reloaded", "changed=pin.plain_from")
	_, err = tryPIN(t, c, w.WalletID, rightPIN)
	wantReason(t, err, ipc.ReasonPlainPINRefused)
	hangUp(t, h, lines, map[string]string{"pin": cheapPIN + "\nchecks = 1"}, "configuration reloaded", "changed=pin.plain_from")
	if _, err := c.DeleteWallet(ctx, ipc.DeleteWalletParams{RequestID: "d", WalletID: w.WalletID, PIN: ipc.Secret(rightPIN)}); err != nil {
		t.Fatal(err)
	}

	// A shorter grace holds at once for what is deleted already.
	hangUp(t, h, lines, map[string]string{"wallets": `delete_grace = "1ns"`}, "configuration reloaded", "changed=wallets.delete_grace")
	await(t, "the purge", func() bool {
		_, err := c.GetWallet(ctx, ipc.GetWalletParams{WalletID: w.WalletID})
		return ipc.ReasonOf(err) == "notFound"
	})
}

// A level that is reloaded holds, and an operator's reload is answered at any.
func TestReloadOfTheLogLevel(t *testing.T) {
	lines := make(chan string, 1000)
	h, c := serving(t, watched(lines))
	hangUp(t, h, lines, map[string]string{"log": `level = "error"`}, "configuration reloaded", "changed=log.level")
	if _, err := c.Status(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(h.PID(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for line := range lines {
		if strings.Contains(line, "msg=request") {
			t.Fatalf("logged at level error: %s", line)
		}
		if strings.Contains(line, "configuration reloaded") {
			return
		}
	}
}

// compact gives space back while sigild is stopped, and leaves a database that
// is in use alone.
func TestCompactCommand(t *testing.T) {
	h, c := serving(t)
	w := create(t, c, "r")
	out, err := h.Command(testContext(t), "compact").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "in use by another process") || !strings.Contains(string(out), "stop the daemon first") {
		t.Errorf("while it runs: %v: %s", err, out)
	}
	stop(t, h)
	if out, err := h.Command(testContext(t), "compact").CombinedOutput(); err != nil || !strings.Contains(string(out), "bytes before") {
		t.Fatalf("%v: %s", err, out)
	}
	start(t, h)
	if _, err := tryPIN(t, c, w.WalletID, rightPIN); err != nil {
		t.Error(err)
	}
}
