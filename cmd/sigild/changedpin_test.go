package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/sigild/sigild/cmd/internal/ask/asktest"
	"github.com/sigild/sigild/daemon"
	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/hsm/hsmtest"
)

// changedPIN is a host, with the token's PIN in the TPM and a wallet, whose token got
// another user PIN. It locks after so many wrong ones.
func changedPIN(t *testing.T, locks int) (m *measured, faults *hsmtest.Faults, pin []byte) {
	t.Helper()
	faults, module := faultyToken(t)
	var o daemontest.Options
	module(&o)
	m = newMeasuredHost(t, o)
	pin = []byte("5a0f4f6f9d1c4f6ab3de0c7766e52f91")
	setTokenPIN(t, m.Host, pin)
	faults.LockAfter(locks)
	return m, faults, pin
}

// setTokenPIN changes the user PIN on the token, as its vendor's tool would.
func setTokenPIN(t *testing.T, h *daemontest.Host, pin []byte) {
	t.Helper()
	useEnvironment(t, h)
	module := pkcs11.New(daemontest.Module)
	if module == nil {
		t.Fatal("SoftHSM cannot be loaded")
	}
	defer module.Destroy()
	if err := module.Initialize(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = module.Finalize() }()
	slots, err := module.GetSlotList(true)
	if err != nil || len(slots) == 0 {
		t.Fatalf("slots %v: %v", slots, err)
	}
	session, err := module.OpenSession(slots[0], pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(module.Login(session, pkcs11.CKU_USER, string(h.TokenPIN())),
		module.SetPIN(session, string(h.TokenPIN()), string(pin)))
	if err != nil {
		t.Fatal(err)
	}
}

// logsIn wants so many log-ins in what run does.
func logsIn(t *testing.T, faults *hsmtest.Faults, want int, run func()) {
	t.Helper()
	before := faults.Calls("C_Login")
	run()
	if got := faults.Calls("C_Login") - before; got != want {
		t.Errorf("%d log-ins, want %d", got, want)
	}
}

// recoverWith runs `sigild recover` with the token's PIN from a descriptor.
func (m *measured) recoverWith(pin []byte, args ...string) (code int, said string) {
	m.t.Helper()
	return feeding(m.t, m.Host, [][]byte{m.code, pin}, append([]string{"recover", "--code-fd", "3", "--pin-fd", "4"}, args...)...)
}

// recoversWith wants that to succeed.
func (m *measured) recoversWith(pin []byte) {
	m.t.Helper()
	if code, said := m.recoverWith(pin); code != 0 {
		m.t.Fatalf("exit code %d: %s", code, said)
	}
}

// refusedFromFile starts the daemon with a PIN from a file, which it must refuse.
func (m *measured) refusedFromFile(pin []byte) {
	m.t.Helper()
	before := m.Config["token"]
	defer func() {
		m.Config["token"] = before
		if err := m.WriteConfig(); err != nil {
			m.t.Error(err)
		}
	}()
	putPIN(m.t, m.Host, pin)
	m.Config["token"] = `pin = "file:` + pinFile(m.Host) + `"`
	if err := m.WriteConfig(); err != nil {
		m.t.Fatal(err)
	}
	m.refused(daemon.ExitConfig, "refused this user PIN")
}

// The PIN that the TPM and the recovery code keep costs the token one try after it was
// changed, and a mistyped new one another. The TPM and the code keep the new one then.
func TestChangedTokenPINIsGivenToTheTPM(t *testing.T) {
	m, faults, pin := changedPIN(t, 4)
	logsIn(t, faults, 1, func() { m.refused(daemon.ExitConfig, "refused this user PIN", "sigild recover") })
	logsIn(t, faults, 0, func() { // nobody is there to be asked
		m.fails("file descriptor", m.code, "recover", "--code-fd", "3")
	})
	for _, old := range [][]byte{m.TokenPIN(), m.TokenPIN()} {
		logsIn(t, faults, 0, func() { m.recoverWith(old) })
	}
	logsIn(t, faults, 1, func() {
		if code, said := m.recoverWith(falsePIN(m.Host, 0)); code != daemon.ExitConfig {
			t.Errorf("a wrong PIN: exit code %d: %s", code, said)
		}
	})
	logsIn(t, faults, 0, func() { m.refused(daemon.ExitConfig, "refused this user PIN") })
	m.recoversWith(pin)
	m.signs()
	m.extend(11)
	m.refused(daemon.ExitConfig, "PCR 11")
	m.succeeds(m.code, "recover", "--code-fd", "3")
	m.signs()
}

// A mistyped new PIN is tried once, however often the command is run with it, and also
// where the token does not say what became of it. Another one is tried.
func TestChangedTokenPINIsMistyped(t *testing.T) {
	m, faults, pin := changedPIN(t, 9)
	m.refused(daemon.ExitConfig, "refused this user PIN")
	unclear(faults)
	for n := range byte(2) {
		logsIn(t, faults, 1, func() {
			for range 3 {
				m.recoverWith(falsePIN(m.Host, n))
			}
		})
		faults.Clear("C_Login") // the next one is refused in so many words
	}
	logsIn(t, faults, 0, func() {
		code, said := m.recoverWith(falsePIN(m.Host, 1))
		if code != daemon.ExitConfig || !strings.Contains(said, "was given to `sigild recover` before") {
			t.Errorf("exit code %d: %s", code, said)
		}
		m.recoverWith(m.TokenPIN())
		m.refused(daemon.ExitConfig, "refused this user PIN")
		m.refusedFromFile(falsePIN(m.Host, 1))
	})
	m.recoversWith(pin)
	logsIn(t, faults, 1, m.signs)
}

// A mistyped new PIN that the token did not get to see may be given again, and so may
// the right one after the token took it and the TPM failed to.
func TestChangedTokenPINIsGivenAgain(t *testing.T) {
	m, faults, pin := changedPIN(t, 9)
	m.refused(daemon.ExitConfig, "refused this user PIN")
	faults.Fail("C_Login", pkcs11.CKR_DEVICE_REMOVED)
	for range 2 {
		logsIn(t, faults, 1, func() { m.recoverWith(pin) })
	}
	faults.Clear("C_Login")
	faults.Fail("C_FindObjectsInit", pkcs11.CKR_DEVICE_ERROR) // the keys are opened after the log-in
	logsIn(t, faults, 1, func() {
		if code, said := m.recoverWith(pin); code == 0 {
			t.Errorf("recovered: %s", said)
		}
	})
	faults.ClearAll()
	m.recoversWith(pin)
	m.signs()
}

// Who changes the PIN and gives it at once loses no try of the token.
func TestChangedTokenPINIsGivenAhead(t *testing.T) {
	m, faults, pin := changedPIN(t, 2)
	logsIn(t, faults, 1, func() { m.recoversWith(pin) })
	logsIn(t, faults, 1, m.signs)
}

// At a terminal the new PIN is asked for after a refusal, and not before.
func TestChangedTokenPINIsAskedFor(t *testing.T) {
	m, _, pin := changedPIN(t, 3)
	m.refused(daemon.ExitConfig, "refused this user PIN")
	m.recoverAsked(pin)
	m.signs()
	term := asktest.Start(t, m.Command(m.ctx, "recover"))
	term.Expect("Recovery code")
	term.Send(string(m.code) + "\n")
	if code, said := term.Wait(); code != 0 || strings.Contains(said, "User PIN") {
		t.Fatalf("without a refusal: exit code %d: %s", code, said)
	}
}

// The old PIN is not tried again where the token counts a wrong one after a log-in of
// unknown outcome. The new one is asked for then, by the command whose log-in it was and
// after a start that was refused.
func TestChangedTokenPINAfterAnUnclearLogIn(t *testing.T) {
	for name, more := range map[string]func(m *measured){
		"at once":              func(*measured) {},
		"after another start":  func(m *measured) { m.refused(daemon.ExitConfig, "sigild recover") },
		"after a recovery too": func(m *measured) { m.fails("file descriptor", m.code, "recover", "--code-fd", "3") },
	} {
		t.Run(name, func(t *testing.T) {
			m, faults, pin := changedPIN(t, 4)
			unclear(faults)
			logsIn(t, faults, 1, func() { m.fails("CKR_DEVICE_ERROR", m.code, "recover", "--code-fd", "3") })
			faults.Clear("C_Login")
			logsIn(t, faults, 0, func() { more(m) })
			logsIn(t, faults, 1, func() { m.recoverAsked(pin) })
			m.signs()
		})
	}
}

// recoverAsked runs `sigild recover` at a terminal and is asked for the token's PIN.
func (m *measured) recoverAsked(pin []byte) {
	m.t.Helper()
	term := asktest.Start(m.t, m.Command(m.ctx, "recover"))
	term.Expect("Recovery code")
	term.Send(string(m.code) + "\n")
	term.Expect("User PIN of the token")
	term.Send(string(pin) + "\n")
	if code, said := term.Wait(); code != 0 || strings.Contains(said, string(pin)) {
		m.t.Fatalf("exit code %d: %s", code, said)
	}
}

// The token's last try is not spent on a PIN that comes after another was refused.
func TestLastTryOfTheTokenIsSpared(t *testing.T) {
	m, faults, pin := changedPIN(t, 2)
	m.refused(daemon.ExitConfig, "refused this user PIN")
	logsIn(t, faults, 0, func() {
		if code, said := m.recoverWith(falsePIN(m.Host, 0)); code != daemon.ExitConfig || !strings.Contains(said, "locks at the next wrong one") {
			t.Errorf("exit code %d: %s", code, said)
		}
	})
	m.succeeds(nil, "forget-refusal")
	m.recoversWith(pin)
	m.signs()
}

// A new code around a new PIN would leave the old PIN with the TPM.
func TestRecoveryCodeIsNotReplacedAroundAnotherPIN(t *testing.T) {
	m, faults, pin := changedPIN(t, 3)
	replace := []string{"--replace-code", "--new-code-fd", "2"}
	logsIn(t, faults, 0, func() {
		if code, said := m.recoverWith(pin, replace...); code == 0 || !strings.Contains(said, "run `sigild recover` first") {
			t.Errorf("exit code %d: %s", code, said)
		}
	})
	m.refused(daemon.ExitConfig, "refused this user PIN")
	logsIn(t, faults, 0, func() {
		m.fails("run `sigild recover` first", m.code, "recover", "--code-fd", "3", "--replace-code", "--new-code-fd", "2")
	})
	m.recoversWith(pin)
	if code, said := m.recoverWith(pin, replace...); code != 0 {
		t.Fatalf("exit code %d: %s", code, said)
	}
	m.signs()
}

// A weak new PIN is refused before the token sees it, also in place of a refused one,
// unless that is said to be right. The one that is kept then is not refused again.
func TestChangedTokenPINIsWeak(t *testing.T) {
	faults, module := faultyToken(t)
	var o daemontest.Options
	module(&o)
	m := newMeasuredHost(t, o)
	weak := []byte("4a0f4f6f9d1c")
	setTokenPIN(t, m.Host, weak)
	refused := func() {
		code, said := m.recoverWith(weak)
		if code == 0 {
			t.Error("a weak PIN is accepted")
		}
		mustContain(t, said, "128 random bits", "--accept-weak-token-pin")
		mustNotLeak(t, said, weak)
	}
	logsIn(t, faults, 0, refused)
	m.refused(daemon.ExitConfig, "refused this user PIN")
	logsIn(t, faults, 0, refused)
	for _, accept := range [][]string{{"--accept-weak-token-pin"}, nil} {
		if code, said := m.recoverWith(weak, accept...); code != 0 {
			t.Fatalf("exit code %d: %s", code, said)
		}
		m.signs()
	}
}

// A PIN that was elsewhere and that the TPM is to keep must be strong too.
func TestWeakPINIsNotMovedToTheTPM(t *testing.T) {
	h, faults := pinInFile(t)
	code := provision(t, h)
	h.Config["token"] = `pin = "tpm"`
	if err := h.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	with := []string{"recover", "--code-fd", "3", "--pin-fd", "4"}
	logsIn(t, faults, 0, func() {
		exit, said := feeding(t, h, [][]byte{code, []byte("402916")}, with...)
		if exit == 0 {
			t.Error("a weak PIN is accepted")
		}
		mustContain(t, said, "128 random bits")
	})
	commandSucceeds(t, h, [][]byte{code, h.TokenPIN()}, with...)
	start(t, h)
}
