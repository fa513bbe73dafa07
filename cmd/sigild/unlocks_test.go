package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/ipc"
)

// unlockForUID unlocks a wallet for every connection of the uid that asks.
func unlockForUID(w ipc.WalletInfo) string {
	return fmt.Sprintf(`{"walletId":%q,"pin":%q,"bind":"uid","terms":{"signatures":9,"seconds":3600,"totalValue":"any","policy":{"operations":["message"]}}}`,
		w.WalletID, rightPIN)
}

func messageByUnlock(w ipc.WalletInfo) string {
	return fmt.Sprintf(`{"walletId":%q,"message":"0x00"}`, w.WalletID)
}

// lockLines are the audit log's lines about unlocks that were ended together.
func lockLines(t *testing.T, h *daemontest.Host) (why []string) {
	t.Helper()
	data, err := os.ReadFile(h.AuditLog())
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(data) {
		var e struct {
			Action string
			Detail map[string]string
		}
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		if e.Action == "lockAll" {
			why = append(why, e.Detail["wallets"]+" "+e.Detail["why"])
		}
	}
	return why
}

func wantLockLine(t *testing.T, h *daemontest.Host, want string) {
	t.Helper()
	if lines := lockLines(t, h); len(lines) != 1 || lines[0] != want {
		t.Errorf("the audit log says %q, want %q once", lines, want)
	}
}

// A uid that a reload takes out loses its unlocks: they are not there when it is
// let in again. Another uid's stay.
func TestReloadEndsUnlocksOfRemovedUIDs(t *testing.T) {
	lines := make(chan string, 1000)
	leaving, others := own, canBeOthers(t)
	if others {
		leaving = relayUID
	}
	two := "allow = " + uids(leaving, strangerUID)
	h := openToAll(t, two, watched(lines))
	leaves := newRelay(t, h, leaving)
	all := []*relay{leaves}
	if others {
		all = append(all, newRelay(t, h, strangerUID))
	}
	for _, r := range all {
		r.wallet = r.made("1")
		if err := r.call(ipc.MethodUnlock, unlockForUID(r.wallet), &json.RawMessage{}); err != nil {
			t.Fatal(err)
		}
	}
	socket := func(allow string) map[string]string {
		return map[string]string{"socket": "mode = \"0666\"\n" + allow}
	}
	hangUp(t, h, lines, socket("allow = "+uids(strangerUID)), "configuration reloaded", "changed=socket.allow")
	wantReason(t, leaves.call(ipc.MethodSignMessage, messageByUnlock(leaves.wallet), nil), ipc.ReasonPeerNotAllowed)
	hangUp(t, h, lines, socket(two), "configuration reloaded", "changed=socket.allow")
	wantReason(t, leaves.call(ipc.MethodSignMessage, messageByUnlock(leaves.wallet), nil), "unlockRequired")
	for _, stays := range all[1:] {
		if err := stays.call(ipc.MethodSignMessage, messageByUnlock(stays.wallet), &json.RawMessage{}); err != nil {
			t.Errorf("the other relay's unlock: %v", err)
		}
	}
	wantLockLine(t, h, "1 not allowed any more")
}

// A stop ends the unlocks, and the audit log says so once.
func TestStopEndsUnlocks(t *testing.T) {
	h, c := serving(t)
	for _, name := range []string{"1", "2"} {
		if err := c.Call(testContext(t), ipc.MethodUnlock, json.RawMessage(unlockForUID(create(t, c, name))), &json.RawMessage{}); err != nil {
			t.Fatal(err)
		}
	}
	stop(t, h)
	wantLockLine(t, h, "2 the daemon stops")
	start(t, h)
	stop(t, h)
	wantLockLine(t, h, "2 the daemon stops")
}

// When the TPM's counter turns out not to be this database's any more, nothing
// signs by an unlock either.
func TestRefusedDatabaseEndsUnlocks(t *testing.T) {
	h := newHost(t)
	provision(t, h)
	tap, err := h.TapTPM()
	if err != nil {
		t.Fatal(err)
	}
	start(t, h)
	c := dial(t, h.Socket)
	w, other := create(t, c, "1"), create(t, c, "2")
	if err := c.Call(testContext(t), ipc.MethodUnlock, json.RawMessage(unlockForUID(w)), &json.RawMessage{}); err != nil {
		t.Fatal(err)
	}
	tap.Answer(func(code uint32) (uint32, bool) {
		return uint32(tpm2.TPMRCBadAuth) | 0x800 | 0x100, tpm2.TPMCC(code) == tpm2.TPMCCNVIncrement // of session 1
	})
	if err := c.Call(testContext(t), ipc.MethodSignMessage, json.RawMessage(messageByUnlock(w)), &json.RawMessage{}); err != nil {
		t.Errorf("a TPM that refuses to count, before anybody asked it to: %v", err)
	}
	_, err = tryPIN(t, c, other.WalletID, rightPIN)
	wantReason(t, err, "databaseRefused")
	err = c.Call(testContext(t), ipc.MethodSignMessage, json.RawMessage(messageByUnlock(w)), &json.RawMessage{})
	wantReason(t, err, "databaseRefused")
	tap.Answer(nil)
	stop(t, h)
	if lines := lockLines(t, h); len(lines) != 1 {
		t.Errorf("the audit log says %q, want one line", lines)
	}
}

// An account's own code moves what nobody sees, so that a bound on value refuses a
// call of it; the terms that a refused client is told of allow it.
func TestOwnCodeIsOfUnknownValue(t *testing.T) {
	_, c := serving(t)
	w := create(t, c, "1")
	ctx, pin, address := testContext(t), ipc.Secret(rightPIN), w.Accounts[0].Address
	call := strings.NewReplacer("0x9858EfFD232B4033E47d90003D41EC34EcaEda94", address, `"value":"0x1"`, `"value":"0x0","input":"0xb61d27f6"`).Replace(transfer)
	sign := func(pin ipc.Secret) error {
		_, err := c.SignTransaction(ctx, ipc.SignTransactionParams{Address: address, Transaction: json.RawMessage(call), PIN: pin})
		return err
	}
	if err := sign(pin); err != nil {
		t.Errorf("without a bound: %v", err)
	}
	_, err := callAs[json.RawMessage](t, c, "eth_signTransaction", json.RawMessage(strings.Replace(call, `{`, `{"from":"`+address+`",`, 1)))
	if e := wantReason(t, err, "unlockRequired"); !strings.HasSuffix(e.Message, " --max-value any --max-cost 42000wei --total-value any") {
		t.Errorf("told to unlock by %q", e.Message)
	}
	terms := terms(1)
	terms.Policy.Operations, terms.TotalValue = []string{"transaction"}, "0xffff"
	if _, err := c.Unlock(ctx, ipc.UnlockParams{WalletID: w.WalletID, Terms: terms, PIN: pin}); err != nil {
		t.Fatal(err)
	}
	wantReason(t, sign(nil), "termsExceeded")
	rules := *w.Policy
	rules.MaxValue = "0xffff"
	if _, err := c.SetPolicy(ctx, ipc.SetPolicyParams{RequestID: "2", WalletID: w.WalletID, Policy: rules, PIN: pin}); err != nil {
		t.Fatal(err)
	}
	wantReason(t, sign(pin), "policyDenied")
}
