package hsm_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/sigild/sigild/hsm"
	"github.com/sigild/sigild/hsm/hsmtest"
)

// faulty returns provisioned keys on a module that fails on command.
func faulty(t *testing.T, sessions, keepers int) (*hsmtest.Instance, *hsm.Token, *hsm.Keys) {
	t.Helper()
	instance := hsmtest.New(t, hsmtest.WithFaults(), hsmtest.Sessions(sessions, keepers))
	token := instance.Open(t)
	return instance, token, hsmtest.Provision(t, token, hsmtest.Installation(), 1)
}

func newRoot(t *testing.T, keys *hsm.Keys) hsm.Object {
	t.Helper()
	o, _, err := keys.GenerateRoot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func sign(t *testing.T, keys *hsm.Keys, o hsm.Object) error {
	t.Helper()
	_, err := keys.SignECDSA(t.Context(), o, [32]byte{7})
	return err
}

// A signing session that failed is closed and the call tried once more on a new
// one; the object, which belongs to a keeper, survives.
func TestFailedSigningSessionIsReplaced(t *testing.T) {
	for name, tc := range map[string]struct {
		code   uint
		repeat bool
	}{
		"session handle invalid": {pkcs11.CKR_SESSION_HANDLE_INVALID, true},
		"session closed":         {pkcs11.CKR_SESSION_CLOSED, true},
		"general error":          {pkcs11.CKR_GENERAL_ERROR, true},
		"operation active":       {pkcs11.CKR_OPERATION_ACTIVE, true},
		"vendor code":            {0x80000123, true},
		"buffer too small":       {pkcs11.CKR_BUFFER_TOO_SMALL, true},
		"device error":           {pkcs11.CKR_DEVICE_ERROR, false},
		"data invalid":           {pkcs11.CKR_DATA_INVALID, false}, // leaves the operation active
	} {
		t.Run(name, func(t *testing.T) {
			instance, _, keys := faulty(t, 1, 1)
			o := newRoot(t, keys)
			closed := instance.Faults.Calls("C_CloseSession")
			times := 1
			if tc.repeat {
				times = 2
			}
			instance.Faults.FailTimes("C_Sign", tc.code, times)
			if err := sign(t, keys, o); !errors.Is(err, &hsm.Error{Func: "C_Sign", Code: tc.code}) {
				t.Errorf("SignECDSA: %v", err)
			}
			if err := sign(t, keys, o); err != nil {
				t.Errorf("the next call: %v", err)
			}
			if n := instance.Faults.Calls("C_CloseSession") - closed; n != times {
				t.Errorf("%d sessions closed, want %d", n, times)
			}
			if !tc.repeat {
				return
			}
			instance.Faults.FailOnce("C_Sign", tc.code)
			if err := sign(t, keys, o); err != nil {
				t.Errorf("one fault is not hidden: %v", err)
			}
		})
	}
}

// Object-level errors keep the session.
func TestObjectErrorKeepsTheSession(t *testing.T) {
	instance, _, keys := faulty(t, 1, 1)
	o := newRoot(t, keys)
	if err := sign(t, keys, o); err != nil {
		t.Fatal(err)
	}
	closed := instance.Faults.Calls("C_CloseSession")
	instance.Faults.FailOnce("C_SignInit", pkcs11.CKR_MECHANISM_INVALID)
	if err := sign(t, keys, o); !errors.Is(err, hsm.ErrUnsupported) {
		t.Errorf("SignECDSA: %v", err)
	}
	if err := sign(t, keys, o); err != nil {
		t.Error(err)
	}
	if n := instance.Faults.Calls("C_CloseSession") - closed; n != 0 {
		t.Errorf("%d sessions were closed", n)
	}
}

// A vague error on a keeper must not cost other callers their keys; a broken
// keeper does.
func TestKeeperIsReplacedOnlyWhenItIsBroken(t *testing.T) {
	for name, tc := range map[string]struct {
		code uint
		lost bool
	}{
		"general error":     {pkcs11.CKR_GENERAL_ERROR, false},
		"vendor code":       {0x80000123, false},
		"device memory":     {pkcs11.CKR_DEVICE_MEMORY, false},
		"device error":      {pkcs11.CKR_DEVICE_ERROR, true},
		"session is gone":   {pkcs11.CKR_SESSION_HANDLE_INVALID, true},
		"operation is open": {pkcs11.CKR_OPERATION_ACTIVE, true},
	} {
		t.Run(name, func(t *testing.T) {
			instance, _, keys := faulty(t, 1, 1)
			o := newRoot(t, keys)
			instance.Faults.FailTimes("C_GenerateKeyPair", tc.code, 2)
			_, _, err := keys.GenerateRoot(t.Context())
			instance.Faults.Clear("C_GenerateKeyPair")
			if !errors.Is(err, &hsm.Error{Code: tc.code}) {
				t.Errorf("GenerateRoot: %v", err)
			}
			if err := sign(t, keys, o); errors.Is(err, hsm.ErrObjectLost) != tc.lost || err != nil && !tc.lost {
				t.Errorf("the other object: %v", err)
			}
			if _, _, err := keys.GenerateRoot(t.Context()); err != nil {
				t.Errorf("the next key: %v", err)
			}
		})
	}
}

func TestLostObjectDoesNotReachTheToken(t *testing.T) {
	instance, _, keys := faulty(t, 1, 1)
	o := newRoot(t, keys)
	instance.Faults.FailOnce("C_GenerateKeyPair", pkcs11.CKR_SESSION_HANDLE_INVALID)
	_, _, _ = keys.GenerateRoot(t.Context())
	before := instance.Faults.Calls("C_SignInit")
	if err := sign(t, keys, o); !errors.Is(err, hsm.ErrObjectLost) {
		t.Errorf("SignECDSA: %v", err)
	}
	if _, err := keys.Wrap(t.Context(), hsm.Wrap, o); !errors.Is(err, hsm.ErrObjectLost) {
		t.Errorf("Wrap: %v", err)
	}
	if err := keys.Destroy(t.Context(), o); err != nil {
		t.Errorf("Destroy: %v", err)
	}
	if n := instance.Faults.Calls("C_SignInit") - before; n != 0 {
		t.Errorf("%d signatures were begun", n)
	}
}

func TestCallerLeavesWhenItsContextEnds(t *testing.T) {
	instance, _, keys := faulty(t, 1, 1)
	o := newRoot(t, keys)
	instance.Faults.Hang("C_Sign")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begun := time.Now()
	if _, err := keys.SignECDSA(ctx, o, [32]byte{1}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("SignECDSA: %v", err)
	}
	// The only session is still in the module: the next caller waits for it.
	short, cancelShort := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancelShort()
	if _, err := keys.SignECDSA(short, o, [32]byte{1}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("SignECDSA with no free session: %v", err)
	}
	if passed := time.Since(begun); passed > 5*time.Second {
		t.Errorf("the callers waited %v", passed)
	}
	closed := instance.Faults.Calls("C_CloseSession")
	instance.Faults.Clear("C_Sign")
	if err := sign(t, keys, o); err != nil {
		t.Errorf("after the module came back: %v", err)
	}
	if n := instance.Faults.Calls("C_CloseSession") - closed; n != 1 {
		t.Errorf("%d sessions were closed, want the one that was late", n)
	}
}

func TestCallTimeoutAppliesWithoutADeadline(t *testing.T) {
	instance := hsmtest.New(t, hsmtest.WithFaults())
	cfg := instance.Config()
	cfg.CallTimeout = 2 * time.Second
	token := instance.OpenWith(t, cfg)
	instance.Faults.Hang("C_GenerateRandom")
	if _, err := token.Random(context.Background(), 8); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Random: %v", err)
	}
	instance.Faults.Clear("C_GenerateRandom")
}

