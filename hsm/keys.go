package hsm

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"fmt"
	"math/big"

	"github.com/miekg/pkcs11"

	"github.com/sigild/sigild/daemon/wipe"
)

// Keys are the long-lived keys of one installation and generation, found and
// checked. The handles are good for as long as the log-in lasts.
type Keys struct {
	token  *Token
	owner  owner
	mech   uint
	epoch  uint64 // of the log-in that the handles belong to
	found  map[Purpose]longLived
	wraps  map[Purpose]wrapKey
	signer map[Purpose]*keySigner

	// What the token takes of the optional attributes of session objects.
	rootDrop, secretDrop drop
	custody              custody

	enforcement string
	proofs      []Proof
	weaknesses  []Weakness
}

// wrapKey is what is known of a wrap key beside its handle.
type wrapKey struct {
	spec     keySpec
	template template // with which it unwraps
	// control is a throw-away key wrapped under it. It tells a bad wrapped key
	// from a bad token: the control always unwraps.
	control []byte
}

// OpenKeys finds the keys and checks each of them: it exists exactly once
// (ErrKeyMissing, ErrKeyDuplicate), was generated in this token and was never
// readable, has its own usage and no other, and its class, type, size and
// mechanism (ErrKeyAttributes); public keys are proven to belong to their
// private ones. The wrap keys' unwrap templates are tried out, and so is whether
// keys can come in and go out (see CanImport, CanExport). mech is the mechanism
// that the keys were provisioned with.
//
// WrapTransit may be missing: only tokens with AES-GCM have it (see Has).
func (t *Token) OpenKeys(ctx context.Context, installation [16]byte, generation uint32, mech uint) (*Keys, error) {
	if !t.loggedIn.Load() {
		return nil, ErrNotLoggedIn
	}
	k := &Keys{token: t, owner: owner{installation, generation}, mech: mech, epoch: t.epoch.Load(),
		found: map[Purpose]longLived{}, wraps: map[Purpose]wrapKey{}, signer: map[Purpose]*keySigner{}}
	for _, p := range Purposes() {
		if err := k.openKey(ctx, p); err != nil {
			return nil, err
		}
	}
	if err := k.learn(ctx); err != nil {
		return nil, err
	}
	if err := k.learnCustody(ctx); err != nil {
		return nil, err
	}
	k.enforcement = judge(k.proofs)
	return k, nil
}

// opened is what one session finds out about one key.
type opened struct {
	key        longLived
	weaknesses []Weakness
	wrap       wrapKey
	proofs     []Proof
}

func (k *Keys) openKey(ctx context.Context, p Purpose) error {
	spec, _ := specOf(p)
	got, err := do(ctx, k.token.keepers, "open the key "+p.String(), work[opened]{
		run: func(s *session) (opened, error) { return s.openKey(k.owner, spec, k.mech) },
	})
	if p == WrapTransit && absent(got.key, err) {
		return nil
	}
	if err != nil {
		return err
	}
	k.found[p] = got.key
	k.weaknesses = append(k.weaknesses, got.weaknesses...)
	k.proofs = append(k.proofs, got.proofs...)
	switch spec.kind {
	case wrapKind:
		k.wraps[p] = got.wrap
	case p256Kind:
		return k.addSigner(p, got.key)
	}
	return nil
}

func (s *session) openKey(o owner, spec keySpec, mech uint) (opened, error) {
	l, err := s.locate(o, spec)
	if err != nil {
		return opened{key: l}, err
	}
	weak, err := s.inspect(&l, spec, mech)
	if err != nil {
		return opened{}, err
	}
	out := opened{key: l, weaknesses: weak}
	if spec.kind == wrapKind {
		err = s.scratch(func(x *session) error { return x.openWrapKey(&out, spec, mech) })
	}
	return out, err
}

// openWrapKey finds the template with which the key unwraps, and proves what it
// refuses. For the export keys there is nothing to refuse but the rest of the
// template: what they unwrap is meant to be wrapped again.
func (s *session) openWrapKey(out *opened, spec keySpec, mech uint) error {
	sm, err := s.newSample(spec.subject)
	if err != nil {
		return err
	}
	full := spec.subject.object(spec.exportable)
	control, d, err := s.roundTrip(mech, out.key.secret, sm, full)
	if destroyErr := s.destroy(sm.handle); err == nil {
		err = destroyErr
	}
	if err != nil {
		return fmt.Errorf("hsm: the key %v does not wrap and unwrap: %w", spec.purpose, err)
	}
	out.wrap = wrapKey{spec, full.dropping(d), control}
	for _, kind := range d.kinds() {
		out.weaknesses = append(out.weaknesses, Weakness{spec.purpose, "unwrapped " + attributeName(kind)})
	}
	if !spec.exportable {
		out.proofs, err = s.prove(spec, out.key.secret, mech, out.wrap.template)
	}
	return err
}

// learn finds out which optional attributes the token takes for new session
// objects.
func (k *Keys) learn(ctx context.Context) error {
	for _, sub := range []subject{privateKey, secretKey} {
		d, err := do(ctx, k.token.keepers, "learn the token's attributes", work[drop]{
			run: func(s *session) (d drop, err error) {
				err = s.scratch(func(x *session) error { d, err = x.learn(sub); return err })
				return d, err
			},
		})
		if err != nil {
			return fmt.Errorf("hsm: make a throw-away %v: %w", sub, err)
		}
		if sub == privateKey {
			k.rootDrop = d
		} else {
			k.secretDrop = d
		}
	}
	return nil
}

func (s *session) learn(sub subject) (drop, error) {
	return climb(sub.object(true).ladder(), func(d drop) error {
		h, _, err := s.makeSample(sub, d)
		if err != nil {
			return err
		}
		return s.destroy(h)
	})
}

