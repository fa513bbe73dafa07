package hsm_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/sigild/sigild/hsm"
	"github.com/sigild/sigild/hsm/hsmtest"
)

func TestKeyIDLayout(t *testing.T) {
	installation := [16]byte{0xaa, 15: 0xbb}
	want := append(installation[:], 10, 0x01, 0x02, 0x03, 0x04)
	if got := hsm.KeyID(installation, hsm.Policy, 0x01020304); !bytes.Equal(got, want) {
		t.Errorf("KeyID: %x, want %x", got, want)
	}
}

// The codes are part of the format on the token.
func TestPurposeCodes(t *testing.T) {
	want := []string{"wrap", "wrap-secret", "wrap-export", "wrap-export-secret", "wrap-transit",
		"pin", "record", "identity", "audit", "policy", "probe"}
	for i, p := range hsm.Purposes() {
		if int(p) != i+1 || p.String() != want[i] {
			t.Errorf("purpose %d is %q with code %d", i, p, byte(p))
		}
	}
	if got := hsm.Purpose(0).String(); got != "purpose(0)" {
		t.Errorf("the zero purpose is %q", got)
	}
}

func TestEnsureKeysReports(t *testing.T) {
	token := hsmtest.New(t).Open(t)
	installation := hsmtest.Installation()
	mech, err := token.NegotiateWrap(t.Context())
	if err != nil || mech != 0x210A {
		t.Fatalf("NegotiateWrap: 0x%x, %v", mech, err)
	}
	first, err := token.EnsureKeys(t.Context(), installation, 1, mech)
	if err != nil || len(first.Created) != 11 || len(first.Kept) != 0 || len(first.Skipped) != 0 {
		t.Fatalf("EnsureKeys: %+v, %v", first, err)
	}
	if first.Enforcement != hsm.EnforcedByToken || len(first.Proofs) == 0 {
		t.Errorf("enforcement: %q", first.Enforcement)
	}
	for _, w := range first.Weaknesses {
		// SoftHSM 2.6.1 cannot unwrap with CKA_MODIFIABLE=false; all else holds.
		if w.Attribute != "unwrapped CKA_MODIFIABLE" {
			t.Errorf("weakness: %v", w)
		}
	}
	second, err := token.EnsureKeys(t.Context(), installation, 1, mech)
	if err != nil || len(second.Kept) != 11 || len(second.Created) != 0 {
		t.Errorf("EnsureKeys again: %+v, %v", second, err)
	}
	if _, err := token.EnsureKeys(t.Context(), installation, 1, pkcs11.CKM_AES_CBC); !errors.Is(err, hsm.ErrNoWrapMechanism) {
		t.Errorf("EnsureKeys with CBC: %v", err)
	}
}

