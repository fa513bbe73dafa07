package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/sigild/sigild/daemon"
	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/hsm/hsmtest"
	"github.com/sigild/sigild/ipc"
)

// pinInFile is a host whose token's PIN is in a file, and whose token counts
// its calls.
func pinInFile(t *testing.T) (*daemontest.Host, *hsmtest.Faults) {
	t.Helper()
	faults, module := faultyToken(t)
	h := newHost(t, module)
	h.Config["token"] = `pin = "file:` + pinFile(h) + `"`
	if err := h.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	putPIN(t, h, h.TokenPIN())
	return h, faults
}

func pinFile(h *daemontest.Host) string { return filepath.Join(h.Dir, "token.pin") }

func putPIN(t *testing.T, h *daemontest.Host, pin []byte) {
	t.Helper()
	if err := errors.Join(os.RemoveAll(pinFile(h)), os.WriteFile(pinFile(h), append(pin, '\n'), 0o400)); err != nil {
		t.Fatal(err)
	}
}

// falsePIN is as long and as mixed as the true one, and another at each call.
func falsePIN(h *daemontest.Host, n byte) []byte {
	pin := h.TokenPIN()
	slices.Reverse(pin)
	pin[0] = 'x' + n
	return pin
}

func TestWrongTokenPINIsTriedOnce(t *testing.T) {
	h, faults := pinInFile(t)
	provision(t, h)
	start(t, h)
	c := dial(t, h.Socket)
	w := create(t, c, "1")
	stop(t, h)
	for n := range byte(2) {
		before := faults.Calls("C_Login")
		putPIN(t, h, falsePIN(h, n))
		for range 3 {
			refusedWith(t, h, "refused this user PIN", "token.pin")
		}
		if tries := faults.Calls("C_Login") - before; tries != 1 {
			t.Fatalf("a wrong token PIN was tried %d times in three starts", tries)
		}
	}
	putPIN(t, h, h.TokenPIN())
	start(t, h)
	signAll(t, c, w, 0)
}

func TestWrongTokenPINAtProvisioningIsTriedOnce(t *testing.T) {
	h, faults := pinInFile(t)
	putPIN(t, h, []byte("0123456789abcdef0123456789abcdef"))
	for range 2 {
		code, said := command(t, h, "", "provision")
		if code != daemon.ExitConfig {
			t.Errorf("exit code %d", code)
		}
		mustContain(t, said, "refused this user PIN")
	}
	if tries := faults.Calls("C_Login"); tries != 1 {
		t.Errorf("%d log-ins", tries)
	}
	putPIN(t, h, h.TokenPIN())
	provision(t, h)
	start(t, h)
}

// unclear has C_Login do its work and then say that the device failed, so that
// nobody knows whether the token counted a wrong PIN.
func unclear(faults *hsmtest.Faults) { faults.FailAfter("C_Login", pkcs11.CKR_DEVICE_ERROR) }

// logInCommands are those that log in, each with what it reads from a descriptor.
func logInCommands(h *daemontest.Host, code []byte) map[string]func(t *testing.T) (exit int, said string) {
	return map[string]func(*testing.T) (int, string){
		"provision": func(t *testing.T) (int, string) { return command(t, h, "", "provision") },
		"run":       func(t *testing.T) (int, string) { return command(t, h, "", "run") },
		"recover": func(t *testing.T) (int, string) {
			return command(t, h, string(code)+"\n", "recover", "--code-fd", "0")
		},
	}
}

// TestUnclearLogInIsTriedTwice: an answer that does not say whether the PIN was
// judged may have cost one of the token's tries, of which there may be three.
func TestUnclearLogInIsTriedTwice(t *testing.T) {
	for _, name := range []string{"provision", "run", "recover"} {
		t.Run(name, func(t *testing.T) {
			h, faults := pinInFile(t)
			var code []byte
			if name != "provision" {
				code = provision(t, h)
			}
			unclear(faults)
			before := faults.Calls("C_Login")
			var said string
			for range 4 {
				_, said = logInCommands(h, code)[name](t)
			}
			mustContain(t, said, "refused this user PIN", "forget-refusal")
			if tries := faults.Calls("C_Login") - before; tries != 2 {
				t.Errorf("%d log-ins", tries)
			}
		})
	}
}

