package main

import (
	"crypto/ecdsa"
	"crypto/rand"
	"encoding/binary"
	"math/big"
	"slices"
	"testing"

	secp "github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/miekg/pkcs11"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/hsm"
)

// thief is who has everything of a wallet but the token's consent: the token in
// hand, its user PIN, and the wallet's wrapped keys out of a record that was
// opened with the wallet's PIN, the token and the TPM. It speaks PKCS#11 by
// itself.
type thief struct {
	p       *pkcs11.Ctx
	session pkcs11.SessionHandle
	wrap    pkcs11.ObjectHandle
	mech    uint
	blob    []byte
}

func attribute(kind uint, value any) *pkcs11.Attribute { return pkcs11.NewAttribute(kind, value) }

// booleans gives an attribute for each kind, true for those that are listed in on.
func booleans(kinds []uint, on ...uint) (list []*pkcs11.Attribute) {
	for _, k := range kinds {
		list = append(list, attribute(k, slices.Contains(on, k)))
	}
	return list
}

func mechanisms(m uint) []byte { return binary.NativeEndian.AppendUint64(nil, uint64(m)) }

// rootTemplate is how sigild unwraps an account's root.
func rootTemplate() []*pkcs11.Attribute {
	return append([]*pkcs11.Attribute{
		attribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), attribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_EC),
		attribute(pkcs11.CKA_ALLOWED_MECHANISMS, mechanisms(pkcs11.CKM_ECDSA)),
	}, append(booleans([]uint{pkcs11.CKA_TOKEN, pkcs11.CKA_PRIVATE, pkcs11.CKA_SENSITIVE, pkcs11.CKA_EXTRACTABLE,
		pkcs11.CKA_COPYABLE}, pkcs11.CKA_PRIVATE, pkcs11.CKA_SENSITIVE),
		booleans([]uint{pkcs11.CKA_DECRYPT, pkcs11.CKA_SIGN, pkcs11.CKA_SIGN_RECOVER, pkcs11.CKA_UNWRAP,
			pkcs11.CKA_DERIVE}, pkcs11.CKA_SIGN)...)...)
}

// secretTemplate is how sigild unwraps a wallet's derivation key.
func secretTemplate() []*pkcs11.Attribute {
	return append([]*pkcs11.Attribute{
		attribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), attribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_GENERIC_SECRET),
		attribute(pkcs11.CKA_ALLOWED_MECHANISMS, mechanisms(pkcs11.CKM_SHA512_HMAC)),
	}, append(booleans([]uint{pkcs11.CKA_TOKEN, pkcs11.CKA_PRIVATE, pkcs11.CKA_SENSITIVE, pkcs11.CKA_EXTRACTABLE,
		pkcs11.CKA_COPYABLE}, pkcs11.CKA_PRIVATE, pkcs11.CKA_SENSITIVE),
		booleans([]uint{pkcs11.CKA_ENCRYPT, pkcs11.CKA_DECRYPT, pkcs11.CKA_SIGN, pkcs11.CKA_VERIFY, pkcs11.CKA_WRAP,
			pkcs11.CKA_UNWRAP, pkcs11.CKA_DERIVE}, pkcs11.CKA_SIGN)...)...)
}

// with gives the template with these attributes in place of its own.
func with(template []*pkcs11.Attribute, changed ...*pkcs11.Attribute) []*pkcs11.Attribute {
	kept := slices.DeleteFunc(slices.Clone(template), func(a *pkcs11.Attribute) bool {
		return slices.ContainsFunc(changed, func(c *pkcs11.Attribute) bool { return c.Type == a.Type })
	})
	return append(kept, changed...)
}

// without gives the template without an attribute: the token's default counts.
func without(template []*pkcs11.Attribute, kind uint) []*pkcs11.Attribute {
	return slices.DeleteFunc(slices.Clone(template), func(a *pkcs11.Attribute) bool { return a.Type == kind })
}

