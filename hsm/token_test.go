package hsm_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/sigild/sigild/hsm"
	"github.com/sigild/sigild/hsm/hsmtest"
)

func TestOpenRefusesBadConfiguration(t *testing.T) {
	notALibrary := filepath.Join(t.TempDir(), "module.so")
	if err := os.WriteFile(notALibrary, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		cfg  hsm.Config
		want string
	}{
		"relative module":   {hsm.Config{Module: "libsofthsm2.so", Label: "x"}, "absolute"},
		"no token":          {hsm.Config{Module: hsmtest.SoftHSM}, "label or by its serial"},
		"label and serial":  {hsm.Config{Module: hsmtest.SoftHSM, Label: "x", Serial: "y"}, "only by one"},
		"too many sessions": {hsm.Config{Module: hsmtest.SoftHSM, Label: "x", Sessions: 65}, "1 to 64"},
		"negative keepers":  {hsm.Config{Module: hsmtest.SoftHSM, Label: "x", Keepers: -1}, "1 to 64"},
		"negative timeout":  {hsm.Config{Module: hsmtest.SoftHSM, Label: "x", CallTimeout: -1}, "negative"},
		"missing library":   {hsm.Config{Module: "/nonexistent/module.so", Label: "x"}, "cannot load"},
		"not a library":     {hsm.Config{Module: notALibrary, Label: "x"}, "cannot load"},
		"not PKCS#11":       {hsm.Config{Module: "/lib/x86_64-linux-gnu/libm.so.6", Label: "x"}, "cannot load"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := hsm.Open(t.Context(), tc.cfg)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Open: %v; want an error with %q", err, tc.want)
			}
		})
	}
}

