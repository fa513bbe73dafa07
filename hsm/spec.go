package hsm

import (
	"math/bits"
	"slices"

	"github.com/miekg/pkcs11"
)

// DER object identifiers of the curves, as CKA_EC_PARAMS wants them.
func oidSecp256k1() []byte { return []byte{0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a} } // 1.3.132.0.10
func oidP256() []byte { // 1.2.840.10045.3.1.7
	return []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}
}

// kind is what sort of key a long-lived key is.
type kind byte

const (
	wrapKind kind = iota + 1 // AES-256, wraps and unwraps
	transitKind
	macKind
	p256Kind
	secp256k1Kind
)

// keySpec is what provisioning makes and a start expects for one purpose.
type keySpec struct {
	purpose    Purpose
	kind       kind
	subject    subject // what a wrap key wraps
	exportable bool    // whether what it unwraps may be wrapped again
}

func specOf(p Purpose) (keySpec, bool) {
	switch p {
	case Wrap, WrapExport:
		return keySpec{p, wrapKind, privateKey, p == WrapExport}, true
	case WrapSecret, WrapExportSecret:
		return keySpec{p, wrapKind, secretKey, p == WrapExportSecret}, true
	case WrapTransit:
		return keySpec{purpose: p, kind: transitKind}, true
	case PIN, Record:
		return keySpec{purpose: p, kind: macKind}, true
	case Identity, Audit, Policy:
		return keySpec{purpose: p, kind: p256Kind}, true
	case Probe:
		return keySpec{purpose: p, kind: secp256k1Kind}, true
	}
	return keySpec{}, false
}

func (s keySpec) isPair() bool { return s.kind == p256Kind || s.kind == secp256k1Kind }

// generation returns the mechanism that makes the key.
func (s keySpec) generation() uint {
	switch s.kind {
	case wrapKind, transitKind:
		return pkcs11.CKM_AES_KEY_GEN
	case macKind:
		return pkcs11.CKM_GENERIC_SECRET_KEY_GEN
	}
	return pkcs11.CKM_EC_KEY_PAIR_GEN
}

func (s keySpec) keyType() uint {
	switch s.kind {
	case wrapKind, transitKind:
		return pkcs11.CKK_AES
	case macKind:
		return pkcs11.CKK_GENERIC_SECRET
	}
	return pkcs11.CKK_EC
}

func (s keySpec) curve() []byte {
	if s.kind == p256Kind {
		return oidP256()
	}
	return oidSecp256k1()
}

// class returns the class of the secret half.
func (s keySpec) class() uint {
	if s.isPair() {
		return pkcs11.CKO_PRIVATE_KEY
	}
	return pkcs11.CKO_SECRET_KEY
}

// secretUsages and privateUsages are all usage attributes of their class
// (PKCS#11 v2.40 sections 4.9 and 4.10).
func secretUsages() []uint {
	return []uint{pkcs11.CKA_ENCRYPT, pkcs11.CKA_DECRYPT, pkcs11.CKA_SIGN, pkcs11.CKA_VERIFY,
		pkcs11.CKA_WRAP, pkcs11.CKA_UNWRAP, pkcs11.CKA_DERIVE}
}

func privateUsages() []uint {
	return []uint{pkcs11.CKA_DECRYPT, pkcs11.CKA_SIGN, pkcs11.CKA_SIGN_RECOVER,
		pkcs11.CKA_UNWRAP, pkcs11.CKA_DERIVE}
}

// usages gives every usage attribute of the key: its own true, all others false.
func (s keySpec) usages() template {
	if s.isPair() {
		return usages(privateUsages(), pkcs11.CKA_SIGN)
	}
	switch s.kind {
	case wrapKind:
		return usages(secretUsages(), pkcs11.CKA_WRAP, pkcs11.CKA_UNWRAP)
	case transitKind:
		return usages(secretUsages(), pkcs11.CKA_ENCRYPT, pkcs11.CKA_DECRYPT)
	}
	return usages(secretUsages(), pkcs11.CKA_SIGN)
}

func usages(all []uint, on ...uint) template {
	t := make(template, len(all))
	for i, u := range all {
		t[i] = boolean(u, slices.Contains(on, u))
	}
	return t
}

// allowed returns the only mechanism that the key may be used with.
func (s keySpec) allowed(wrapMechanism uint) uint {
	switch s.kind {
	case wrapKind:
		return wrapMechanism
	case transitKind:
		return pkcs11.CKM_AES_GCM
	case macKind:
		return pkcs11.CKM_SHA256_HMAC
	}
	return pkcs11.CKM_ECDSA
}

// secretHalf is the template of the secret or private key on the token.
func (s keySpec) secretHalf(mech uint) template {
	t := template{
		boolean(pkcs11.CKA_TOKEN, true),
		boolean(pkcs11.CKA_PRIVATE, true),
		boolean(pkcs11.CKA_SENSITIVE, true),
		boolean(pkcs11.CKA_EXTRACTABLE, false),
		boolean(pkcs11.CKA_MODIFIABLE, false),
		boolean(pkcs11.CKA_COPYABLE, false),
		mechanisms(s.allowed(mech)),
	}
	if !s.isPair() {
		t = append(t, number(pkcs11.CKA_VALUE_LEN, 32))
	}
	return append(t, s.usages()...)
}