// thefts are the ways to unwrap a key so that it could be read, kept or used
// for something else.
func thefts(right []*pkcs11.Attribute) map[string][]*pkcs11.Attribute {
	readable := []*pkcs11.Attribute{attribute(pkcs11.CKA_SENSITIVE, false), attribute(pkcs11.CKA_EXTRACTABLE, true)}
	return map[string][]*pkcs11.Attribute{
		"CKA_SENSITIVE=false":      with(right, readable[0]),
		"CKA_EXTRACTABLE=true":     with(right, readable[1]),
		"both":                     with(right, readable...),
		"CKA_TOKEN=true":           with(right, attribute(pkcs11.CKA_TOKEN, true)),
		"CKA_PRIVATE=false":        with(right, attribute(pkcs11.CKA_PRIVATE, false)),
		"CKA_DERIVE=true":          with(right, attribute(pkcs11.CKA_DERIVE, true)),
		"CKA_COPYABLE=true":        with(right, attribute(pkcs11.CKA_COPYABLE, true)),
		"no CKA_SENSITIVE":         without(right, pkcs11.CKA_SENSITIVE),
		"no CKA_EXTRACTABLE":       without(right, pkcs11.CKA_EXTRACTABLE),
		"no CKA_ALLOWED_MECHANISM": without(right, pkcs11.CKA_ALLOWED_MECHANISMS),
		"a readable secret": append(slices.Clone(readable), attribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
			attribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_GENERIC_SECRET)),
		"a readable EC key": append(slices.Clone(readable), attribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY),
			attribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_EC)),
		"a readable RSA key": append(slices.Clone(readable), attribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY),
			attribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_RSA)),
		"a data object": {attribute(pkcs11.CKA_CLASS, pkcs11.CKO_DATA)},
	}
}

func TestTokenRefusesToGiveAWalletsKeysOut(t *testing.T) {
	h, c := serving(t)
	w := create(t, c, "1")
	signAll(t, c, w, 0)
	stop(t, h)
	v := openVault(t, h)
	p := v.record(t, w.WalletID)
	wrapped, err := unseal(t, p, rightPIN, v.factors)
	if err != nil {
		t.Fatal(err)
	}
	v.close(t)
	for _, key := range []struct {
		name     string
		purpose  hsm.Purpose
		blob     []byte
		template []*pkcs11.Attribute
		use      func(*testing.T, *thief, pkcs11.ObjectHandle, *seal.Parsed)
	}{
		{"root", hsm.Wrap, wrapped.Roots[0], rootTemplate(), signsAsRoot},
		{"derivation", hsm.WrapSecret, wrapped.Derivation, secretTemplate(), computesHMAC},
	} {
		t.Run(key.name, func(t *testing.T) {
			l := breakIn(t, h, hsm.KeyID(v.doc.ID, key.purpose, 1), uint(p.Header.Mechanism), key.blob)
			for name, template := range thefts(key.template) {
				if _, err := l.unwrap(template); err == nil {
					t.Errorf("%s: the token unwraps the key", name)
				}
			}
			object, err := l.unwrap(key.template)
			if err != nil {
				t.Fatalf("the thief's own method does not work, so its failures prove nothing: %v", err)
			}
			key.use(t, l, object, p)
			l.abuse(t, object)
		})
	}
}

// breakIn opens the token and finds the wrap key.
func breakIn(t *testing.T, h *daemontest.Host, id []byte, mech uint, blob []byte) *thief {
	t.Helper()
	l := login(t, h)
	t.Cleanup(l.leave)
	l.mech, l.blob = mech, blob
	l.wrap = l.find(t, attribute(pkcs11.CKA_ID, id))
	return l
}

// login opens the token with its user PIN. The environment is the host's.
func login(t *testing.T, h *daemontest.Host) *thief {
	t.Helper()
	l := &thief{p: pkcs11.New(daemontest.Module)}
	if err := l.p.Initialize(); err != nil {
		t.Fatal(err)
	}
	slots, err := l.p.GetSlotList(true)
	if err != nil || len(slots) == 0 {
		t.Fatalf("%d slots, %v", len(slots), err)
	}
	if l.session, err = l.p.OpenSession(slots[0], pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION); err != nil {
		t.Fatal(err)
	}
	if err := l.p.Login(l.session, pkcs11.CKU_USER, string(h.TokenPIN())); err != nil {
		t.Fatal(err)
	}
	return l
}

