package tpm_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/sigild/sigild/tpm"
)

// software computes what the TPM must give.
func software(key, message []byte) [32]byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(message)
	return [32]byte(mac.Sum(nil))
}

func TestHMACEqualsSoftware(t *testing.T) {
	h := newHost(t)
	value := random(t, tpm.HMACKeySize)
	key := h.loadKey(t, h.createKey(t, value), h.approve(t))
	for _, size := range []int{0, 1, 32, 63, 64, 65, 100, tpm.MaxHMACMessage} {
		message := random(t, size)
		mac, err := key.HMAC(t.Context(), message)
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if mac != software(value, message) {
			t.Errorf("%d bytes: the TPM's HMAC differs from the one in software", size)
		}
	}
}

func TestHMACRefusedInAnotherStateUntilApproved(t *testing.T) {
	h := newHost(t)
	value, message := random(t, tpm.HMACKeySize), []byte("message")
	blob, first := h.createKey(t, value), h.approve(t)
	key := h.loadKey(t, blob, first)
	before := h.approve(t).Values[11]
	h.instance.Extend(t, 11, []byte("another kernel"))

	_, err := key.HMAC(t.Context(), message)
	var mismatch *tpm.PCRMismatchError
	if !errors.As(err, &mismatch) || !errors.Is(err, tpm.ErrPCRMismatch) {
		t.Fatalf("HMAC in another state: %v", err)
	}
	differences := mismatch.Approvals[0].Differences
	if len(differences) != 1 || differences[0].PCR != 11 || differences[0].Approved != before {
		t.Fatalf("differences %+v, want PCR 11 only", differences)
	}
	if !bytes.Contains([]byte(err.Error()), []byte("PCR 11 ")) {
		t.Errorf("the message does not name PCR 11: %v", err)
	}
	if _, err := h.LoadHMACKey(t.Context(), blob, h.authority, []tpm.Approval{first}); !errors.Is(err, tpm.ErrPCRMismatch) {
		t.Fatalf("LoadHMACKey in another state: %v", err)
	}

	again := h.loadKey(t, blob, first, h.approve(t))
	mac, err := again.HMAC(t.Context(), message)
	if err != nil || mac != software(value, message) {
		t.Fatalf("HMAC after the new approval: %v", err)
	}
}

func TestClosedKey(t *testing.T) {
	h := newHost(t)
	approval := h.approve(t)
	values := [][]byte{random(t, tpm.HMACKeySize), random(t, tpm.HMACKeySize)}
	first, second := h.loadKey(t, h.createKey(t, values[0]), approval), h.loadKey(t, h.createKey(t, values[1]), approval)
	for range 2 {
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := first.HMAC(t.Context(), []byte("x")); !errors.Is(err, tpm.ErrClosed) {
		t.Errorf("a closed key: %v", err)
	}
	if mac, err := second.HMAC(t.Context(), []byte("x")); err != nil || mac != software(values[1], []byte("x")) {
		t.Errorf("the other key: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if loaded := h.instance.Loaded(t); len(loaded) != 1 {
		t.Errorf("loaded are %#x, want the storage root key alone", loaded)
	}
}