// publicHalf is the template of a pair's public key on the token.
func (s keySpec) publicHalf() template {
	return template{
		boolean(pkcs11.CKA_TOKEN, true),
		boolean(pkcs11.CKA_PRIVATE, false),
		boolean(pkcs11.CKA_VERIFY, true),
		boolean(pkcs11.CKA_ENCRYPT, false),
		boolean(pkcs11.CKA_WRAP, false),
		boolean(pkcs11.CKA_MODIFIABLE, false),
		boolean(pkcs11.CKA_COPYABLE, false),
		raw(pkcs11.CKA_EC_PARAMS, s.curve()),
	}
}

// named adds what a long-lived key is found and listed by.
func (t template) named(id, name []byte) template {
	return append(slices.Clone(t), raw(pkcs11.CKA_ID, id), raw(pkcs11.CKA_LABEL, name))
}

// drop is a set of optional attributes that are left out of a template.
type drop uint8

// optional lists the attributes that may be left out where a token refuses
// them. They are defence in depth. What keeps a key in the token (SENSITIVE,
// EXTRACTABLE, PRIVATE, TOKEN) and the usages are never left out;
// CKA_SIGN_RECOVER is a usage that only RSA has.
func optional() []uint {
	return []uint{pkcs11.CKA_ALLOWED_MECHANISMS, pkcs11.CKA_COPYABLE, pkcs11.CKA_MODIFIABLE, pkcs11.CKA_SIGN_RECOVER}
}

// kinds returns the attributes in the set.
func (d drop) kinds() []uint {
	var out []uint
	for i, k := range optional() {
		if d&(1<<i) != 0 {
			out = append(out, k)
		}
	}
	return out
}

func (t template) dropping(d drop) template { return t.without(d.kinds()...) }

// ladder returns the sets to try for t: the fewest attributes left out first,
// and only attributes that t has.
func (t template) ladder() []drop {
	var all []drop
	for d := drop(0); d < 1<<len(optional()); d++ {
		if !slices.ContainsFunc(d.kinds(), func(k uint) bool { return !t.has(k) }) {
			all = append(all, d)
		}
	}
	slices.SortStableFunc(all, func(a, b drop) int {
		return bits.OnesCount8(uint8(a)) - bits.OnesCount8(uint8(b))
	})
	return all
}

// climb calls try with one set after the other until the token takes it. An
// error that is not about the template ends it.
func climb(sets []drop, try func(drop) error) (drop, error) {
	var err error
	for _, d := range sets {
		if err = try(d); err == nil || !refusedTemplate(err) {
			return d, err
		}
	}
	return 0, err
}

// attributeNames returns the names of the attributes, for reports.
func attributeName(k uint) string {
	switch k {
	case pkcs11.CKA_CLASS:
		return "CKA_CLASS"
	case pkcs11.CKA_KEY_TYPE:
		return "CKA_KEY_TYPE"
	case pkcs11.CKA_TOKEN:
		return "CKA_TOKEN"
	case pkcs11.CKA_PRIVATE:
		return "CKA_PRIVATE"
	case pkcs11.CKA_SENSITIVE:
		return "CKA_SENSITIVE"
	case pkcs11.CKA_EXTRACTABLE:
		return "CKA_EXTRACTABLE"
	case pkcs11.CKA_ALWAYS_SENSITIVE:
		return "CKA_ALWAYS_SENSITIVE"
	case pkcs11.CKA_NEVER_EXTRACTABLE:
		return "CKA_NEVER_EXTRACTABLE"
	case pkcs11.CKA_LOCAL:
		return "CKA_LOCAL"
	case pkcs11.CKA_KEY_GEN_MECHANISM:
		return "CKA_KEY_GEN_MECHANISM"
	case pkcs11.CKA_MODIFIABLE:
		return "CKA_MODIFIABLE"
	case pkcs11.CKA_COPYABLE:
		return "CKA_COPYABLE"
	case pkcs11.CKA_ALLOWED_MECHANISMS:
		return "CKA_ALLOWED_MECHANISMS"
	case pkcs11.CKA_VALUE_LEN:
		return "CKA_VALUE_LEN"
	case pkcs11.CKA_EC_PARAMS:
		return "CKA_EC_PARAMS"
	case pkcs11.CKA_EC_POINT:
		return "CKA_EC_POINT"
	}
	return usageName(k)
}

func usageName(k uint) string {
	switch k {
	case pkcs11.CKA_ENCRYPT:
		return "CKA_ENCRYPT"
	case pkcs11.CKA_DECRYPT:
		return "CKA_DECRYPT"
	case pkcs11.CKA_SIGN:
		return "CKA_SIGN"
	case pkcs11.CKA_SIGN_RECOVER:
		return "CKA_SIGN_RECOVER"
	case pkcs11.CKA_VERIFY:
		return "CKA_VERIFY"
	case pkcs11.CKA_WRAP:
		return "CKA_WRAP"
	case pkcs11.CKA_UNWRAP:
		return "CKA_UNWRAP"
	case pkcs11.CKA_DERIVE:
		return "CKA_DERIVE"
	case pkcs11.CKA_UNWRAP_TEMPLATE:
		return "CKA_UNWRAP_TEMPLATE"
	}
	return "an attribute"
}
