package main

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/ipc"
	"github.com/sigild/sigild/tpm"
)

// mixedFactors replaces factors by what a thief has in their place.
type mixedFactors struct {
	pepper, host func(context.Context, []byte, *[32]byte) error
}

func (f mixedFactors) Pepper(ctx context.Context, m []byte, h1 *[32]byte) error {
	return f.pepper(ctx, m, h1)
}

func (f mixedFactors) Host(ctx context.Context, m []byte, h2 *[32]byte) error {
	return f.host(ctx, m, h2)
}

// guessed is a factor whose key the thief does not have.
func guessed() func(context.Context, []byte, *[32]byte) error {
	key := make([]byte, 32)
	rand.Read(key)
	return func(_ context.Context, m []byte, out *[32]byte) error {
		mac := hmac.New(sha256.New, key)
		mac.Write(m)
		mac.Sum(out[:0])
		return nil
	}
}

// TestEveryFactorIsNeeded opens a record with the real token and the real TPM,
// and then with all but one of: the PIN, the token, the TPM, this very record.
func TestEveryFactorIsNeeded(t *testing.T) {
	h, c := serving(t)
	w, other := create(t, c, "1"), create(t, c, "2")
	stop(t, h)
	v := openVault(t, h)
	p := v.record(t, w.WalletID)
	if _, err := unseal(t, p, rightPIN, v.factors); err != nil {
		t.Fatalf("all factors are true: %v", err)
	}
	moved := *p
	moved.Record.Box = v.record(t, other.WalletID).Record.Box
	swapped := mixedFactors{v.factors.Host, v.factors.Pepper}
	for _, theft := range []struct {
		name    string
		record  *seal.Parsed
		pin     string
		factors seal.Factors
	}{
		{"another PIN", p, wrongPIN, v.factors},
		{"another token", p, rightPIN, mixedFactors{guessed(), v.factors.Host}},
		{"another TPM", p, rightPIN, mixedFactors{v.factors.Pepper, guessed()}},
		{"neither", p, rightPIN, mixedFactors{guessed(), guessed()}},
		{"one for the other", p, rightPIN, swapped},
		{"another wallet's box", &moved, rightPIN, v.factors},
	} {
		if _, err := unseal(t, theft.record, theft.pin, theft.factors); !errors.Is(err, seal.ErrOpen) {
			t.Errorf("%s: %v, want %v", theft.name, err, seal.ErrOpen)
		}
	}
}

// TestChangedPCRIsAMissingFactor extends a PCR under the open host key: the TPM does
// not answer, and whoever guesses at its answer does not open the record.
func TestChangedPCRIsAMissingFactor(t *testing.T) {
	h, c := serving(t)
	w := create(t, c, "1")
	stop(t, h)
	v := openVault(t, h)
	p := v.record(t, w.WalletID)
	if _, err := unseal(t, p, rightPIN, v.factors); err != nil {
		t.Fatalf("before the change: %v", err)
	}
	if err := h.TPM.Extend(11, sha256.Sum256([]byte("another kernel"))); err != nil {
		t.Fatal(err)
	}
	_, err := seal.DeriveKey(testContext(t), []byte(rightPIN), p.Header.Wallet, p.Header.KDF, v.factors)
	if !errors.Is(err, seal.ErrFactor) || !errors.Is(err, tpm.ErrPCRMismatch) {
		t.Errorf("the changed TPM answers %v, want %v and %v", err, seal.ErrFactor, tpm.ErrPCRMismatch)
	}
	if _, err := unseal(t, p, rightPIN, mixedFactors{v.factors.Pepper, guessed()}); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("a guess at its answer: %v, want %v", err, seal.ErrOpen)
	}
}

// TestDatabaseHoldsNeitherPINNorFactor searches the whole database for what
// must not be in it.
func TestDatabaseHoldsNeitherPINNorFactor(t *testing.T) {
	h := newHost(t)
	code := provision(t, h)
	start(t, h)
	c := dial(t, h.Socket)
	w := create(t, c, "1")
	signAll(t, c, w, 0)
	if _, err := tryPIN(t, c, w.WalletID, wrongPIN); ipc.ReasonOf(err) != "wrongPin" {
		t.Fatal(err)
	}
	stop(t, h)
	v := openVault(t, h)
	secret, err := seal.OpenHost(code, v.doc.ID, 1, v.doc.HostKeys[0].Recovery)
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := unseal(t, v.record(t, w.WalletID), rightPIN, v.factors)
	if err != nil {
		t.Fatal(err)
	}
	v.close(t)
	for _, path := range []string{h.Database(), h.AuditLog()} {
		mustNotBeIn(t, path, map[string][]byte{"PIN": []byte(rightPIN), "wrong PIN": []byte(wrongPIN), "token's PIN": h.TokenPIN(),
			"recovery code": code, "host key": secret.Host, "wrapped root": wrapped.Roots[0], "wrapped derivation key": wrapped.Derivation})
	}
}
