package hsm

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	secpecdsa "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"github.com/miekg/pkcs11"

	"github.com/sigild/sigild/daemon/wipe"
)

// custody is what was found out about keys that come from elsewhere or go there.
type custody struct {
	importDrop, knownDrop drop
	importErr, exportErr  error // why the token cannot; nil: it can
}

// CanImport returns nil when the token takes a private key from outside, carries
// it under Wrap and signs with it, which was tried when the keys were opened;
// else the token's answer.
func (k *Keys) CanImport() error { return k.custody.importErr }

// CanExport returns nil when the token gives a key that was unwrapped under
// WrapExport out under a known key, in a form that UnwrapKnown reads, which was
// tried when the keys were opened; else the token's answer.
func (k *Keys) CanExport() error { return k.custody.exportErr }

// ImportRoot makes a session object of a secp256k1 private key, 32 bytes, big
// endian, 1 to n-1, which can sign and be wrapped and nothing else, and returns
// its public point, uncompressed. The point is what two of the token's signatures
// have in common, so that the key was never computed with outside the token.
// scalar stays the caller's to wipe; the copy made for the token is wiped.
func (k *Keys) ImportRoot(ctx context.Context, scalar *[32]byte) (Object, [65]byte, error) {
	valid := false
	wipe.Do(func() { valid = validScalar(scalar) })
	if !valid {
		return Object{}, [65]byte{}, fmt.Errorf("%w: it must be 1 to n-1", ErrScalar)
	}
	if err := k.usable(); err != nil {
		return Object{}, [65]byte{}, err
	}
	own := newSecret(scalar[:])
	r, err := do(ctx, k.token.keepers, "import a private key", work[root]{
		run: func(s *session) (root, error) {
			h, point, err := s.importRoot(own.bytes(), k.custody.importDrop)
			if err != nil {
				return root{}, err
			}
			return root{made(s, h, privateKey), [pointSize]byte(point)}, nil
		},
		discard: func(s *session, r root) { discardObject(s, r.object) },
		release: own.free,
	})
	return r.object, r.point, err
}

// WrapKnown returns a root, which must have been unwrapped under WrapExport, as
// ciphertext under key, which lives in the token for the length of this call.
// UnwrapKnown undoes it. Any other object than an exportable root is refused, by
// this package or by the token. key stays the caller's to wipe.
func (k *Keys) WrapKnown(ctx context.Context, o Object, key *[32]byte) ([]byte, error) {
	if err := k.usable(); err != nil {
		return nil, err
	}
	r, err := k.object(o, privateKey)
	if err != nil {
		return nil, err
	}
	own := newSecret(key[:])
	wrapped, err := do(ctx, k.token.keepers, "wrap a key under a known one", work[[]byte]{
		run: func(s *session) ([]byte, error) {
			return s.wrapKnown(k.mech, own.bytes(), k.custody.knownDrop, r.handle)
		},
		discard: func(_ *session, wrapped []byte) { clear(wrapped) },
		release: own.free,
	})
	if err = k.used(r, err); err != nil {
		clear(wrapped)
		return nil, err
	}
	return wrapped, nil
}

// importRoot makes the object and finds its point. The value is wiped with the
// marshalled template.
func (s *session) importRoot(scalar []byte, d drop) (objectHandle, []byte, error) {
	t := append(privateKey.object(true).dropping(d), raw(pkcs11.CKA_EC_PARAMS, oidSecp256k1()), raw(pkcs11.CKA_VALUE, scalar))
	h, err := s.native().createObject(s.handle, t)
	if err != nil {
		return 0, nil, err
	}
	point, err := s.findPoint(h)
	if err != nil {
		return 0, nil, errors.Join(err, s.destroy(h))
	}
	return h, point, nil
}

// findPoint gives the public point of a private key object: a signature fits two
// points, and two signatures of different digests have one in common.
func (s *session) findPoint(h objectHandle) ([]byte, error) {
	first, err := s.candidates(h)
	if err != nil {
		return nil, err
	}
	second, err := s.candidates(h)
	if err != nil {
		return nil, err
	}
	for _, a := range first {
		for _, b := range second {
			if bytes.Equal(a, b) {
				return a, s.provePair(h, a)
			}
		}
	}
	return nil, fmt.Errorf("hsm: two signatures are not by one key: %w", ErrWrongSignature)
}

// candidates signs a random digest and gives the points that the signature fits.
func (s *session) candidates(h objectHandle) (points [][]byte, err error) {
	var digest [32]byte
	if _, err := rand.Read(digest[:]); err != nil {
		return nil, err
	}
	signature, err := s.signECDSA(h, digest)
	if err != nil {
		return nil, err
	}
	for code := range byte(2) {
		const uncompressed = 27 // of the form that RecoverCompact takes
		compact := append([]byte{uncompressed + code}, signature[:]...)
		if key, _, err := secpecdsa.RecoverCompact(compact, digest[:]); err == nil {
			points = append(points, key.SerializeUncompressed())
		}
	}
	return points, nil
}

