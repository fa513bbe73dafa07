package tpm_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"testing"
	"time"

	"github.com/sigild/sigild/tpm"
	"github.com/sigild/sigild/tpm/tpmtest"
)

// open opens a TPM for the length of the test.
func open(t testing.TB, device string) *tpm.TPM {
	t.Helper()
	return openFor(t, tpm.Config{Device: device})
}

func openFor(t testing.TB, config tpm.Config) *tpm.TPM {
	t.Helper()
	opened, err := tpm.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := opened.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return opened
}

// host is an installation on a fresh TPM, with a policy key in software.
type host struct {
	*tpm.TPM
	instance  *tpmtest.Instance
	policyKey *ecdsa.PrivateKey
	authority tpm.Authority
	profile   tpm.Profile
}

func newHost(t testing.TB) *host {
	t.Helper()
	instance := tpmtest.New(t)
	return newHostOn(t, instance, tpm.Config{Device: instance.Device})
}

func newHostOn(t testing.TB, instance *tpmtest.Instance, config tpm.Config) *host {
	t.Helper()
	key := newPolicyKey(t)
	profile, err := tpm.ParseProfile("uki", nil, false)
	if err != nil {
		t.Fatal(err)
	}
	authority := tpm.Authority{Key: &key.PublicKey}
	if _, err := rand.Read(authority.Installation[:]); err != nil {
		t.Fatal(err)
	}
	return &host{
		TPM: openFor(t, config), instance: instance, policyKey: key, authority: authority, profile: profile,
	}
}

func newPolicyKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// approve approves the present state.
func (h *host) approve(t testing.TB) tpm.Approval {
	t.Helper()
	return h.approveWith(t, h.policyKey)
}

func (h *host) approveWith(t testing.TB, key *ecdsa.PrivateKey) tpm.Approval {
	t.Helper()
	values, err := h.ReadPCRs(t.Context(), h.profile.PCRs())
	if err != nil {
		t.Fatal(err)
	}
	approval, err := tpm.Approve(key, h.authority.Installation, h.profile, values)
	if err != nil {
		t.Fatal(err)
	}
	return approval
}

func (h *host) seal(t testing.TB, data []byte) tpm.Blob {
	t.Helper()
	blob, err := h.Seal(t.Context(), data, h.authority)
	if err != nil {
		t.Fatal(err)
	}
	return blob
}

func (h *host) createKey(t testing.TB, value []byte) tpm.Blob {
	t.Helper()
	blob, err := h.CreateHMACKey(t.Context(), value, h.authority)
	if err != nil {
		t.Fatal(err)
	}
	return blob
}

func (h *host) loadKey(t testing.TB, blob tpm.Blob, approvals ...tpm.Approval) *tpm.HMACKey {
	t.Helper()
	key, err := h.LoadHMACKey(t.Context(), blob, h.authority, approvals)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// random makes n random bytes.
func random(t testing.TB, n int) []byte {
	t.Helper()
	out := make([]byte, n)
	if _, err := rand.Read(out); err != nil {
		t.Fatal(err)
	}
	return out
}

// deadline is for what must not hang.
func deadline(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}
