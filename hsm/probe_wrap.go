package hsm

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

// probeWrapping reports what is wrapped, and what a wrap key refuses to unwrap.
func (t *Token) probeWrapping(ctx context.Context, report *ProbeReport) error {
	mech, err := t.NegotiateWrap(ctx)
	if errors.Is(err, ErrNoWrapMechanism) {
		report.Abilities = append(report.Abilities, ability("wrap mechanism", err))
		return nil
	}
	if err != nil {
		return err
	}
	report.Abilities = append(report.Abilities, Ability{"wrap mechanism", Available, fmt.Sprintf("0x%x", mech)})
	for _, sub := range []subject{privateKey, secretKey} {
		name := "wrap a " + sub.String()
		err := t.try(ctx, report, trial{name, func(s *session) error { return s.tryWrappingAlone(mech, sub) }})
		if err != nil {
			return err
		}
	}
	for _, custody := range custodyTrials(mech) {
		if err := t.try(ctx, report, custody); err != nil {
			return err
		}
	}
	for _, p := range []Purpose{Wrap, WrapSecret} {
		if err := t.probeEnforcement(ctx, report, p, mech); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) tryWrappingAlone(mech uint, sub subject) error {
	key, err := s.sessionWrapKey(mech, nil)
	if err != nil {
		return err
	}
	return s.tryWrapping(mech, key, sub)
}

// custodyTrials are what import and export of wallets ask of a token.
func custodyTrials(mech uint) []trial {
	trying := func(extractable bool, try func(*session, uint, objectHandle, template) (drop, error)) func(*session) error {
		return func(s *session) error {
			key, err := s.sessionWrapKey(mech, nil)
			if err == nil {
				_, err = try(s, mech, key, privateKey.object(extractable))
			}
			return err
		}
	}
	return []trial{
		{"import of a secp256k1 private key", trying(false, (*session).tryImport)},
		{"export under a known AES key", trying(true, (*session).tryExport)},
	}
}

// probeEnforcement runs the proofs of a wrap key on a throw-away one.
func (t *Token) probeEnforcement(ctx context.Context, report *ProbeReport, p Purpose, mech uint) error {
	spec, _ := specOf(p)
	proofs, err := do(ctx, t.keepers, "prove the unwrap template", work[[]Proof]{
		run: func(s *session) (proofs []Proof, err error) {
			err = s.scratch(func(x *session) (err error) { proofs, err = x.proveThrowAway(spec, mech); return err })
			return proofs, err
		},
	})
	if err != nil {
		report.Abilities = append(report.Abilities, ability(fmt.Sprintf("unwrap template of %v", p), err))
		return ctx.Err()
	}
	for _, proof := range proofs {
		a := Ability{fmt.Sprintf("%v refuses: %s", p, proof.Attempt), Missing, proof.Answer}
		if proof.Refused {
			a.State = Available
		}
		report.Abilities = append(report.Abilities, a)
	}
	return nil
}

func (s *session) proveThrowAway(spec keySpec, mech uint) ([]Proof, error) {
	inner, err := s.bestUnwrapTemplate(spec, mech)
	if err != nil {
		return nil, err
	}
	key, err := s.sessionWrapKey(mech, inner)
	if err != nil {
		return nil, err
	}
	sm, err := s.newSample(spec.subject)
	if err != nil {
		return nil, err
	}
	full := spec.subject.object(false)
	_, d, err := s.roundTrip(mech, key, sm, full)
	if err != nil {
		return nil, err
	}
	return s.prove(spec, key, mech, full.dropping(d))
}

// edwardsParams are the two ways in which tokens take the curve: the object
// identifier 1.3.101.112 (RFC 8410), and the name (PKCS#11 v3.0 section 2.3.5).
func edwardsParams() [][]byte {
	return [][]byte{
		{0x06, 0x03, 0x2b, 0x65, 0x70},
		append([]byte{0x13, 0x0c}, "edwards25519"...),
	}
}

// eachParams tries the curve's forms until one is taken.
func eachParams(try func(params []byte) error) error {
	var err error
	for _, params := range edwardsParams() {
		if err = try(params); err == nil {
			return nil
		}
	}
	return err
}

func (s *session) tryEd25519() error {
	_, err := s.edwardsPair()
	return err
}

// edwardsPair makes an extractable Ed25519 pair and signs with it.
func (s *session) edwardsPair() (private objectHandle, err error) {
	err = eachParams(func(params []byte) error {
		public := template{boolean(pkcs11.CKA_TOKEN, false), boolean(pkcs11.CKA_VERIFY, true), raw(pkcs11.CKA_EC_PARAMS, params)}
		secret := edwardsPrivate()
		p, err := s.native().generateKeyPair(s.handle, ckmECEdwardsKeyPairGen, public, secret)
		private = p.private
		return err
	})
	if err != nil {
		return 0, err
	}
	var signature [ed25519.SignatureSize]byte
	return private, s.sign(ckmEDDSA, private, []byte(sampleLabel), signature[:])
}

func edwardsPrivate() template {
	return template{
		boolean(pkcs11.CKA_TOKEN, false),
		boolean(pkcs11.CKA_PRIVATE, true),
		boolean(pkcs11.CKA_SENSITIVE, true),
		boolean(pkcs11.CKA_EXTRACTABLE, true),
		boolean(pkcs11.CKA_SIGN, true),
	}
}

// tryEd25519Import creates a key from a seed and verifies its signature, since
// tokens differ in what they take as the value.
func (s *session) tryEd25519Import() error {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	defer clear(private)
	return eachParams(func(params []byte) error { return s.importEdwards(params, public, private.Seed()) })
}

func (s *session) importEdwards(params, public, seed []byte) error {
	defer clear(seed)
	t := append(edwardsPrivate(), number(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY),
		number(pkcs11.CKA_KEY_TYPE, ckkECEdwards), raw(pkcs11.CKA_EC_PARAMS, params), raw(pkcs11.CKA_VALUE, seed))
	h, err := s.native().createObject(s.handle, t)
	if err != nil {
		return err
	}
	var signature [ed25519.SignatureSize]byte
	if err := s.sign(ckmEDDSA, h, []byte(sampleLabel), signature[:]); err != nil {
		return err
	}
	if !ed25519.Verify(public, []byte(sampleLabel), signature[:]) {
		return fmt.Errorf("hsm: an imported Ed25519 key signs wrongly: %w", ErrTokenAnswer)
	}
	return nil
}

// tryEd25519Wrap wraps an Ed25519 key with the mechanism found.
func (s *session) tryEd25519Wrap() error {
	mech, err := s.negotiate()
	if err != nil {
		return err
	}
	private, err := s.edwardsPair()
	if err != nil {
		return err
	}
	key, err := s.sessionWrapKey(mech, nil)
	if err != nil {
		return err
	}
	_, err = s.native().wrapKey(s.handle, mech, key, private)
	return err
}
