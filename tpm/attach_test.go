package tpm_test

import (
	"errors"
	"testing"

	"github.com/sigild/sigild/tpm"
	"github.com/sigild/sigild/tpm/tpmtest"
)

// A TPM that is away when the daemon starts is attached, and opened when it is
// there; keys that were made before serve then.
func TestAttachWaitsForTheTPM(t *testing.T) {
	instance := tpmtest.New(t)
	h := newHostOn(t, instance, tpm.Config{Device: instance.Device})
	value := random(t, tpm.HMACKeySize)
	blob, approval, name := h.createKey(t, value), h.approve(t), h.SRKName()
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	instance.Stop(true)
	attached, err := tpm.Attach(tpm.Config{Device: instance.Device}, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := attached.Close(); err != nil {
			t.Error(err)
		}
	})
	key, err := attached.HMACKey(blob, h.authority, []tpm.Approval{approval})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := key.HMAC(t.Context(), []byte("message")); !errors.Is(err, tpm.ErrUnavailable) {
			t.Errorf("HMAC: %v", err)
		}
		if err := attached.Reopen(t.Context()); !errors.Is(err, tpm.ErrUnavailable) {
			t.Errorf("Reopen: %v", err)
		}
	}
	instance.Restart(true)
	if err := attached.Reopen(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := key.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := key.HMAC(t.Context(), []byte("message")); err != nil {
		t.Error(err)
	}
}

func TestAttachRefusesAnotherTPM(t *testing.T) {
	instance := tpmtest.New(t)
	attached, err := tpm.Attach(tpm.Config{Device: instance.Device}, make([]byte, 34))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := attached.Reopen(t.Context()); !errors.Is(err, tpm.ErrSRKChanged) {
			t.Errorf("Reopen: %v", err)
		}
	}
	if err := attached.Close(); err != nil {
		t.Error(err)
	}
}
