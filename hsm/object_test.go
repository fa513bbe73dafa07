package hsm_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha512"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/miekg/pkcs11"

	"github.com/sigild/sigild/hsm"
	"github.com/sigild/sigild/hsm/hsmtest"
)

// wallet is a root and a derivation key, wrapped.
type wallet struct {
	root, secret []byte
	tweak        [64]byte
}

func newWallet(t *testing.T, keys *hsm.Keys) wallet {
	t.Helper()
	ctx := t.Context()
	seed := make([]byte, 64)
	_, _ = rand.Read(seed)
	mac := hmac.New(sha512.New, seed)
	mac.Write([]byte("account"))
	w := wallet{tweak: [64]byte(mac.Sum(nil))}
	root, _, errRoot := keys.GenerateRoot(ctx)
	secret, errSecret := keys.ImportSecret(ctx, seed)
	if err := errors.Join(errRoot, errSecret); err != nil {
		t.Fatal(err)
	}
	var errA, errB error
	w.root, errA = keys.Wrap(ctx, hsm.Wrap, root)
	w.secret, errB = keys.Wrap(ctx, hsm.WrapSecret, secret)
	if err := errors.Join(errA, errB, keys.Destroy(ctx, root, secret)); err != nil {
		t.Fatal(err)
	}
	return w
}

// use opens a wallet, derives and signs, and closes it.
func (w wallet) use(ctx context.Context, keys *hsm.Keys) error {
	root, err := keys.Unwrap(ctx, hsm.Wrap, w.root)
	if err != nil {
		return err
	}
	secret, err := keys.Unwrap(ctx, hsm.WrapSecret, w.secret)
	if err != nil {
		return errors.Join(err, keys.Destroy(ctx, root))
	}
	var tweak [64]byte
	err = keys.HMACSHA512(ctx, secret, []byte("account"), &tweak)
	if err == nil && tweak != w.tweak {
		err = errors.New("the tweak differs")
	}
	_, signErr := keys.SignECDSA(ctx, root, [32]byte{1})
	return errors.Join(err, signErr, keys.Destroy(ctx, root, secret))
}

func TestSixteenCallersLeaveNothingBehind(t *testing.T) {
	_, keys := hsmtest.Provisioned(t)
	w := newWallet(t, keys)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 8 {
				if err := w.use(t.Context(), keys); err != nil {
					t.Error(err)
				}
				signs(t, keys, hsm.Identity)
			}
		})
	}
	wg.Wait()
	if n, err := keys.SessionObjects(t.Context()); err != nil || n != 0 {
		t.Errorf("%d session objects are left (%v)", n, err)
	}
}

// Callers that leave at any moment must not leave keys behind either.
func TestImpatientCallersLeaveNothingBehind(t *testing.T) {
	token, keys := hsmtest.Provisioned(t)
	w := newWallet(t, keys)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for j := range 8 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i*j)*250*time.Microsecond)
				if err := w.use(ctx, keys); err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	// Late calls clean up before they give their session back, so a round of all
	// sessions waits for them.
	if err := w.use(t.Context(), keys); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	if err := errors.Join(keys.ProbeSign(t.Context()), second(token.Random(t.Context(), 8))); err != nil {
		t.Error(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		n, err := keys.SessionObjects(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d session objects are left", n)
		}
	}
}

// The token's signatures are given out as they are: both halves of s occur.
func TestHighSIsNotTouched(t *testing.T) {
	_, keys := hsmtest.Provisioned(t)
	o := newRoot(t, keys)
	high := 0
	for i := range 64 {
		signature, err := keys.SignECDSA(t.Context(), o, [32]byte{byte(i), 1})
		if err != nil {
			t.Fatal(err)
		}
		var s secp256k1.ModNScalar
		s.SetByteSlice(signature[32:])
		if s.IsOverHalfOrder() {
			high++
		}
	}
	if high == 0 || high == 64 {
		t.Errorf("%d of 64 signatures have a high s", high)
	}
}

func TestImportSecretSizes(t *testing.T) {
	_, keys := hsmtest.Provisioned(t)
	for size, ok := range map[int]bool{0: false, 15: false, 16: true, 64: true, 128: true, 129: false} {
		o, err := keys.ImportSecret(t.Context(), make([]byte, size))
		if (err == nil) != ok {
			t.Errorf("%d bytes: %v", size, err)
		}
		if err := keys.Destroy(t.Context(), o); err != nil {
			t.Error(err)
		}
	}
	if _, err := keys.HMAC(t.Context(), hsm.PIN, make([]byte, 1<<20+1)); err == nil {
		t.Error("an HMAC over more than 1 MiB is accepted")
	}
}

func TestZeroAndForeignObjectsAreLost(t *testing.T) {
	instance := hsmtest.New(t)
	installation := hsmtest.Installation()
	first := instance.Open(t)
	keys := hsmtest.Provision(t, first, installation, 1)
	foreign := newRoot(t, keys)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := instance.Open(t).OpenKeys(t.Context(), installation, 1, keys.Mechanism())
	if err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]hsm.Object{"zero": {}, "of a closed token": foreign} {
		for _, err := range []error{
			sign(t, again, o), again.HMACSHA512(t.Context(), o, nil, new([64]byte)), second(again.Wrap(t.Context(), hsm.Wrap, o)),
		} {
			if !errors.Is(err, hsm.ErrObjectLost) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := again.Destroy(t.Context(), o, o); err != nil {
			t.Errorf("destroy %s: %v", name, err)
		}
	}
}

