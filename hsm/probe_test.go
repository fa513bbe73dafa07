package hsm_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/sigild/sigild/hsm"
	"github.com/sigild/sigild/hsm/hsmtest"
)

func states(report hsm.ProbeReport) map[string]hsm.State {
	out := map[string]hsm.State{}
	for _, a := range report.Abilities {
		out[a.Name] = a.State
	}
	return out
}

func TestProbeTriesEachAbility(t *testing.T) {
	instance := hsmtest.New(t)
	report, err := hsm.ProbeToken(t.Context(), instance.Config(), instance.PIN)
	if err != nil {
		t.Fatal(err)
	}
	got := states(report)
	for name, want := range map[string]hsm.State{
		"random bytes": hsm.Available, "seed the generator": hsm.Available,
		"secp256k1 session pair and raw ECDSA":   hsm.Available,
		"generic secret import and HMAC-SHA512":  hsm.Available,
		"HMAC-SHA256":                            hsm.Available,
		"P-256 session pair and ECDSA":           hsm.Available,
		"AES-GCM":                                hsm.Available,
		"CKA_ALLOWED_MECHANISMS enforced":        hsm.Available,
		"CKA_COPYABLE=false enforced":            hsm.Available,
		"CKA_MODIFIABLE=false enforced":          hsm.Available,
		"Ed25519 generate":                       hsm.Available,
		"Ed25519 import":                         hsm.Available,
		"Ed25519 wrap":                           hsm.Missing, // until SoftHSM 2.7.0
		"wrap mechanism":                         hsm.Available,
		"wrap a private key":                     hsm.Available,
		"wrap a secret key":                      hsm.Available,
		"import of a secp256k1 private key":      hsm.Available,
		"export under a known AES key":           hsm.Available,
		"wrap refuses: CKA_SENSITIVE=false":      hsm.Available,
		"wrap refuses: another CKA_CLASS":        hsm.Available,
		"wrap-secret refuses: CKA_TOKEN=true":    hsm.Available,
		"mechanism: key wrap (KWP)":              hsm.Missing,
		"mechanism: key wrap (PAD)":              hsm.Available,
		"sessions":                               hsm.Available,
		"wrap-secret refuses: another CKA_CLASS": hsm.Available,
	} {
		if got[name] != want {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
	}
	if report.Info.Label != instance.Label {
		t.Errorf("Info: %+v", report.Info)
	}
}

// The probe leaves neither session objects nor token objects.
func TestProbeLeavesNothingBehind(t *testing.T) {
	instance := hsmtest.New(t)
	if _, err := hsm.ProbeToken(t.Context(), instance.Config(), instance.PIN); err != nil {
		t.Fatal(err)
	}
	instance.Open(t)
	v := newVandal(t, instance.Module)
	if err := v.p.FindObjectsInit(v.session, nil); err != nil {
		t.Fatal(err)
	}
	found, _, err := v.p.FindObjects(v.session, 16)
	if err = errors.Join(err, v.p.FindObjectsFinal(v.session)); err != nil || len(found) != 0 {
		t.Errorf("%d objects are left (%v)", len(found), err)
	}
}

func TestProbeWithoutAPINDoesNotLogIn(t *testing.T) {
	instance := hsmtest.New(t, hsmtest.WithFaults())
	report, err := hsm.ProbeToken(t.Context(), instance.Config(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range report.Abilities {
		if !strings.HasPrefix(a.Name, "mechanism: ") && a.Name != "sessions" {
			t.Errorf("without a PIN it reports %q", a.Name)
		}
	}
	if n := instance.Faults.Calls("C_Login"); n != 0 {
		t.Errorf("%d log-ins", n)
	}
}

func TestProbeReportsWhatFails(t *testing.T) {
	instance := hsmtest.New(t, hsmtest.WithFaults())
	if _, err := hsm.ProbeToken(t.Context(), instance.Config(), []byte("wrong PIN")); !errors.Is(err, hsm.ErrPINIncorrect) {
		t.Errorf("a wrong PIN: %v", err)
	}
	instance.Faults.Fail("C_WrapKey", pkcs11.CKR_FUNCTION_NOT_SUPPORTED)
	instance.Faults.Fail("C_SeedRandom", pkcs11.CKR_GENERAL_ERROR)
	report, err := hsm.ProbeToken(t.Context(), instance.Config(), instance.PIN)
	if err != nil {
		t.Fatal(err)
	}
	got := states(report)
	for name, want := range map[string]hsm.State{
		"wrap mechanism": hsm.Missing, "Ed25519 wrap": hsm.Missing, "seed the generator": hsm.Failed, "AES-GCM": hsm.Available,
	} {
		if got[name] != want {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
	}
}

func TestNoWrapMechanism(t *testing.T) {
	instance := hsmtest.New(t, hsmtest.WithFaults())
	token := instance.Open(t)
	instance.Faults.Fail("C_UnwrapKey", pkcs11.CKR_FUNCTION_NOT_SUPPORTED) // it wraps, but for nothing
	if _, err := token.NegotiateWrap(t.Context()); !errors.Is(err, hsm.ErrNoWrapMechanism) {
		t.Errorf("NegotiateWrap: %v", err)
	}
	instance.Faults.Clear("C_UnwrapKey")
	if _, err := token.NegotiateWrap(t.Context()); err != nil {
		t.Errorf("NegotiateWrap: %v", err)
	}
}