// TestCountedLogInIsTriedOnce has the token say, by its flags, that the unclear
// log-in was one with a wrong PIN. Its count outlives the process that made it.
func TestCountedLogInIsTriedOnce(t *testing.T) {
	for _, name := range []string{"provision", "run", "recover"} {
		t.Run(name, func(t *testing.T) {
			h, faults := pinInFile(t)
			var code []byte
			if name != "provision" {
				code = provision(t, h)
			}
			putPIN(t, h, falsePIN(h, 0))
			faults.LockAfter(3)
			unclear(faults)
			before := faults.Calls("C_Login")
			for range 4 {
				logInCommands(h, code)[name](t)
			}
			if tries, counted := faults.Calls("C_Login")-before, faults.Calls("pin.tries"); tries != 1 || counted != 1 {
				t.Errorf("%d log-ins, of which the token counted %d", tries, counted)
			}
		})
	}
}

// TestIgnoredPINLeavesAllAsItWas has the token fail before it looks at the PIN, in
// between log-ins with an unclear answer: it costs no try and forgives none.
func TestIgnoredPINLeavesAllAsItWas(t *testing.T) {
	h, faults := pinInFile(t)
	before := faults.Calls("C_Login")
	for _, code := range []uint{pkcs11.CKR_DEVICE_REMOVED, pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_SESSION_CLOSED,
		pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_DEVICE_REMOVED} {
		faults.Fail("C_Login", code)
		if exit, said := command(t, h, "", "provision"); exit == 0 {
			t.Fatalf("provisioned: %s", said)
		}
	}
	if tries := faults.Calls("C_Login") - before; tries != 4 { // after the second unclear one there is none
		t.Errorf("%d log-ins", tries)
	}
	faults.Clear("C_Login")
	if code, _ := command(t, h, "", "forget-refusal"); code != 0 {
		t.Errorf("forget-refusal: exit code %d", code)
	}
	provision(t, h)
}

// TestTakenPINOutlastsAnOutage: the PIN that the token took from this process is
// tried as often as a failing device makes necessary, and the next start may too.
func TestTakenPINOutlastsAnOutage(t *testing.T) {
	h, faults := pinInFile(t)
	provision(t, h)
	start(t, h)
	c := dial(t, h.Socket)
	w := create(t, c, "1")
	faults.Fail("C_Login", pkcs11.CKR_DEVICE_ERROR)
	before := faults.Calls("C_Login")
	faults.LogOut()
	await(t, "several log-ins", func() bool { return faults.Calls("C_Login")-before >= 5 })
	faults.Clear("C_Login")
	awaitSignature(t, c, w.WalletID)
	faults.Fail("C_Login", pkcs11.CKR_DEVICE_ERROR)
	faults.LogOut()
	before = faults.Calls("C_Login")
	await(t, "several log-ins", func() bool { return faults.Calls("C_Login")-before >= 5 })
	kill(t, h)
	faults.Clear("C_Login")
	start(t, h)
	awaitSignature(t, c, w.WalletID)
}

// TestLogInCutShortIsTriedOnceMore kills sigild in its log-in: whether the
// token counted the try is unknown, so that there is a second and no third.
func TestLogInCutShortIsTriedOnceMore(t *testing.T) {
	h, faults := pinInFile(t)
	provision(t, h)
	before := faults.Calls("C_Login")
	faults.Hang("C_Login")
	for tries := 1; tries <= 2; tries++ {
		killInLogin(t, h, faults, before+tries)
	}
	refusedWith(t, h, "refused this user PIN")
	if tries := faults.Calls("C_Login") - before; tries != 2 {
		t.Errorf("%d log-ins", tries)
	}
	faults.Clear("C_Login")
}

