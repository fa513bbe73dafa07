package hsm_test

import (
	"context"
	"crypto"
	"errors"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/sigild/sigild/hsm"
	"github.com/sigild/sigild/hsm/hsmtest"
)

// await repeats a question until the answer is yes.
func await(t *testing.T, what string, yes func() bool) {
	t.Helper()
	again := time.NewTicker(2 * time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(20 * time.Second); !yes(); <-again.C {
		if time.Now().After(deadline) {
			t.Fatalf("still waiting: %s", what)
		}
	}
}

// A log-in that takes longer than LogIn waits for is neither taken for a failed one
// nor made again: the token is not closed until LogIn knows of it.
func TestSupervisorTakesALateLogin(t *testing.T) {
	s := supervise(t, nil)
	s.keys(t)
	logins, finalized := s.Faults.Calls("C_Login"), s.Faults.Calls("C_Finalize")
	s.Faults.HangTimes("C_Login", 1)
	s.Faults.LogOut()
	await(t, "more attempts than an open token gets", func() bool {
		s.poke(t)
		return s.supervisor.State().Failed > 6
	})
	s.Faults.ClearAll()
	if took := s.recovers(t); took > soon {
		t.Errorf("service was back after %v", took)
	}
	if n := s.Faults.Calls("C_Login") - logins; n != 1 {
		t.Errorf("%d log-ins", n)
	}
	if n := s.Faults.Calls("C_Finalize") - finalized; n != 0 {
		t.Errorf("the module was finalised %d times", n)
	}
}

// poke asks for a signature, which is what shows a fault.
func (s *supervised) poke(t *testing.T) {
	t.Helper()
	if c, err := s.supervisor.Connection(t.Context()); err == nil {
		_ = c.Keys(1).ProbeSign(t.Context())
	}
}

// A refusal that comes when nobody waits for it any more ends all log-ins too.
func TestSupervisorTakesALateRefusal(t *testing.T) {
	s := supervise(t, nil)
	s.keys(t)
	logins := s.Faults.Calls("C_Login")
	s.pin = []byte("0000000000")
	s.Faults.HangTimes("C_Login", 1)
	s.Faults.LogOut()
	await(t, "more attempts than an open token gets", func() bool {
		s.poke(t)
		return s.supervisor.State().Failed > 6
	})
	s.Faults.ClearAll()
	s.endsRefused(t, logins+1)
}

// Answers that do not say whether the PIN was judged may be counted by the token. A
// PIN that it did not take before is presented three times, whatever it took before.
func TestUnclearLoginsWithAnotherPIN(t *testing.T) {
	s := supervise(t, nil)
	s.keys(t)
	logins := s.Faults.Calls("C_Login")
	s.pin = []byte("0000000000")
	s.Faults.Fail("C_Login", 0x80000123)
	s.Faults.LogOut()
	s.untilNot(t, hsm.Ready)
	s.endsRefused(t, logins+3)
}

// With the PIN that the token took the pauses between such log-ins grow.
func TestUnclearLoginsWithTheSamePIN(t *testing.T) {
	s := supervise(t, nil)
	s.keys(t)
	logins := s.Faults.Calls("C_Login")
	s.Faults.Fail("C_Login", 0x80000123)
	s.Faults.LogOut()
	s.untilNot(t, hsm.Ready)
	begun := time.Now()
	await(t, "three seconds to pass", func() bool { return time.Since(begun) > 3*time.Second })
	if n := s.Faults.Calls("C_Login") - logins; n < 3 || n > 6 {
		t.Errorf("%d log-ins in 3 s", n)
	}
	if state := s.supervisor.State(); state.Phase != hsm.Recovering {
		t.Errorf("State: %+v", state)
	}
	s.Faults.ClearAll()
	s.recovers(t)
}

func TestUnclearLoginsAreCapped(t *testing.T) {
	for ours, want := range map[bool]int{false: 3, true: 9} {
		if got := hsm.UnclearLogins(ours); got != want {
			t.Errorf("the token took the PIN before: %v; %d log-ins, want %d", ours, got, want)
		}
	}
}

// A P-256 call that hangs is reported, keeps the module open while it hangs, and does
// not stand in the way of a later initialisation.
func TestSupervisorSurvivesAHangingSigner(t *testing.T) {
	s := supervise(t, nil)
	signer, err := s.keys(t).Signer(hsm.Identity)
	if err != nil {
		t.Fatal(err)
	}
	s.Faults.HangTimes("C_Sign", 1)
	if _, err := signer.Sign(nil, make([]byte, 32), crypto.SHA256); err == nil {
		t.Fatal("signed")
	}
	await(t, "the hang", func() bool { return s.supervisor.State().Hang.Hung == 1 })
	if h := s.supervisor.State().Hang; h.All || h.Signers {
		t.Errorf("Hang: %+v", h)
	}
	finalized := s.Faults.Calls("C_Finalize")
	s.Faults.Fail("C_SignInit", pkcs11.CKR_DEVICE_ERROR)
	await(t, "more attempts than an open token gets", func() bool { s.poke(t); return s.supervisor.State().Failed > 6 })
	if n := s.Faults.Calls("C_Finalize") - finalized; n != 0 {
		t.Errorf("the module was finalised %d times under a call", n)
	}
	s.Faults.ClearAll()
	s.recovers(t)
	loseModule(t, s.Module)
	if took := s.recovers(t); took > soon {
		t.Errorf("service was back after %v", took)
	}
}

// loseModule has the module lose its state, as another part of the process may.
func loseModule(t *testing.T, module string) {
	t.Helper()
	m := pkcs11.New(module)
	if m == nil {
		t.Fatal("cannot load the module")
	}
	defer m.Destroy()
	if err := m.Finalize(); err != nil {
		t.Fatal(err)
	}
}

// When every P-256 call hangs, wallets still sign, and further callers are told at once.
func TestEverySignerHangs(t *testing.T) {
	s := supervise(t, nil)
	keys := s.keys(t)
	signer, err := keys.Signer(hsm.Identity)
	if err != nil {
		t.Fatal(err)
	}
	s.Faults.HangTimes("C_Sign", 2)
	for range 2 {
		go func() { _, _ = signer.Sign(nil, make([]byte, 32), crypto.SHA256) }()
	}
	await(t, "the hang", func() bool { return s.supervisor.State().Hang.Signers })
	if h := s.supervisor.State().Hang; h.All || h.Hung != 2 || h.Since.IsZero() {
		t.Errorf("Hang: %+v", h)
	}
	if _, err := signer.Sign(nil, make([]byte, 32), crypto.SHA256); !errors.Is(err, hsm.ErrHung) {
		t.Errorf("another signature: %v", err)
	}
	if err := keys.ProbeSign(t.Context()); err != nil {
		t.Errorf("a wallet's signature: %v", err)
	}
	s.Faults.ClearAll()
	await(t, "the end", func() bool { return s.supervisor.State().Hang.Hung == 0 })
	signs(t, keys, hsm.Identity)
}

// A call that hangs does not hide that the token was pulled out, nor that it is back.
func TestSupervisorSeesTheTokenGoBesideAHangingCall(t *testing.T) {
	s := supervise(t, nil)
	keys := s.keys(t)
	o := newRoot(t, keys)
	s.Faults.HangTimes("C_Sign", 1)
	if _, err := keys.SignECDSA(t.Context(), o, [32]byte{1}); err == nil {
		t.Fatal("signed")
	}
	s.Faults.Vanish()
	await(t, "the absence", func() bool {
		s.poke(t)
		state := s.supervisor.State()
		return state.Phase == hsm.Recovering && state.Failed > 6
	})
	if state := s.supervisor.State(); errors.Is(state.Cause, hsm.ErrHung) || state.Hang.Hung != 1 {
		t.Errorf("State: %+v", state)
	}
	s.Faults.Return(0)
	if took := s.recovers(t); took > soon {
		t.Errorf("service was back after %v", took)
	}
}

// A log-in that ends before the PIN is presented says so, and the PIN does not come
// to the token later.
func TestLoginThatDoesNotReachTheToken(t *testing.T) {
	instance := hsmtest.New(t, hsmtest.WithFaults())
	cfg := instance.Config()
	cfg.CallTimeout = time.Second
	token := instance.OpenWith(t, cfg)
	for _, function := range []string{"C_OpenSession", "C_GetTokenInfo"} {
		logins := instance.Faults.Calls("C_Login")
		instance.Faults.Hang(function)
		for range 2 { // the second finds the first in the module
			if err := token.Login(t.Context(), instance.PIN); !errors.Is(err, hsm.ErrNotPresented) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s hangs: %v", function, err)
			}
		}
		instance.Faults.ClearAll()
		await(t, "the call", func() bool { return token.Hang().Hung == 0 })
		if n := instance.Faults.Calls("C_Login") - logins; n != 0 {
			t.Errorf("%s hangs: %d log-ins", function, n)
		}
	}
	instance.Faults.FailOnce("C_GetTokenInfo", pkcs11.CKR_DEVICE_ERROR)
	if err := token.Login(t.Context(), instance.PIN); !errors.Is(err, hsm.ErrNotPresented) {
		t.Errorf("C_GetTokenInfo fails: %v", err)
	}
	instance.Faults.FailOnce("C_Login", pkcs11.CKR_DEVICE_ERROR)
	if err := token.Login(t.Context(), instance.PIN); err == nil || errors.Is(err, hsm.ErrNotPresented) {
		t.Errorf("C_Login fails: %v", err)
	}
	if err := token.Login(t.Context(), instance.PIN); err != nil {
		t.Error(err)
	}
}