func TestOpenListsTheTokensThatArePresent(t *testing.T) {
	instance := hsmtest.New(t)
	instance.AddToken(t, "other")
	cfg := instance.Config()
	cfg.Label = "missing"
	_, err := hsm.Open(t.Context(), cfg)
	if !errors.Is(err, hsm.ErrTokenNotFound) {
		t.Fatalf("Open: %v", err)
	}
	for _, want := range []string{`label "other"`, `label "sigild-test"`, `"missing"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error %q does not say %q", err, want)
		}
	}
}

func TestOpenTakesASerialWhenLabelsAreAmbiguous(t *testing.T) {
	instance := hsmtest.New(t)
	first := instance.OpenWith(t, instance.Config())
	serial := info(t, first).Serial
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	instance.AddToken(t, instance.Label)
	_, err := hsm.Open(t.Context(), instance.Config())
	if !errors.Is(err, hsm.ErrTokenNotFound) || !strings.Contains(err.Error(), "2 tokens") {
		t.Fatalf("two tokens of one label: %v", err)
	}
	token := instance.OpenWith(t, hsm.Config{Module: instance.Module, Serial: serial})
	if got := info(t, token); got.Serial != serial || got.Label != instance.Label {
		t.Errorf("opened %+v", got)
	}
}

func info(t *testing.T, token *hsm.Token) hsm.Info {
	t.Helper()
	got, err := token.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestInfoNeedsNoLogin(t *testing.T) {
	instance := hsmtest.New(t)
	got := info(t, instance.OpenWith(t, instance.Config()))
	if got.Label != instance.Label || got.Serial == "" || got.Model != "SoftHSM v2" || got.LibraryVersion == "" ||
		!got.LoginRequired || got.UserPINLocked || got.MaxPINLength != 255 {
		t.Errorf("Info: %+v", got)
	}
}

func TestWrongPINIsTriedOnce(t *testing.T) {
	instance := hsmtest.New(t, hsmtest.WithFaults())
	token := instance.OpenWith(t, instance.Config())
	wrong := []byte("0000000000")
	for range 3 {
		err := token.Login(t.Context(), wrong)
		if !errors.Is(err, hsm.ErrPINIncorrect) {
			t.Fatalf("Login: %v", err)
		}
		if strings.Contains(err.Error(), string(wrong)) {
			t.Error("the error has the PIN in it")
		}
	}
	if err := token.Login(t.Context(), instance.PIN); !errors.Is(err, hsm.ErrPINIncorrect) {
		t.Errorf("the right PIN after a refusal: %v", err)
	}
	if n := instance.Faults.Calls("C_Login"); n != 1 {
		t.Errorf("the token saw %d log-ins", n)
	}
	if _, err := token.NegotiateWrap(t.Context()); !errors.Is(err, hsm.ErrNotLoggedIn) {
		t.Errorf("NegotiateWrap: %v", err)
	}
}

func TestLoginRefusals(t *testing.T) {
	for name, tc := range map[string]struct {
		code  uint
		want  error
		calls int // C_Login calls after a second attempt
	}{
		"locked":        {pkcs11.CKR_PIN_LOCKED, hsm.ErrPINLocked, 1},
		"expired":       {pkcs11.CKR_PIN_EXPIRED, nil, 1},
		"vendor code":   {0x80000001, nil, 2},
		"general error": {pkcs11.CKR_GENERAL_ERROR, nil, 2},
		"device error":  {pkcs11.CKR_DEVICE_ERROR, nil, 2},
		"not reached":   {pkcs11.CKR_DEVICE_REMOVED, nil, 2},
		"dead session":  {pkcs11.CKR_SESSION_HANDLE_INVALID, nil, 2},
	} {
		t.Run(name, func(t *testing.T) {
			instance := hsmtest.New(t, hsmtest.WithFaults())
			token := instance.OpenWith(t, instance.Config())
			instance.Faults.FailOnce("C_Login", tc.code)
			err := token.Login(t.Context(), instance.PIN)
			var typed *hsm.Error
			if !errors.As(err, &typed) || typed.Code != tc.code || tc.want != nil && !errors.Is(err, tc.want) {
				t.Errorf("Login: %v", err)
			}
			second := token.Login(t.Context(), instance.PIN)
			if n := instance.Faults.Calls("C_Login"); n != tc.calls {
				t.Errorf("%d calls of C_Login, want %d", n, tc.calls)
			}
			if (second == nil) != (tc.calls == 2) {
				t.Errorf("second Login: %v", second)
			}
		})
	}
}

// An answer that does not say whether the PIN was judged may be tried again, but
// not when the token counts a wrong one, and not more than a few times.
func TestLoginInDoubt(t *testing.T) {
	t.Run("the token counts", func(t *testing.T) {
		instance := hsmtest.New(t, hsmtest.WithFaults())
		token := instance.OpenWith(t, instance.Config())
		instance.Faults.LockAfter(10)
		instance.Faults.FailAfter("C_Login", pkcs11.CKR_DEVICE_ERROR)
		for range 3 {
			if err := token.Login(t.Context(), []byte("0000000000")); err == nil {
				t.Fatal("logged in with a wrong PIN")
			}
		}
		if err := token.Login(t.Context(), instance.PIN); !errors.Is(err, hsm.ErrPINIncorrect) {
			t.Errorf("Login: %v", err)
		}
		if n := instance.Faults.Calls("C_Login"); n != 1 {
			t.Errorf("%d log-ins", n)
		}
	})
	t.Run("the token does not count", func(t *testing.T) {
		instance := hsmtest.New(t, hsmtest.WithFaults())
		token := instance.OpenWith(t, instance.Config())
		instance.Faults.Fail("C_Login", pkcs11.CKR_GENERAL_ERROR)
		for range 6 {
			if err := token.Login(t.Context(), instance.PIN); err == nil {
				t.Fatal("logged in")
			}
		}
		if n := instance.Faults.Calls("C_Login"); n != 3 {
			t.Errorf("%d log-ins", n)
		}
	})
}

func TestLoginIsAskedOnceAndNotWithoutAPIN(t *testing.T) {
	instance := hsmtest.New(t, hsmtest.WithFaults())
	token := instance.OpenWith(t, instance.Config())
	if err := token.Login(t.Context(), nil); err == nil {
		t.Error("an empty PIN is accepted")
	}
	for range 2 {
		if err := token.Login(t.Context(), instance.PIN); err != nil {
			t.Fatal(err)
		}
	}
	if n := instance.Faults.Calls("C_Login"); n != 1 {
		t.Errorf("%d calls of C_Login", n)
	}
}

// Somebody else's log-in says nothing about the PIN that is given here.
func TestLoginDoesNotTrustAForeignLogin(t *testing.T) {
	instance := hsmtest.New(t)
	first := instance.Open(t)
	second := instance.OpenWith(t, instance.Config())
	if err := second.Login(t.Context(), instance.PIN); !errors.Is(err, &hsm.Error{Code: pkcs11.CKR_USER_ALREADY_LOGGED_IN}) {
		t.Errorf("Login: %v", err)
	}
	if _, err := first.Random(t.Context(), 16); err != nil {
		t.Error(err)
	}
}

// A log-in whose caller has gone still holds the turn: a second one must not
// reach the token while the first may be counting.
func TestAbandonedLoginIsNotRepeated(t *testing.T) {
	instance := hsmtest.New(t, hsmtest.WithFaults())
	token := instance.OpenWith(t, instance.Config())
	instance.Faults.Hang("C_Login")
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if err := token.Login(ctx, instance.PIN); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Login: %v", err)
		}
		cancel()
	}
	instance.Faults.Clear("C_Login")
	if err := token.Login(t.Context(), instance.PIN); err != nil {
		t.Errorf("Login after the first came back: %v", err)
	}
	if n := instance.Faults.Calls("C_Login"); n != 1 {
		t.Errorf("%d calls of C_Login", n)
	}
}

func TestRandom(t *testing.T) {
	token := hsmtest.New(t).Open(t)
	for _, n := range []int{-1, 0, 4097} {
		if _, err := token.Random(t.Context(), n); err == nil {
			t.Errorf("Random(%d) is accepted", n)
		}
	}
	seen := map[string]bool{}
	for range 64 {
		b, err := token.Random(t.Context(), 32)
		if err != nil || len(b) != 32 || seen[string(b)] || bytes.Equal(b, make([]byte, 32)) {
			t.Fatalf("Random: %x, %v", b, err)
		}
		seen[string(b)] = true
	}
}

func TestSeedRandomOnATokenThatRefusesIt(t *testing.T) {
	instance := hsmtest.New(t, hsmtest.WithFaults())
	token := instance.Open(t)
	if err := token.SeedRandom(t.Context(), []byte("seed")); err != nil {
		t.Error(err)
	}
	for _, code := range []uint{pkcs11.CKR_RANDOM_SEED_NOT_SUPPORTED, pkcs11.CKR_FUNCTION_NOT_SUPPORTED} {
		instance.Faults.Fail("C_SeedRandom", code)
		if err := token.SeedRandom(t.Context(), []byte("seed")); !errors.Is(err, hsm.ErrUnsupported) {
			t.Errorf("SeedRandom: %v", err)
		}
	}
	for _, n := range []int{0, 4097} {
		if err := token.SeedRandom(t.Context(), make([]byte, n)); err == nil {
			t.Errorf("a seed of %d bytes is accepted", n)
		}
	}
}

func TestCloseIsFinalAndIdempotent(t *testing.T) {
	instance := hsmtest.New(t)
	token := instance.Open(t)
	keys := hsmtest.Provision(t, token, hsmtest.Installation(), 1)
	object, _, err := keys.GenerateRoot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(token.Close(), token.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := token.Random(t.Context(), 8); !errors.Is(err, hsm.ErrClosed) {
		t.Errorf("Random: %v", err)
	}
	if err := token.Login(t.Context(), instance.PIN); !errors.Is(err, hsm.ErrClosed) {
		t.Errorf("Login: %v", err)
	}
	if _, err := keys.SignECDSA(t.Context(), object, [32]byte{1}); !errors.Is(err, hsm.ErrObjectLost) {
		t.Errorf("SignECDSA: %v", err)
	}
	if err := keys.ProbeSign(t.Context()); !errors.Is(err, hsm.ErrNotLoggedIn) {
		t.Errorf("ProbeSign: %v", err)
	}
	again := instance.Open(t)
	if _, err := again.Random(t.Context(), 8); err != nil {
		t.Errorf("after opening again: %v", err)
	}
}

func TestCloseDoesNotWaitForeverForTheModule(t *testing.T) {
	instance := hsmtest.New(t, hsmtest.WithFaults())
	cfg := instance.Config()
	cfg.CallTimeout = 100 * time.Millisecond
	token, err := hsm.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	instance.Faults.Hang("C_GenerateRandom")
	if _, err := token.Random(t.Context(), 8); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Random: %v", err)
	}
	if err := token.Close(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Close: %v", err)
	}
	finalized := instance.Faults.Calls("C_Finalize")
	instance.Faults.Clear("C_GenerateRandom")
	deadline := time.Now().Add(5 * time.Second)
	for instance.Faults.Calls("C_Finalize") == finalized {
		if time.Now().After(deadline) {
			t.Fatal("the module was not finalised when the call came back")
		}
	}
}