// killInLogin starts sigild and kills it when the token was called that often.
func killInLogin(t *testing.T, h *daemontest.Host, faults *hsmtest.Faults, calls int) {
	t.Helper()
	cmd := h.Command(testContext(t), "run")
	cmd.Stderr = io.Discard
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	poll := time.NewTicker(2 * time.Millisecond)
	defer poll.Stop()
	for faults.Calls("C_Login") < calls {
		select {
		case <-poll.C:
		case <-testContext(t).Done():
			t.Fatal("sigild does not log in")
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
}

func TestPINFileThatOthersMayReadIsRefused(t *testing.T) {
	h, faults := pinInFile(t)
	provision(t, h)
	before := faults.Calls("C_Login")
	for _, mode := range []os.FileMode{0o440, 0o604, 0o644} {
		if err := os.Chmod(pinFile(h), mode); err != nil {
			t.Fatal(err)
		}
		code, said := refusedStart(t, h)
		if code == 0 {
			t.Errorf("mode %o is accepted", mode)
		}
		mustContain(t, said, "only its owner may read", "chmod 0400")
	}
	if tries := faults.Calls("C_Login") - before; tries != 0 {
		t.Errorf("%d log-ins", tries)
	}
}

// TestTokenThatFailsCostsNoAttempt has single functions of the token fail in a
// PIN check, and answer wrongly.
func TestTokenThatFailsCostsNoAttempt(t *testing.T) {
	faults, module := faultyToken(t)
	h, c := serving(t, module)
	w := create(t, c, "1")
	const deviceError, hostMemory = 0x30, 0x02
	for _, fault := range []struct {
		function string
		code     uint
		reason   string
	}{
		{"C_UnwrapKey", deviceError, "tokenUnavailable"}, {"C_Sign", deviceError, "tokenUnavailable"},
		{"C_SignInit", hostMemory, "tokenUnavailable"},
		{"C_Sign", 0, "recordCorrupt"}, // MACs are said to be made, and are zeros
	} {
		faults.Fail(fault.function, fault.code)
		_, err := tryPIN(t, c, w.WalletID, rightPIN)
		wantReason(t, err, fault.reason)
		faults.Clear(fault.function)
		awaitSignature(t, c, w.WalletID)
	}
	for spared := range signaturesInACheck { // each call of a check is the first to fail once
		faults.Spare("C_Sign", spared)
		faults.Fail("C_Sign", deviceError)
		_, err := tryPIN(t, c, w.WalletID, rightPIN)
		wantReason(t, err, "tokenUnavailable")
		faults.Clear("C_Sign")
		awaitSignature(t, c, w.WalletID)
	}
	stop(t, h)
	checkNothingCharged(t, h)
}

// signaturesInACheck is how many calls of C_Sign there are at least in a signature by
// PIN: MACs, the pepper, the tweak and the signature.
const signaturesInACheck = 5

// awaitSignature signs as soon as the token is back.
func awaitSignature(t *testing.T, c *ipc.Client, wallet ipc.Hex) {
	t.Helper()
	for ctx := testContext(t); ; {
		_, err := tryPIN(t, c, wallet, rightPIN)
		if err == nil {
			return
		}
		if ipc.ReasonOf(err) != "tokenUnavailable" || ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}

func TestLogHoldsNoSecrets(t *testing.T) {
	log := new(record)
	h := newHost(t, withConfig(map[string]string{"log": `level = "debug"`}), func(o *daemontest.Options) { o.Log, o.Progress = log.add, log.add })
	code := provision(t, h)
	start(t, h)
	c := dial(t, h.Socket)
	w := create(t, c, "1")
	signAll(t, c, w, 0)
	if _, err := tryPIN(t, c, w.WalletID, wrongPIN); ipc.ReasonOf(err) != "wrongPin" {
		t.Fatal(err)
	}
	stop(t, h)
	said := strings.Join(log.all(), "\n")
	mustContain(t, said, "sigild_createWallet", "sigild_signTransaction", "wrongPin")
	mustNotLeak(t, said, []byte(rightPIN), []byte(wrongPIN), h.TokenPIN(), code)
}