// knownKey is the template of a wrap key whose value the daemon knows.
func knownKey(mech uint) template {
	spec, _ := specOf(Wrap)
	t := spec.secretHalf(mech).with(boolean(pkcs11.CKA_TOKEN, false)).with(boolean(pkcs11.CKA_UNWRAP, false))
	return append(t.without(pkcs11.CKA_VALUE_LEN),
		number(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), number(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES))
}

// wrapKnown wraps an object under a key of this value, and destroys that key.
func (s *session) wrapKnown(mech uint, value []byte, d drop, object objectHandle) ([]byte, error) {
	key, err := s.native().createObject(s.handle, append(knownKey(mech).dropping(d), raw(pkcs11.CKA_VALUE, value)))
	if err != nil {
		return nil, err
	}
	wrapped, err := s.native().wrapKey(s.handle, mech, key, object)
	return wrapped, errors.Join(err, s.destroy(key))
}

// learnCustody finds out whether keys can come in and go out. A token that
// cannot is as good as any other for wallets that it makes itself, so only what
// ends all further calls is an error.
func (k *Keys) learnCustody(ctx context.Context) error {
	c := &k.custody
	for _, part := range []struct {
		purpose Purpose
		try     func(*session, uint, objectHandle, template) (drop, error)
		drop    *drop
		found   *error
	}{
		{Wrap, (*session).tryImport, &c.importDrop, &c.importErr},
		{WrapExport, (*session).tryExport, &c.knownDrop, &c.exportErr},
	} {
		key, wrap := k.found[part.purpose].secret, k.wraps[part.purpose]
		d, err := do(ctx, k.token.keepers, "try keys from elsewhere", work[drop]{
			run: func(s *session) (d drop, err error) {
				err = s.scratch(func(x *session) error { d, err = part.try(x, k.mech, key, wrap.template); return err })
				return d, err
			},
		})
		if classOf(err) > FindKeys || ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		*part.drop, *part.found = d, err
	}
	return nil
}

// tryImport brings a throw-away private key in and carries it through a wrap key,
// which unwraps with full.
func (s *session) tryImport(mech uint, key objectHandle, full template) (drop, error) {
	var scalar [32]byte
	defer clear(scalar[:])
	if _, err := rand.Read(scalar[1:]); err != nil { // below n by its first byte
		return 0, err
	}
	sm := sample{subject: privateKey}
	d, err := climb(privateKey.object(true).ladder(), func(d drop) (err error) {
		sm.handle, sm.proof, err = s.importRoot(scalar[:], d)
		return err
	})
	if err != nil {
		return 0, err
	}
	if !ofScalar(&scalar, sm.proof) {
		return 0, fmt.Errorf("hsm: the token signs with another key than it was given: %w", ErrTokenAnswer)
	}
	_, _, err = s.roundTrip(mech, key, sm, full)
	return d, err
}

// tryExport carries a throw-away private key through a wrap key, which unwraps
// with full, and then out of the token.
func (s *session) tryExport(mech uint, key objectHandle, full template) (drop, error) {
	sm, err := s.newSample(privateKey)
	if err != nil {
		return 0, err
	}
	wrapped, d, err := s.roundTrip(mech, key, sm, full)
	if err != nil {
		return 0, err
	}
	h, err := s.unwrap(mech, key, wrapped, full.dropping(d))
	if err != nil {
		return 0, err
	}
	var known, scalar [32]byte
	defer clear(scalar[:])
	defer clear(known[:])
	if _, err := rand.Read(known[:]); err != nil {
		return 0, err
	}
	d, err = climb(knownKey(mech).ladder(), func(d drop) (err error) {
		wrapped, err = s.wrapKnown(mech, known[:], d, h)
		return err
	})
	if err != nil {
		return 0, err
	}
	if err := UnwrapKnown(&known, wrapped, &scalar); err != nil {
		return 0, err
	}
	if !ofScalar(&scalar, sm.proof) {
		return 0, fmt.Errorf("hsm: the token gives another key out: %w", ErrTokenAnswer)
	}
	return d, nil
}

// ofScalar reports whether a point is that of a private key. It is for throw-away
// keys only: its time depends on the key.
func ofScalar(scalar *[32]byte, point []byte) bool {
	d := secp256k1.PrivKeyFromBytes(scalar[:])
	defer d.Zero()
	return bytes.Equal(d.PubKey().SerializeUncompressed(), point)
}