// Enforcement says who keeps unwrapped keys in the token: EnforcedByToken,
// EnforcedInPart or EnforcedByDaemon. It was found by trying, when the keys were
// opened.
func (k *Keys) Enforcement() string { return k.enforcement }

// Proofs returns what the enforcement was judged by.
func (k *Keys) Proofs() []Proof { return append([]Proof(nil), k.proofs...) }

// Weaknesses returns the optional protections that the keys do not have.
func (k *Keys) Weaknesses() []Weakness { return append([]Weakness(nil), k.weaknesses...) }

// Generation returns the generation of the keys.
func (k *Keys) Generation() uint32 { return k.owner.generation }

// Mechanism returns the wrap mechanism.
func (k *Keys) Mechanism() uint { return k.mech }

// Has reports whether the token has a key of this purpose.
func (k *Keys) Has(p Purpose) bool {
	_, ok := k.found[p]
	return ok
}

// usable reports whether the handles are still good.
func (k *Keys) usable() error {
	if !k.token.loggedIn.Load() || k.token.epoch.Load() != k.epoch {
		return ErrNotLoggedIn
	}
	return nil
}

// key returns a key of one of these kinds.
func (k *Keys) key(p Purpose, kinds ...kind) (longLived, error) {
	spec, _ := specOf(p)
	match := false
	for _, want := range kinds {
		match = match || spec.kind == want
	}
	if !match {
		return longLived{}, fmt.Errorf("%w: %v", ErrPurpose, p)
	}
	l, ok := k.found[p]
	if !ok {
		return longLived{}, fmt.Errorf("%w: %v", ErrKeyMissing, p)
	}
	return l, k.usable()
}

// maxMessage bounds the input of one HMAC in bytes.
const maxMessage = 1 << 20

// HMAC is HMACInto for a result that is not secret.
func (k *Keys) HMAC(ctx context.Context, p Purpose, data []byte) (mac [32]byte, err error) {
	err = k.HMACInto(ctx, p, data, &mac)
	return mac, err
}

// HMACInto computes HMAC-SHA256 of data, at most 1 MiB, under the key PIN or
// Record. Any other purpose is ErrPurpose. data stays the caller's to wipe; so is
// mac, which stays as it was after an error. No other copy is left.
func (k *Keys) HMACInto(ctx context.Context, p Purpose, data []byte, mac *[32]byte) error {
	l, err := k.key(p, macKind)
	if err != nil {
		return err
	}
	return k.token.mac(ctx, pkcs11.CKM_SHA256_HMAC, l.secret, data, mac[:])
}

// mac computes an HMAC on a signing session and copies it to out, which stays
// as it is after an error. No other copy is left.
func (t *Token) mac(ctx context.Context, mech uint, key objectHandle, data, out []byte) error {
	if len(data) > maxMessage {
		return fmt.Errorf("hsm: an HMAC over %d bytes: the limit is %d", len(data), maxMessage)
	}
	secret, size := newSecret(data), len(out)
	got, err := do(ctx, t.signing, "compute an HMAC", work[[]byte]{
		run: func(s *session) ([]byte, error) {
			got := make([]byte, size)
			return got, s.sign(mech, key, secret.bytes(), got)
		},
		discard: func(_ *session, got []byte) { clear(got) },
		release: secret.free,
	})
	if err != nil {
		return err
	}
	defer clear(got)
	wipe.Do(func() { copy(out, got) })
	return nil
}

// Public returns the public key of Identity, Audit or Policy.
func (k *Keys) Public(p Purpose) (*ecdsa.PublicKey, error) {
	spec, _ := specOf(p)
	l, ok := k.found[p]
	if spec.kind != p256Kind || !ok {
		return nil, fmt.Errorf("%w: %v", ErrPurpose, p)
	}
	return l.ecdsa()
}

// Signer returns a signer of SHA-256 digests with Identity, Audit or Policy. It
// verifies each signature before it returns it. It is safe for concurrent use.
func (k *Keys) Signer(p Purpose) (crypto.Signer, error) {
	s, ok := k.signer[p]
	if !ok {
		return nil, fmt.Errorf("%w: %v", ErrPurpose, p)
	}
	return s, nil
}

func (k *Keys) addSigner(p Purpose, l longLived) error {
	public, err := l.ecdsa()
	if err != nil {
		return err
	}
	k.signer[p] = &keySigner{keys: k, id: k.owner.id(p), public: public}
	return nil
}

// proveP256 signs a random digest and verifies it with the public half.
func (s *session) proveP256(l longLived) error {
	public, err := l.ecdsa()
	if err != nil {
		return err
	}
	var digest [sha256.Size]byte
	if _, err := rand.Read(digest[:]); err != nil {
		return err
	}
	raw, err := s.signECDSA(l.secret, digest)
	if err != nil {
		return err
	}
	der, err := asn1.Marshal(struct{ R, S *big.Int }{
		new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])})
	if err != nil || !ecdsa.VerifyASN1(public, digest[:], der) {
		return fmt.Errorf("hsm: with a P-256 key: %w", ErrWrongSignature)
	}
	return nil
}

// ProbeSign signs a random digest with the secp256k1 key Probe, the way wallets
// are signed with, and verifies the signature. It is the health probe.
func (k *Keys) ProbeSign(ctx context.Context) error {
	l, err := k.key(Probe, secp256k1Kind)
	if err != nil {
		return err
	}
	_, err = do(ctx, k.token.signing, "sign for the health probe", work[struct{}]{
		run: func(s *session) (struct{}, error) { return struct{}{}, s.provePair(l.secret, l.point) },
	})
	return err
}