func TestEnsureKeysResumesAfterAnInterruption(t *testing.T) {
	instance := hsmtest.New(t, hsmtest.WithFaults())
	token := instance.Open(t)
	installation := hsmtest.Installation()
	mech, err := token.NegotiateWrap(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	instance.Faults.Fail("C_GenerateKeyPair", pkcs11.CKR_DEVICE_ERROR) // needs a pair for the first wrap key
	if _, err := token.EnsureKeys(t.Context(), installation, 1, mech); err == nil {
		t.Fatal("EnsureKeys worked on a broken device")
	}
	instance.Faults.Clear("C_GenerateKeyPair")
	instance.Faults.Fail("C_CreateObject", pkcs11.CKR_DEVICE_ERROR) // and a secret for the second
	report, err := token.EnsureKeys(t.Context(), installation, 1, mech)
	if err == nil || !slices.Equal(report.Created, []hsm.Purpose{hsm.Wrap}) {
		t.Fatalf("EnsureKeys on a broken device: %+v, %v", report, err)
	}
	if _, err := token.OpenKeys(t.Context(), installation, 1, mech); err == nil {
		t.Error("OpenKeys worked on a broken device")
	}
	instance.Faults.Clear("C_CreateObject")
	if _, err := token.OpenKeys(t.Context(), installation, 1, mech); !errors.Is(err, hsm.ErrKeyMissing) || !strings.Contains(err.Error(), "wrap-secret") {
		t.Errorf("OpenKeys with half of the keys: %v", err)
	}
	report, err = token.EnsureKeys(t.Context(), installation, 1, mech)
	if err != nil || len(report.Created) != 10 || !slices.Equal(report.Kept, []hsm.Purpose{hsm.Wrap}) {
		t.Errorf("EnsureKeys: %+v, %v", report, err)
	}
}

func TestGenerationsAndInstallationsAreApart(t *testing.T) {
	token := hsmtest.New(t).Open(t)
	a, b := hsmtest.Installation(), hsmtest.Installation()
	all := []*hsm.Keys{
		hsmtest.Provision(t, token, a, 1), hsmtest.Provision(t, token, a, 2), hsmtest.Provision(t, token, b, 1),
	}
	if all[1].Generation() != 2 {
		t.Errorf("generation %d", all[1].Generation())
	}
	for _, p := range hsm.Purposes() {
		for i, keys := range all {
			fp, err := keys.MakeFingerprint(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			for j, other := range all {
				err := other.CheckFingerprint(t.Context(), p, fp)
				if (i == j) != (err == nil) || i != j && !errors.Is(err, hsm.ErrKeyChanged) {
					t.Errorf("%v: the fingerprint of %d on %d: %v", p, i, j, err)
				}
			}
		}
	}
}

// A call that fails, once or always, is no proof of another key, which would stop a
// start.
func TestFingerprintsWhileTheTokenFails(t *testing.T) {
	instance, _, keys := faulty(t, 1, 1)
	for _, p := range hsm.Purposes() {
		fp, err := keys.MakeFingerprint(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		for _, function := range []string{"C_UnwrapKey", "C_DecryptInit", "C_Decrypt", "C_Sign"} {
			for what, fail := range map[string]func(string, uint){"once": instance.Faults.FailOnce, "always": instance.Faults.Fail} {
				fail(function, pkcs11.CKR_GENERAL_ERROR)
				if err := keys.CheckFingerprint(t.Context(), p, fp); errors.Is(err, hsm.ErrKeyChanged) {
					t.Errorf("%v: %s fails %s: %v", p, function, what, err)
				}
				instance.Faults.ClearAll()
			}
			if err := keys.CheckFingerprint(t.Context(), p, fp); err != nil {
				t.Errorf("%v: afterwards: %v", p, err)
			}
		}
	}
}

func TestMalformedFingerprints(t *testing.T) {
	_, keys := hsmtest.Provisioned(t)
	for _, p := range hsm.Purposes() {
		good, err := keys.MakeFingerprint(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		for name, fp := range map[string][]byte{
			"nil": nil, "empty parts": {1, 0, 0, 0, 0}, "short": good[:len(good)-1], "long": append(slices.Clone(good), 0),
			"other version": append([]byte{2}, good[1:]...), "huge": make([]byte, 1<<16), "garbage": bytes.Repeat([]byte{1}, 70),
		} {
			if err := keys.CheckFingerprint(t.Context(), p, fp); !errors.Is(err, hsm.ErrKeyChanged) {
				t.Errorf("%v: %s: %v", p, name, err)
			}
		}
	}
	if n, err := keys.SessionObjects(t.Context()); err != nil || n != 0 {
		t.Errorf("%d session objects are left (%v)", n, err)
	}
}

// vandal changes the token behind the daemon's back, with its user PIN.
type vandal struct {
	t       *testing.T
	p       *pkcs11.Ctx
	session pkcs11.SessionHandle
}

// newVandal shares the module and the log-in of an open token.
func newVandal(t *testing.T, module string) vandal {
	t.Helper()
	v := vandal{t: t, p: pkcs11.New(module)}
	t.Cleanup(v.p.Destroy)
	slots, err := v.p.GetSlotList(true)
	if err != nil {
		t.Fatal(err)
	}
	if v.session, err = v.p.OpenSession(slots[0], pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION); err != nil {
		t.Fatal(err)
	}
	return v
}

func (v vandal) remove(id []byte, class uint) {
	v.t.Helper()
	if err := v.p.FindObjectsInit(v.session, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_ID, id), pkcs11.NewAttribute(pkcs11.CKA_CLASS, class)}); err != nil {
		v.t.Fatal(err)
	}
	found, _, err := v.p.FindObjects(v.session, 4)
	if err != nil || len(found) != 1 {
		v.t.Fatalf("%d objects found, %v", len(found), err)
	}
	if err := errors.Join(v.p.FindObjectsFinal(v.session), v.p.DestroyObject(v.session, found[0])); err != nil {
		v.t.Fatal(err)
	}
}

// plant creates a secret key of a known value.
func (v vandal) plant(id []byte, keyType, usage uint) {
	v.t.Helper()
	value := make([]byte, 32)
	_, _ = rand.Read(value)
	_, err := v.p.CreateObject(v.session, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, keyType),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
		pkcs11.NewAttribute(usage, true), pkcs11.NewAttribute(pkcs11.CKA_ID, id),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE, value)})
	if err != nil {
		v.t.Fatal(err)
	}
}

