package hsm_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/sigild/sigild/hsm"
	"github.com/sigild/sigild/hsm/hsmtest"
)

// signs checks that the P-256 key of a purpose signs.
func signs(t *testing.T, keys *hsm.Keys, p hsm.Purpose) {
	t.Helper()
	signer, err := keys.Signer(p)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("x"))
	signature, err := signer.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		t.Errorf("%v: %v", p, err)
	} else if !ecdsa.VerifyASN1(signer.Public().(*ecdsa.PublicKey), digest[:], signature) {
		t.Errorf("%v: the signature does not verify", p)
	}
}

func TestSignerTakesSHA256Only(t *testing.T) {
	_, keys := hsmtest.Provisioned(t)
	signer, err := keys.Signer(hsm.Audit)
	if err != nil {
		t.Fatal(err)
	}
	digest := make([]byte, 64)
	for name, sign := range map[string]func() ([]byte, error){
		"no hash":  func() ([]byte, error) { return signer.Sign(nil, digest[:32], nil) },
		"SHA-512":  func() ([]byte, error) { return signer.Sign(nil, digest, crypto.SHA512) },
		"short":    func() ([]byte, error) { return signer.Sign(nil, digest[:31], crypto.SHA256) },
		"not hash": func() ([]byte, error) { return signer.Sign(nil, digest[:32], crypto.Hash(0)) },
	} {
		if _, err := sign(); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	for _, p := range []hsm.Purpose{hsm.Wrap, hsm.PIN, hsm.Probe, 0, 200} {
		if _, err := keys.Signer(p); !errors.Is(err, hsm.ErrPurpose) {
			t.Errorf("Signer(%v): %v", p, err)
		}
		if _, err := keys.Public(p); !errors.Is(err, hsm.ErrPurpose) {
			t.Errorf("Public(%v): %v", p, err)
		}
	}
}

func TestSignerRecoversFromADeadSession(t *testing.T) {
	instance, _, keys := faulty(t, 1, 1)
	signs(t, keys, hsm.Identity)
	for _, code := range []uint{pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_KEY_HANDLE_INVALID} {
		instance.Faults.FailOnce("C_SignInit", code)
		signs(t, keys, hsm.Identity)
		signs(t, keys, hsm.Policy)
	}
	signer, err := keys.Signer(hsm.Identity)
	if err != nil {
		t.Fatal(err)
	}
	instance.Faults.Fail("C_SignInit", pkcs11.CKR_DEVICE_ERROR)
	if _, err := signer.Sign(nil, make([]byte, 32), crypto.SHA256); !errors.Is(err, &hsm.Error{Code: pkcs11.CKR_DEVICE_ERROR}) {
		t.Errorf("Sign on a dead device: %v", err)
	}
	instance.Faults.Clear("C_SignInit")
	signs(t, keys, hsm.Identity)
}

func TestSignerIsBoundedInTime(t *testing.T) {
	instance := hsmtest.New(t, hsmtest.WithFaults())
	cfg := instance.Config()
	cfg.CallTimeout = 3 * time.Second
	token := instance.OpenWith(t, cfg)
	if err := token.Login(t.Context(), instance.PIN); err != nil {
		t.Fatal(err)
	}
	keys := hsmtest.Provision(t, token, hsmtest.Installation(), 1)
	signer, err := keys.Signer(hsm.Identity)
	if err != nil {
		t.Fatal(err)
	}
	instance.Faults.Hang("C_Sign")
	if _, err := signer.Sign(nil, make([]byte, 32), crypto.SHA256); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Sign: %v", err)
	}
	instance.Faults.Clear("C_Sign")
	signs(t, keys, hsm.Identity)
}
