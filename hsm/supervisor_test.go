package hsm_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/sigild/sigild/hsm"
	"github.com/sigild/sigild/hsm/hsmtest"
)

// supervised is a provisioned faulty token under a running supervisor.
type supervised struct {
	*hsmtest.Instance
	supervisor *hsm.Supervisor
	ended      chan error
	pin        []byte
}

// provisionedFaulty makes the keys of generation 1 and closes the token again.
func provisionedFaulty(t *testing.T) (*hsmtest.Instance, [16]byte, uint) {
	t.Helper()
	instance := hsmtest.New(t, hsmtest.WithFaults(), hsmtest.Sessions(2, 2))
	token, err := hsm.Open(t.Context(), instance.Config())
	if err != nil {
		t.Fatal(err)
	}
	if err := token.Login(t.Context(), instance.PIN); err != nil {
		t.Fatal(err)
	}
	installation := hsmtest.Installation()
	keys := hsmtest.Provision(t, token, installation, 1)
	if err := token.Close(); err != nil {
		t.Fatal(err)
	}
	return instance, installation, keys.Mechanism()
}

// soon is in which service must be back, beside other work and under the race
// detector; docs/faults.md has how long it takes.
const soon = 3 * time.Second

func supervise(t *testing.T, prepare func(*hsmtest.Faults)) *supervised {
	t.Helper()
	instance, installation, mechanism := provisionedFaulty(t)
	s := &supervised{Instance: instance, ended: make(chan error, 1), pin: instance.PIN}
	if prepare != nil {
		prepare(instance.Faults)
	}
	cfg := instance.Config()
	cfg.CallTimeout = 2 * time.Second
	supervisor, err := hsm.NewSupervisor(hsm.SupervisorConfig{
		Token: cfg,
		LogIn: func(ctx context.Context, token *hsm.Token) error { return token.Login(ctx, s.pin) },
		Open: func(ctx context.Context, token *hsm.Token) ([]*hsm.Keys, error) {
			keys, err := token.OpenKeys(ctx, installation, 1, mechanism)
			return []*hsm.Keys{keys}, err
		},
		Final: func(err error) bool {
			return errors.Is(err, hsm.ErrPINIncorrect) || errors.Is(err, hsm.ErrPINLocked)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.supervisor = supervisor
	ctx, cancel := context.WithCancel(context.Background())
	go func() { s.ended <- supervisor.Run(ctx) }()
	t.Cleanup(func() {
		instance.Faults.ClearAll()
		cancel()
		if err := <-s.ended; err != nil && !t.Failed() {
			t.Errorf("Run: %v", err)
		}
	})
	return s
}

// keys waits until the token works.
func (s *supervised) keys(t *testing.T) *hsm.Keys {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		c, err := s.supervisor.Connection(t.Context())
		if err == nil {
			return c.Keys(1)
		}
		if time.Now().After(deadline) {
			t.Fatalf("the token did not come back: %v", err)
		}
	}
}

// recovers waits until a signature is made again, and says how long that took.
func (s *supervised) recovers(t *testing.T) time.Duration {
	t.Helper()
	begun := time.Now()
	for {
		keys := s.keys(t)
		o, _, err := keys.GenerateRoot(t.Context())
		if err == nil {
			_, err = keys.SignECDSA(t.Context(), o, [32]byte{1})
			_ = keys.Destroy(t.Context(), o)
		}
		if err == nil {
			return time.Since(begun)
		}
		if time.Since(begun) > 10*time.Second {
			t.Fatalf("the token does not sign: %v", err)
		}
	}
}

func TestSupervisorRecovers(t *testing.T) {
	for name, tc := range map[string]struct {
		fault func(*hsmtest.Faults)
		end   func(*hsmtest.Faults)
		lost  any // whether session objects are gone; nil: depends on the moment
	}{
		"sessions lost": {fault: (*hsmtest.Faults).LoseSessions, lost: true},
		"logged out":    {fault: (*hsmtest.Faults).LogOut, lost: true},
		"pulled out and put in again": {fault: (*hsmtest.Faults).Vanish,
			end: func(f *hsmtest.Faults) { f.Return(0) }, lost: true},
		"put into another slot": {fault: (*hsmtest.Faults).Vanish,
			end: func(f *hsmtest.Faults) { f.Return(1000) }, lost: true},
		"not initialised":  {fault: func(f *hsmtest.Faults) { f.FailTimes("C_SignInit", pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED, 1) }, lost: true},
		"one device error": {fault: func(f *hsmtest.Faults) { f.FailOnce("C_Sign", pkcs11.CKR_DEVICE_ERROR) }, lost: false},
		"device errors": {fault: func(f *hsmtest.Faults) { f.Fail("C_Sign", pkcs11.CKR_DEVICE_ERROR) },
			end: (*hsmtest.Faults).ClearAll},
		"stale handles": {fault: func(f *hsmtest.Faults) { f.FailOnce("C_SignInit", pkcs11.CKR_KEY_HANDLE_INVALID) }, lost: true},
		"no new sessions": {fault: func(f *hsmtest.Faults) {
			f.LoseSessions()
			f.Fail("C_OpenSession", pkcs11.CKR_SESSION_COUNT)
		}, end: (*hsmtest.Faults).ClearAll, lost: true},
		"log-in fails without an answer": {fault: func(f *hsmtest.Faults) {
			f.LogOut()
			f.Fail("C_Login", pkcs11.CKR_DEVICE_ERROR)
		}, end: (*hsmtest.Faults).ClearAll, lost: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := supervise(t, nil)
			keys := s.keys(t)
			o := newRoot(t, keys)
			tc.fault(s.Faults)
			_, err := keys.SignECDSA(t.Context(), o, [32]byte{1})
			if err == nil {
				t.Error("signed in spite of the fault")
			}
			if tc.end != nil {
				s.untilNot(t, hsm.Ready)
				tc.end(s.Faults)
			}
			if took := s.recovers(t); took > soon {
				t.Errorf("service was back after %v", took)
			}
			if tc.lost != nil && o.Lost() != tc.lost {
				t.Errorf("the object is lost: %v", o.Lost())
			}
		})
	}
}

// untilNot waits until the supervisor leaves a phase.
func (s *supervised) untilNot(t *testing.T, p hsm.Phase) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for s.supervisor.State().Phase == p {
		if _, err := s.supervisor.Connection(t.Context()); err != nil {
			continue
		}
		if time.Now().After(deadline) {
			t.Fatalf("still %v", p)
		}
	}
}