// generate makes a secret key in the token with these attributes, as a thief
// would who wants it to look right.
func (v vandal) generate(id []byte, mech uint, attributes ...*pkcs11.Attribute) {
	v.t.Helper()
	template := append([]*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32), pkcs11.NewAttribute(pkcs11.CKA_ID, id)}, attributes...)
	if _, err := v.p.GenerateKey(v.session, mechanism(mech), template); err != nil {
		v.t.Fatal(err)
	}
}

func TestOpenKeysStopsAtATamperedToken(t *testing.T) {
	yes := func(kind uint) *pkcs11.Attribute { return pkcs11.NewAttribute(kind, true) }
	no := func(kind uint) *pkcs11.Attribute { return pkcs11.NewAttribute(kind, false) }
	noUsage := []*pkcs11.Attribute{no(pkcs11.CKA_ENCRYPT), no(pkcs11.CKA_DECRYPT), no(pkcs11.CKA_VERIFY),
		no(pkcs11.CKA_WRAP), no(pkcs11.CKA_UNWRAP), no(pkcs11.CKA_DERIVE)}
	for name, tc := range map[string]struct {
		purpose hsm.Purpose
		tamper  func(v vandal, id []byte)
		want    error
		says    string
	}{
		"missing secret key": {hsm.Record, func(v vandal, id []byte) { v.remove(id, pkcs11.CKO_SECRET_KEY) }, hsm.ErrKeyMissing, "record"},
		"half a pair: public gone": {hsm.Audit, func(v vandal, id []byte) { v.remove(id, pkcs11.CKO_PUBLIC_KEY) },
			hsm.ErrKeyMissing, "audit has only its private key"},
		"half a pair: private gone": {hsm.Audit, func(v vandal, id []byte) { v.remove(id, pkcs11.CKO_PRIVATE_KEY) },
			hsm.ErrKeyMissing, "audit has only its public key"},
		"duplicate": {hsm.PIN, func(v vandal, id []byte) {
			v.generate(id, pkcs11.CKM_GENERIC_SECRET_KEY_GEN, yes(pkcs11.CKA_SIGN))
		}, hsm.ErrKeyDuplicate, "pin"},
		"planted beside": {hsm.Wrap, func(v vandal, id []byte) { v.plant(id, pkcs11.CKK_AES, pkcs11.CKA_WRAP) }, hsm.ErrKeyDuplicate, "wrap"},
		"planted in place": {hsm.PIN, func(v vandal, id []byte) {
			v.remove(id, pkcs11.CKO_SECRET_KEY)
			v.plant(id, pkcs11.CKK_GENERIC_SECRET, pkcs11.CKA_SIGN)
		}, hsm.ErrKeyAttributes, "CKA_LOCAL"},
		"another class": {hsm.Identity, func(v vandal, id []byte) { v.plant(id, pkcs11.CKK_AES, pkcs11.CKA_ENCRYPT) }, hsm.ErrKeyDuplicate, "another class"},
		"extractable": {hsm.PIN, func(v vandal, id []byte) {
			v.remove(id, pkcs11.CKO_SECRET_KEY)
			v.generate(id, pkcs11.CKM_GENERIC_SECRET_KEY_GEN, append(noUsage, yes(pkcs11.CKA_SENSITIVE), yes(pkcs11.CKA_EXTRACTABLE))...)
		}, hsm.ErrKeyAttributes, "CKA_EXTRACTABLE"},
		"not sensitive": {hsm.PIN, func(v vandal, id []byte) {
			v.remove(id, pkcs11.CKO_SECRET_KEY)
			v.generate(id, pkcs11.CKM_GENERIC_SECRET_KEY_GEN, append(noUsage, no(pkcs11.CKA_SENSITIVE), no(pkcs11.CKA_EXTRACTABLE))...)
		}, hsm.ErrKeyAttributes, "CKA_SENSITIVE"},
		"wrap key that decrypts": {hsm.Wrap, func(v vandal, id []byte) {
			v.remove(id, pkcs11.CKO_SECRET_KEY)
			v.generate(id, pkcs11.CKM_AES_KEY_GEN, yes(pkcs11.CKA_SENSITIVE), no(pkcs11.CKA_EXTRACTABLE), no(pkcs11.CKA_ENCRYPT),
				yes(pkcs11.CKA_DECRYPT), no(pkcs11.CKA_SIGN), no(pkcs11.CKA_VERIFY), yes(pkcs11.CKA_WRAP), yes(pkcs11.CKA_UNWRAP))
		}, hsm.ErrKeyAttributes, "CKA_DECRYPT"},
		"wrong type": {hsm.Record, func(v vandal, id []byte) {
			v.remove(id, pkcs11.CKO_SECRET_KEY)
			v.generate(id, pkcs11.CKM_AES_KEY_GEN, yes(pkcs11.CKA_SENSITIVE), no(pkcs11.CKA_EXTRACTABLE))
		}, hsm.ErrKeyAttributes, "CKA_KEY_TYPE"},
	} {
		t.Run(name, func(t *testing.T) {
			instance := hsmtest.New(t)
			token := instance.Open(t)
			installation := hsmtest.Installation()
			keys := hsmtest.Provision(t, token, installation, 1)
			tc.tamper(newVandal(t, instance.Module), hsm.KeyID(installation, tc.purpose, 1))
			_, err := token.OpenKeys(t.Context(), installation, 1, keys.Mechanism())
			if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("OpenKeys: %v; want %v with %q", err, tc.want, tc.says)
			}
			if tc.says != "record" { // a key that is just gone is made again
				_, err = token.EnsureKeys(t.Context(), installation, 1, keys.Mechanism())
				if !errors.Is(err, tc.want) {
					t.Errorf("EnsureKeys: %v", err)
				}
			}
		})
	}
}

