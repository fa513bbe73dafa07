package hsm

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"fmt"
	"slices"

	"github.com/miekg/pkcs11"
)

// longLived is a long-lived key as found on the token.
type longLived struct {
	secret objectHandle // the secret or private key
	public objectHandle // pairs only
	point  []byte       // pairs only, 65 bytes, proven to belong to secret
}

// ecdsa returns the public key of a P-256 pair.
func (l longLived) ecdsa() (*ecdsa.PublicKey, error) {
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), l.point)
	if err != nil {
		return nil, fmt.Errorf("hsm: the token's public key is not a P-256 point: %w", ErrTokenAnswer)
	}
	return key, nil
}

// owner is what a key id is made of, without the purpose.
type owner struct {
	installation [16]byte
	generation   uint32
}

func (o owner) id(p Purpose) []byte { return KeyID(o.installation, p, o.generation) }

// locate finds the objects of a purpose by CKA_ID and sorts them by class. It
// returns ErrKeyMissing when there is none, and an error that says what to do
// when there are too many or only half a pair.
func (s *session) locate(o owner, spec keySpec) (longLived, error) {
	var l longLived
	found, err := s.find(template{raw(pkcs11.CKA_ID, o.id(spec.purpose))})
	if err != nil {
		return l, err
	}
	for _, h := range found {
		b, err := s.read(h, pkcs11.CKA_CLASS)
		if err != nil {
			return l, err
		}
		if err := l.add(h, b, spec); err != nil {
			return l, err
		}
	}
	if len(found) == 0 {
		return l, fmt.Errorf("%w: %v (CKA_ID %x)", ErrKeyMissing, spec.purpose, o.id(spec.purpose))
	}
	return l, l.whole(o, spec)
}

// add sorts one object in. Any object beside the expected ones is an error: it
// may have been planted.
func (l *longLived) add(h objectHandle, class []byte, spec keySpec) error {
	place := &l.secret
	switch {
	case bytes.Equal(class, ulong(nil, spec.class())):
	case spec.isPair() && bytes.Equal(class, ulong(nil, pkcs11.CKO_PUBLIC_KEY)):
		place = &l.public
	default:
		return fmt.Errorf("%w: %v: an object of another class (0x%x) has its key id: find out who made it and delete it",
			ErrKeyDuplicate, spec.purpose, class)
	}
	if *place != 0 {
		return fmt.Errorf("%w: %v: find out who made the second one; nothing was changed", ErrKeyDuplicate, spec.purpose)
	}
	*place = h
	return nil
}

// whole reports half a pair, as an interrupted or manual deletion leaves it.
func (l longLived) whole(o owner, spec keySpec) error {
	missing, left := "public", "private"
	if l.secret == 0 {
		missing, left = left, missing
	}
	if l.secret != 0 && (l.public != 0 || !spec.isPair()) {
		return nil
	}
	return fmt.Errorf("%w: %v has only its %s key on the token: restore the %s key, or if the key was never used delete the object with CKA_ID %x and provision again",
		ErrKeyMissing, spec.purpose, left, missing, o.id(spec.purpose))
}

// expected lists the attributes that a start insists on.
func (k keySpec) expected() template {
	t := template{
		number(pkcs11.CKA_CLASS, k.class()),
		number(pkcs11.CKA_KEY_TYPE, k.keyType()),
		boolean(pkcs11.CKA_TOKEN, true),
		boolean(pkcs11.CKA_PRIVATE, true),
		boolean(pkcs11.CKA_SENSITIVE, true),
		boolean(pkcs11.CKA_EXTRACTABLE, false),
		boolean(pkcs11.CKA_LOCAL, true),
		boolean(pkcs11.CKA_ALWAYS_SENSITIVE, true),
		boolean(pkcs11.CKA_NEVER_EXTRACTABLE, true),
		number(pkcs11.CKA_KEY_GEN_MECHANISM, k.generation()),
	}
	if k.isPair() {
		t = append(t, raw(pkcs11.CKA_EC_PARAMS, k.curve()))
	} else {
		t = append(t, number(pkcs11.CKA_VALUE_LEN, 32))
	}
	return append(t, k.usages()...)
}

// Weakness is an optional protection that a key does not have.
type Weakness struct {
	Purpose   Purpose
	Attribute string // as in "CKA_MODIFIABLE"
}

// String names both.
func (w Weakness) String() string { return fmt.Sprintf("%v: %s", w.Purpose, w.Attribute) }

// inspect checks that the object is what provisioning makes. It returns the
// optional protections that are not there.
func (s *session) inspect(l *longLived, spec keySpec, mech uint) ([]Weakness, error) {
	for _, want := range spec.expected() {
		if err := s.insist(l.secret, spec, want); err != nil {
			return nil, err
		}
	}
	if spec.isPair() {
		if err := s.inspectPublic(l, spec); err != nil {
			return nil, err
		}
	}
	return s.weaknesses(l.secret, spec, mech), nil
}

// insist compares one attribute.
func (s *session) insist(h objectHandle, spec keySpec, want attribute) error {
	got, err := s.read(h, want.kind)
	if want.kind == pkcs11.CKA_SIGN_RECOVER && codeOf(err) == pkcs11.CKR_ATTRIBUTE_TYPE_INVALID {
		return nil // a usage of RSA keys that tokens may leave out of others
	}
	if class := classOf(err); err != nil && class != GiveUp {
		return err
	}
	if err != nil || !bytes.Equal(got, want.value) {
		return fmt.Errorf("%w: %v: %s is 0x%x and must be 0x%x: the key was planted or changed",
			ErrKeyAttributes, spec.purpose, attributeName(want.kind), got, want.value)
	}
	return nil
}

// inspectPublic checks the public half and proves that it belongs to the
// private one.
func (s *session) inspectPublic(l *longLived, spec keySpec) error {
	for _, want := range []attribute{
		number(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_EC),
		boolean(pkcs11.CKA_TOKEN, true),
		boolean(pkcs11.CKA_LOCAL, true),
		raw(pkcs11.CKA_EC_PARAMS, spec.curve()),
	} {
		if err := s.insist(l.public, spec, want); err != nil {
			return err
		}
	}
	point, err := s.point(l.public)
	if err != nil {
		return err
	}
	l.point = point
	if err := s.proveHalves(*l, spec); err != nil {
		return fmt.Errorf("%w: %v: the public key does not belong to the private one: %w", ErrKeyAttributes, spec.purpose, err)
	}
	return nil
}

// proveHalves signs a random digest and verifies it with the public half.
func (s *session) proveHalves(l longLived, spec keySpec) error {
	if spec.kind == secp256k1Kind {
		return s.provePair(l.secret, l.point)
	}
	return s.proveP256(l)
}

// weaknesses reports which of the optional protections the key lacks. It only
// reports: which of them a token can do was decided when the key was made.
func (s *session) weaknesses(h objectHandle, spec keySpec, mech uint) []Weakness {
	var out []Weakness
	for _, want := range spec.secretHalf(mech) {
		if !slices.Contains(optional(), want.kind) || want.kind == pkcs11.CKA_SIGN_RECOVER {
			continue
		}
		got, err := s.read(h, want.kind)
		if err != nil || !bytes.Equal(got, want.value) {
			out = append(out, Weakness{spec.purpose, attributeName(want.kind)})
		}
	}
	return out
}

// absent reports whether locate found nothing at all, so that the key may be
// made. Half a pair is not absent.
func absent(l longLived, err error) bool {
	return errors.Is(err, ErrKeyMissing) && l.secret == 0 && l.public == 0
}