// What the token does not destroy goes with its session.
func TestFailedDestroyClosesTheKeeper(t *testing.T) {
	instance, _, keys := faulty(t, 1, 1)
	o := newRoot(t, keys)
	closed := instance.Faults.Calls("C_CloseSession")
	instance.Faults.Fail("C_DestroyObject", pkcs11.CKR_FUNCTION_FAILED)
	if err := keys.Destroy(t.Context(), o); !errors.Is(err, &hsm.Error{Func: "C_DestroyObject", Code: pkcs11.CKR_FUNCTION_FAILED}) {
		t.Errorf("Destroy: %v", err)
	}
	instance.Faults.Clear("C_DestroyObject")
	other := newRoot(t, keys) // after the keeper was closed and opened again
	if n, err := keys.SessionObjects(t.Context()); err != nil || n != 1 {
		t.Errorf("%d session objects (%v), want the new one", n, err)
	}
	if err := sign(t, keys, o); !errors.Is(err, hsm.ErrObjectLost) {
		t.Errorf("SignECDSA: %v", err)
	}
	if err := errors.Join(sign(t, keys, other), keys.Destroy(t.Context(), other)); err != nil {
		t.Error(err)
	}
	if n := instance.Faults.Calls("C_CloseSession") - closed; n < 1 {
		t.Error("no session was closed")
	}
}

// A keeper that is in use when its object cannot be destroyed is closed as soon
// as it comes back.
func TestCondemnedKeeperInUseIsClosedWhenItComesBack(t *testing.T) {
	instance, _, keys := faulty(t, 2, 1)
	o := newRoot(t, keys)
	instance.Faults.Hang("C_CreateObject")
	done := make(chan error, 1)
	before := instance.Faults.Calls("C_CreateObject")
	go func() {
		_, err := keys.ImportSecret(t.Context(), make([]byte, 32))
		done <- err
	}()
	for instance.Faults.Calls("C_CreateObject") == before {
		if t.Context().Err() != nil {
			t.Fatal("the test ended")
		}
	}
	instance.Faults.Fail("C_DestroyObject", pkcs11.CKR_DEVICE_MEMORY)
	if err := keys.Destroy(t.Context(), o); err == nil {
		t.Error("Destroy worked")
	}
	instance.Faults.Clear("C_DestroyObject")
	instance.Faults.Clear("C_CreateObject")
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := keys.Destroy(t.Context(), newRoot(t, keys)); err != nil {
		t.Error(err)
	}
	if n, err := keys.SessionObjects(t.Context()); err != nil || n != 0 {
		t.Errorf("%d session objects are left (%v)", n, err)
	}
}

// An object that the token has lost by itself counts as destroyed.
func TestObjectThatTheTokenLost(t *testing.T) {
	instance, _, keys := faulty(t, 1, 1)
	o, other := newRoot(t, keys), newRoot(t, keys)
	instance.Faults.FailOnce("C_SignInit", pkcs11.CKR_KEY_HANDLE_INVALID)
	if err := sign(t, keys, o); !errors.Is(err, hsm.ErrObjectLost) {
		t.Errorf("SignECDSA: %v", err)
	}
	if err := sign(t, keys, o); !errors.Is(err, hsm.ErrObjectLost) {
		t.Errorf("SignECDSA again: %v", err)
	}
	if err := sign(t, keys, other); err != nil {
		t.Errorf("the other object: %v", err)
	}
}

// A token in trouble must not look like a forged record.
func TestUnwrapBlamesTheRightOne(t *testing.T) {
	instance, _, keys := faulty(t, 1, 1)
	w := newWallet(t, keys)
	bystander := newRoot(t, keys)
	for _, code := range []uint{pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_DEVICE_MEMORY, pkcs11.CKR_WRAPPED_KEY_INVALID} {
		instance.Faults.Fail("C_UnwrapKey", code)
		if _, err := keys.Unwrap(t.Context(), hsm.Wrap, w.root); err == nil || errors.Is(err, hsm.ErrWrappedKey) {
			t.Errorf("a token that unwraps nothing: %v", err)
		}
		instance.Faults.Clear("C_UnwrapKey")
		instance.Faults.FailOnce("C_UnwrapKey", code)
		if err := w.use(t.Context(), keys); err != nil {
			t.Errorf("a token that refuses a good key once: %v", err)
		}
		instance.Faults.FailTwice("C_UnwrapKey", code)
		if _, err := keys.Unwrap(t.Context(), hsm.Wrap, w.root); !errors.Is(err, hsm.ErrWrappedKey) {
			t.Errorf("a wrapped key that is refused: %v", err)
		}
	}
	forged := bytes.Clone(w.root)
	forged[len(forged)/2] ^= 1
	if _, err := keys.Unwrap(t.Context(), hsm.Wrap, forged); !errors.Is(err, hsm.ErrWrappedKey) {
		t.Errorf("a forged key: %v", err)
	}
	if err := errors.Join(sign(t, keys, bystander), keys.Destroy(t.Context(), bystander)); err != nil {
		t.Errorf("another caller's object: %v", err)
	}
	if err := w.use(t.Context(), keys); err != nil {
		t.Error(err)
	}
}

func TestUnwrapOnABadTokenIsNotABadRecord(t *testing.T) {
	instance, _, keys := faulty(t, 1, 1)
	w := newWallet(t, keys)
	instance.Faults.FailOnce("C_UnwrapKey", pkcs11.CKR_DEVICE_REMOVED)
	if _, err := keys.Unwrap(t.Context(), hsm.Wrap, w.root); !errors.Is(err, &hsm.Error{Code: pkcs11.CKR_DEVICE_REMOVED}) {
		t.Errorf("Unwrap: %v", err)
	}
	if err := w.use(t.Context(), keys); err != nil {
		t.Error(err)
	}
}