// leave lets go of the module, so that another one can be loaded.
func (l *thief) leave() {
	_ = l.p.Finalize()
	l.p.Destroy()
}

// find gives the one object that has the attributes.
func (l *thief) find(t *testing.T, attributes ...*pkcs11.Attribute) pkcs11.ObjectHandle {
	t.Helper()
	if err := l.p.FindObjectsInit(l.session, attributes); err != nil {
		t.Fatal(err)
	}
	found, _, err := l.p.FindObjects(l.session, 2)
	if err != nil || len(found) != 1 {
		t.Fatalf("%d objects found, %v", len(found), err)
	}
	if err := l.p.FindObjectsFinal(l.session); err != nil {
		t.Fatal(err)
	}
	return found[0]
}

func (l *thief) unwrap(template []*pkcs11.Attribute) (pkcs11.ObjectHandle, error) {
	return l.p.UnwrapKey(l.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(l.mech, nil)}, l.wrap, l.blob, template)
}

func (l *thief) sign(t *testing.T, object pkcs11.ObjectHandle, mech uint, message []byte) []byte {
	t.Helper()
	if err := l.p.SignInit(l.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(mech, nil)}, object); err != nil {
		t.Fatal(err)
	}
	sum, err := l.p.Sign(l.session, message)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// signsAsRoot proves that the blob is the wallet's root: it signs for the
// record's root point, and not for the account's public key.
func signsAsRoot(t *testing.T, l *thief, object pkcs11.ObjectHandle, p *seal.Parsed) {
	t.Helper()
	digest := make([]byte, 32)
	rand.Read(digest)
	sig := l.sign(t, object, pkcs11.CKM_ECDSA, digest)
	r, s := new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])
	for _, key := range []struct {
		point []byte
		want  bool
	}{{p.Header.Accounts[0].Root, true}, {p.Header.Accounts[0].Public, false}} {
		public, err := secp.ParsePubKey(key.point)
		if err != nil {
			t.Fatal(err)
		}
		if got := ecdsa.Verify(public.ToECDSA(), digest, r, s); got != key.want {
			t.Errorf("the root signs for %x: %v", key.point, got)
		}
	}
}

func computesHMAC(t *testing.T, l *thief, object pkcs11.ObjectHandle, _ *seal.Parsed) {
	t.Helper()
	if sum := l.sign(t, object, pkcs11.CKM_SHA512_HMAC, []byte("message")); len(sum) != 64 {
		t.Errorf("HMAC of %d bytes", len(sum))
	}
}

// abuse tries to get at a key that was unwrapped as sigild does it.
func (l *thief) abuse(t *testing.T, object pkcs11.ObjectHandle) {
	t.Helper()
	set := func(object pkcs11.ObjectHandle, kind uint, value bool) error {
		return l.p.SetAttributeValue(l.session, object, []*pkcs11.Attribute{attribute(kind, value)})
	}
	_, read := l.p.GetAttributeValue(l.session, object, []*pkcs11.Attribute{attribute(pkcs11.CKA_VALUE, nil)})
	_, rewrap := l.p.WrapKey(l.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(l.mech, nil)}, l.wrap, object)
	_, copied := l.p.CopyObject(l.session, object, []*pkcs11.Attribute{attribute(pkcs11.CKA_EXTRACTABLE, true)})
	_, kept := l.p.CopyObject(l.session, object, []*pkcs11.Attribute{attribute(pkcs11.CKA_TOKEN, true)})
	for name, err := range map[string]error{
		"read the value": read, "wrap it again": rewrap, "copy it as extractable": copied, "copy it onto the token": kept,
		"make it readable":          set(object, pkcs11.CKA_SENSITIVE, false),
		"make it extractable":       set(object, pkcs11.CKA_EXTRACTABLE, true),
		"let the wrap key decrypt":  set(l.wrap, pkcs11.CKA_DECRYPT, true),
		"decrypt with the wrap key": l.p.DecryptInit(l.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_ECB, nil)}, l.wrap),
	} {
		if err == nil {
			t.Errorf("%s: the token does it", name)
		}
	}
}