// What an abandoned call made is destroyed when the module comes back, and the
// keeper's other objects stay.
func TestAbandonedObjectIsDestroyed(t *testing.T) {
	instance, _, keys := faulty(t, 2, 1)
	o := newRoot(t, keys)
	for _, function := range []string{"C_GenerateKeyPair", "C_DestroyObject"} {
		instance.Faults.Hang(function)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if _, _, err := keys.GenerateRoot(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("GenerateRoot: %v", err)
		}
		cancel()
		instance.Faults.Clear(function)
		second := newRoot(t, keys) // the keeper is free again only after the clean-up
		if n, err := keys.SessionObjects(t.Context()); err != nil || n != 2 {
			t.Errorf("%s: %d session objects (%v), want 2", function, n, err)
		}
		if err := keys.Destroy(t.Context(), second); err != nil {
			t.Error(err)
		}
	}
	if err := sign(t, keys, o); err != nil {
		t.Errorf("the other object: %v", err)
	}
}

// All sessions of the process are closed under the daemon's feet, which also
// ends the log-in.
func TestLostLoginIsNoticedAndCanBeMadeAgain(t *testing.T) {
	instance := hsmtest.New(t)
	token := instance.Open(t)
	installation := hsmtest.Installation()
	keys := hsmtest.Provision(t, token, installation, 1)
	o := newRoot(t, keys)
	closeAllSessions(t, instance.Module)
	if err := sign(t, keys, o); err == nil {
		t.Error("signed without a log-in")
	}
	// Each pooled session finds out by itself; none may serve a stale handle.
	for range 8 {
		if err := keys.ProbeSign(t.Context()); err == nil {
			t.Fatal("the health probe signed without a log-in")
		}
	}
	if err := keys.ProbeSign(t.Context()); !errors.Is(err, hsm.ErrNotLoggedIn) {
		t.Errorf("ProbeSign: %v", err)
	}
	if err := sign(t, keys, o); !errors.Is(err, hsm.ErrObjectLost) {
		t.Errorf("SignECDSA: %v", err)
	}
	if err := token.Login(t.Context(), instance.PIN); err != nil {
		t.Fatalf("Login: %v", err)
	}
	if err := keys.ProbeSign(t.Context()); !errors.Is(err, hsm.ErrNotLoggedIn) {
		t.Errorf("the old keys after a new log-in: %v", err)
	}
	fresh, err := token.OpenKeys(t.Context(), installation, 1, keys.Mechanism())
	if err != nil {
		t.Fatal(err)
	}
	signs(t, fresh, hsm.Identity)
	if err := sign(t, fresh, newRoot(t, fresh)); err != nil {
		t.Error(err)
	}
	if err := sign(t, fresh, o); !errors.Is(err, hsm.ErrObjectLost) {
		t.Errorf("the old object: %v", err)
	}
}