func TestSupervisorWaitsForATokenThatIsNotThere(t *testing.T) {
	s := supervise(t, (*hsmtest.Faults).Vanish)
	_, err := s.supervisor.Connection(t.Context())
	var unavailable *hsm.UnavailableError
	if !errors.As(err, &unavailable) || !errors.Is(err, hsm.ErrUnavailable) || unavailable.RetryAfter <= 0 {
		t.Errorf("Connection: %v", err)
	}
	if state := s.supervisor.State(); state.Phase != hsm.Starting || !errors.Is(state.Cause, hsm.ErrTokenNotFound) {
		t.Errorf("State: %+v", state)
	}
	s.Faults.Return(0)
	if took := s.recovers(t); took > soon {
		t.Errorf("service was back after %v", took)
	}
}

// endsRefused wants the supervision to end by a refused PIN, after so many log-ins in
// all.
func (s *supervised) endsRefused(t *testing.T, logins int) {
	t.Helper()
	err := <-s.ended
	s.ended <- nil
	if !errors.Is(err, hsm.ErrPINIncorrect) {
		t.Errorf("Run: %v", err)
	}
	if n := s.Faults.Calls("C_Login"); n != logins {
		t.Errorf("%d log-ins, want %d", n, logins)
	}
}

// One refusal of the PIN ends all log-ins for good.
func TestSupervisorEndsWithARefusedPIN(t *testing.T) {
	s := supervise(t, nil)
	s.keys(t)
	s.pin = []byte("0000000000")
	before := s.Faults.Calls("C_Login")
	s.Faults.LogOut()
	s.untilNot(t, hsm.Ready)
	s.endsRefused(t, before+1)
	if _, err := s.supervisor.Connection(t.Context()); !errors.Is(err, hsm.ErrUnavailable) {
		t.Errorf("Connection: %v", err)
	}
	if state := s.supervisor.State(); state.Phase != hsm.Refused {
		t.Errorf("State: %+v", state)
	}
}

// One call that hangs costs one session. When all hang, callers are told at
// once, and service returns when the module answers.
func TestSupervisorSurvivesHangingCalls(t *testing.T) {
	s := supervise(t, nil)
	keys := s.keys(t)
	o := newRoot(t, keys)
	s.Faults.HangTimes("C_Sign", 1)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := keys.SignECDSA(ctx, o, [32]byte{1}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the call that hangs: %v", err)
	}
	for range 20 {
		if err := sign(t, keys, o); err != nil {
			t.Fatalf("beside a call that hangs: %v", err)
		}
	}
	s.Faults.Hang("C_SignInit")
	deadline := time.Now().Add(20 * time.Second)
	for err := error(nil); !errors.Is(err, hsm.ErrHung); _, err = keys.SignECDSA(t.Context(), o, [32]byte{1}) {
		if time.Now().After(deadline) {
			t.Fatalf("with every session in the module: %v", err)
		}
	}
	if state := s.supervisor.State(); state.Hang.Hung < 2 || state.Hang.Sessions != 6 || !state.Hang.All || state.Hang.Since.IsZero() {
		t.Errorf("State: %+v", state)
	}
	s.Faults.ClearAll()
	if took := s.recovers(t); took > soon {
		t.Errorf("service was back after %v", took)
	}
	if o.Lost() {
		t.Error("the object is lost")
	}
}

// A token may say that it has lost the log-in while it has not, and so keep the
// session objects of before. One that a call makes in a session of before is
// destroyed when the call comes back, not when the session is used again.
func TestObjectsOfALostLoginAreDestroyed(t *testing.T) {
	s := supervise(t, nil)
	keys := s.keys(t)
	first, _, err := keys.GenerateRoot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	calls := s.Faults.Calls("C_GenerateKeyPair")
	s.Faults.HangTimes("C_GenerateKeyPair", 1)
	made := make(chan hsm.Object, 1)
	go func() {
		o, _, _ := keys.GenerateRoot(t.Context())
		made <- o
	}()
	for s.Faults.Calls("C_GenerateKeyPair") == calls {
	}
	s.Faults.FailOnce("C_SignInit", pkcs11.CKR_USER_NOT_LOGGED_IN)
	if _, err := keys.SignECDSA(t.Context(), first, [32]byte{1}); err == nil {
		t.Fatal("the fault met nobody")
	}
	s.keys(t)
	s.Faults.Clear("C_GenerateKeyPair")
	if err := keys.Destroy(t.Context(), first, <-made); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(5 * time.Second)
	for left := 1; left > 0; {
		if _, left = s.Faults.Measure(); time.Now().After(deadline) {
			t.Fatalf("%d session objects are left", left)
		}
	}
}

// A rehearsal passes on a healthy token and leaves nothing behind, and finds each
// function that fails.
func TestRehearsal(t *testing.T) {
	s := supervise(t, nil)
	if err := s.keys(t).Rehearse(t.Context()); err != nil {
		t.Fatal(err)
	}
	for function, unusable := range map[string]bool{"C_Sign": true, "C_SignInit": true, "C_UnwrapKey": true,
		"C_WrapKey": false, "C_CreateObject": false, "C_GenerateKeyPair": false, "C_GenerateRandom": false} {
		s.Faults.Fail(function, pkcs11.CKR_ARGUMENTS_BAD)
		var failed *hsm.Error
		err := s.keys(t).Rehearse(t.Context())
		if !errors.As(err, &failed) || failed.Func != function || errors.Is(err, hsm.ErrUnusable) != unusable {
			t.Errorf("%s fails, and the rehearsal says %v", function, err)
		}
		s.Faults.Clear(function)
	}
	if err := s.keys(t).Rehearse(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, objects := s.Faults.Measure(); objects != 0 {
		t.Errorf("%d session objects are left", objects)
	}
}
