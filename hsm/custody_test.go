package hsm_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"testing"
	"time"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/miekg/pkcs11"

	"github.com/sigild/sigild/hsm"
	"github.com/sigild/sigild/hsm/hsmtest"
)

// The smallest and the largest private key, and some with leading zeros, come in
// and go out as they were.
func TestImportedKeysGoOutAsTheyCameIn(t *testing.T) {
	_, keys := hsmtest.Provisioned(t)
	one, largest := [32]byte{31: 1}, [32]byte(unhex(t, order))
	largest[31]--
	scalars := [][32]byte{one, largest}
	for zeros := range 4 {
		var s [32]byte
		rand.Read(s[zeros:])
		s[0] &= 0x7f
		scalars = append(scalars, s)
	}
	for _, scalar := range scalars {
		o, point, err := keys.ImportRoot(t.Context(), &scalar)
		if err != nil {
			t.Fatal(err)
		}
		if want := secp256k1.PrivKeyFromBytes(scalar[:]).PubKey().SerializeUncompressed(); [65]byte(want) != point {
			t.Errorf("%x has another point", scalar)
		}
		wrapped, err := keys.Wrap(t.Context(), hsm.WrapExport, o)
		if err != nil {
			t.Fatal(err)
		}
		again, err := keys.Unwrap(t.Context(), hsm.WrapExport, wrapped)
		if err != nil {
			t.Fatal(err)
		}
		known, got := [32]byte{7}, [32]byte{}
		out, err := keys.WrapKnown(t.Context(), again, &known)
		if err != nil {
			t.Fatal(err)
		}
		if err := hsm.UnwrapKnown(&known, out, &got); err != nil || got != scalar {
			t.Errorf("%x went out as %x, %v", scalar, got, err)
		}
		known[0]++
		if err := hsm.UnwrapKnown(&known, out, &got); !errors.Is(err, hsm.ErrKnownWrap) || got != [32]byte{} {
			t.Errorf("another key: %v", err)
		}
		if err := keys.Destroy(t.Context(), o, again); err != nil {
			t.Error(err)
		}
	}
	for name, text := range map[string]string{"0": "0000000000000000000000000000000000000000000000000000000000000000", "n": order,
		"2^256-1": "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"} {
		b, _ := hex.DecodeString(text)
		if _, _, err := keys.ImportRoot(t.Context(), (*[32]byte)(b)); !errors.Is(err, hsm.ErrScalar) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n, err := keys.SessionObjects(t.Context()); err != nil || n != 0 {
		t.Errorf("%d session objects are left (%v)", n, err)
	}
}

// A root that is not exportable, a secret and an object that is gone stay where
// they are.
func TestOnlyExportableRootsGoOut(t *testing.T) {
	_, keys := hsmtest.Provisioned(t)
	o, _, err := keys.GenerateRoot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := keys.Wrap(t.Context(), hsm.Wrap, o)
	if err != nil {
		t.Fatal(err)
	}
	root, err := keys.Unwrap(t.Context(), hsm.Wrap, wrapped)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := keys.ImportSecret(t.Context(), make([]byte, 64))
	if err != nil {
		t.Fatal(err)
	}
	var refused *hsm.Error
	if out, err := keys.WrapKnown(t.Context(), root, new([32]byte)); !errors.As(err, &refused) || refused.Code != pkcs11.CKR_KEY_UNEXTRACTABLE || out != nil {
		t.Errorf("a root that is not exportable: %v", err)
	}
	if _, err := keys.WrapKnown(t.Context(), secret, new([32]byte)); !errors.Is(err, hsm.ErrPurpose) {
		t.Errorf("a derivation key: %v", err)
	}
	if err := keys.Destroy(t.Context(), o, root, secret); err != nil {
		t.Fatal(err)
	}
	if _, err := keys.WrapKnown(t.Context(), root, new([32]byte)); !errors.Is(err, hsm.ErrObjectLost) {
		t.Errorf("an object that is gone: %v", err)
	}
	if n, err := keys.SessionObjects(t.Context()); err != nil || n != 0 {
		t.Errorf("%d session objects are left (%v)", n, err)
	}
}

// A token that takes no private key is used all the same, and says what it
// cannot; one that fails while it is tried is not.
func TestTokenThatCannotImport(t *testing.T) {
	instance := hsmtest.New(t, hsmtest.WithFaults())
	token := instance.Open(t)
	installation := hsmtest.Installation()
	keys := hsmtest.Provision(t, token, installation, 1)
	if err := errors.Join(keys.CanImport(), keys.CanExport()); err != nil {
		t.Fatal(err)
	}
	instance.Faults.RefuseCustody(pkcs11.CKR_TEMPLATE_INCOMPLETE)
	keys, err := token.OpenKeys(t.Context(), installation, 1, keys.Mechanism())
	if err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{"import": keys.CanImport(), "export": keys.CanExport()} {
		if !errors.Is(err, &hsm.Error{Code: pkcs11.CKR_TEMPLATE_INCOMPLETE}) {
			t.Errorf("%s: %v", what, err)
		}
	}
	instance.Faults.RefuseCustody(pkcs11.CKR_DEVICE_REMOVED)
	if _, err := token.OpenKeys(t.Context(), installation, 1, keys.Mechanism()); err == nil {
		t.Error("keys were opened on a device that went away")
	}
}

// An import that nobody waits for any more leaves nothing behind.
func TestAbandonedImport(t *testing.T) {
	instance, _, keys := faulty(t, 1, 1)
	instance.Faults.Hang("C_CreateObject")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := keys.ImportRoot(ctx, &[32]byte{31: 9}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	instance.Faults.Clear("C_CreateObject")
	o := newRoot(t, keys) // on the only keeper, when it is free again
	if n, err := keys.SessionObjects(t.Context()); err != nil || n != 1 {
		t.Errorf("%d session objects are left, want 1 (%v)", n, err)
	}
	if err := keys.Destroy(t.Context(), o); err != nil {
		t.Error(err)
	}
}

// The probe says of each ability whether the token has it.
func TestProbeOfATokenThatCannotImport(t *testing.T) {
	instance := hsmtest.New(t, hsmtest.WithFaults())
	instance.Faults.RefuseCustody(pkcs11.CKR_FUNCTION_NOT_SUPPORTED)
	report, err := hsm.ProbeToken(t.Context(), instance.Config(), instance.PIN)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"import of a secp256k1 private key", "export under a known AES key"} {
		if got := states(report)[name]; got != hsm.Missing {
			t.Errorf("the probe says of %s: %q", name, got)
		}
	}
}