// closeAllSessions does what a program that shares the module may do.
func closeAllSessions(t *testing.T, module string) {
	t.Helper()
	m := pkcs11.New(module)
	if m == nil {
		t.Fatal("cannot load the module")
	}
	defer m.Destroy()
	slots, err := m.GetSlotList(true)
	if err != nil {
		t.Fatal(err)
	}
	for _, slot := range slots {
		if err := m.CloseAllSessions(slot); err != nil {
			t.Fatal(err)
		}
	}
}

func TestForeignLogoutIsNoticed(t *testing.T) {
	instance, token, keys := faulty(t, 1, 1)
	o := newRoot(t, keys)
	instance.Faults.FailOnce("C_SignInit", pkcs11.CKR_USER_NOT_LOGGED_IN)
	if err := sign(t, keys, o); !errors.Is(err, hsm.ErrNotLoggedIn) {
		t.Errorf("SignECDSA: %v", err)
	}
	if err := keys.ProbeSign(t.Context()); !errors.Is(err, hsm.ErrNotLoggedIn) {
		t.Errorf("ProbeSign: %v", err)
	}
	if err := sign(t, keys, o); !errors.Is(err, hsm.ErrObjectLost) {
		t.Errorf("SignECDSA: %v", err)
	}
	// The token was logged in all the time, by us.
	if err := token.Login(t.Context(), instance.PIN); err != nil {
		t.Errorf("Login: %v", err)
	}
	if _, err := token.NegotiateWrap(t.Context()); err != nil {
		t.Errorf("NegotiateWrap: %v", err)
	}
}

// However many callers come, only as many calls as there are sessions are in
// the module: each of them holds a thread.
func TestCallsInTheModuleAreBounded(t *testing.T) {
	instance, _, keys := faulty(t, 3, 1)
	o := newRoot(t, keys)
	before := instance.Faults.Calls("C_Sign")
	instance.Faults.Hang("C_Sign")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	var wg sync.WaitGroup
	for range 500 {
		wg.Go(func() {
			if _, err := keys.SignECDSA(ctx, o, [32]byte{1}); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("SignECDSA: %v", err)
			}
		})
	}
	wg.Wait()
	if n := instance.Faults.Calls("C_Sign") - before; n > 3 {
		t.Errorf("%d calls were in the module at one time", n)
	}
	instance.Faults.Clear("C_Sign")
	if err := sign(t, keys, o); err != nil {
		t.Error(err)
	}
}