// A wrap key without the unwrap template looks right in every attribute that
// can be read; only trying it shows that it lets keys out.
func TestWrapKeyWithoutItsTemplateIsFoundOut(t *testing.T) {
	instance := hsmtest.New(t)
	token := instance.Open(t)
	installation := hsmtest.Installation()
	keys := hsmtest.Provision(t, token, installation, 1)
	id := hsm.KeyID(installation, hsm.Wrap, 1)
	fp, err := keys.MakeFingerprint(t.Context(), hsm.Wrap)
	if err != nil {
		t.Fatal(err)
	}
	v := newVandal(t, instance.Module)
	v.remove(id, pkcs11.CKO_SECRET_KEY)
	off := func(kind uint) *pkcs11.Attribute { return pkcs11.NewAttribute(kind, false) }
	v.generate(id, pkcs11.CKM_AES_KEY_GEN, pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true), off(pkcs11.CKA_EXTRACTABLE),
		off(pkcs11.CKA_ENCRYPT), off(pkcs11.CKA_DECRYPT), off(pkcs11.CKA_SIGN), off(pkcs11.CKA_VERIFY),
		pkcs11.NewAttribute(pkcs11.CKA_WRAP, true), pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, true),
		off(pkcs11.CKA_DERIVE), off(pkcs11.CKA_MODIFIABLE), off(pkcs11.CKA_COPYABLE))
	swapped, err := token.OpenKeys(t.Context(), installation, 1, keys.Mechanism())
	if err != nil {
		t.Fatal(err)
	}
	if got := swapped.Enforcement(); got != hsm.EnforcedByDaemon {
		t.Errorf("enforcement is %q", got)
	}
	if err := swapped.CheckFingerprint(t.Context(), hsm.Wrap, fp); !errors.Is(err, hsm.ErrKeyChanged) {
		t.Errorf("CheckFingerprint: %v", err)
	}
	if n, err := swapped.SessionObjects(t.Context()); err != nil || n != 0 {
		t.Errorf("%d session objects are left (%v)", n, err)
	}
}

func TestPurposesAreNotMixedUp(t *testing.T) {
	_, keys := hsmtest.Provisioned(t)
	root := newRoot(t, keys)
	secret, err := keys.ImportSecret(t.Context(), make([]byte, 64))
	if err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"HMAC with wrap":         second(keys.HMAC(t.Context(), hsm.Wrap, nil)),
		"HMAC with identity":     second(keys.HMAC(t.Context(), hsm.Identity, nil)),
		"HMAC with none":         second(keys.HMAC(t.Context(), 0, nil)),
		"wrap with pin":          second(keys.Wrap(t.Context(), hsm.PIN, root)),
		"wrap with transit":      second(keys.Wrap(t.Context(), hsm.WrapTransit, root)),
		"wrap root as secret":    second(keys.Wrap(t.Context(), hsm.WrapSecret, root)),
		"wrap secret as root":    second(keys.Wrap(t.Context(), hsm.Wrap, secret)),
		"unwrap with record":     second(keys.Unwrap(t.Context(), hsm.Record, []byte{1})),
		"sign with a secret":     second(keys.SignECDSA(t.Context(), secret, [32]byte{1})),
		"HMAC with a root":       keys.HMACSHA512(t.Context(), root, nil, new([64]byte)),
		"fingerprint of nothing": second(keys.MakeFingerprint(t.Context(), 99)),
	} {
		if !errors.Is(err, hsm.ErrPurpose) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }
