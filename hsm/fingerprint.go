package hsm

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	fingerprintLabel = "sigild/fingerprint/v1"
	canaryVersion    = 1
	maxFingerprint   = 511
	gcmNonceSize     = 12
	gcmTagSize       = 16
)

// canary is the fingerprint of a key that can only be recognised by what comes
// out of it. For a wrap key: a throw-away key wrapped under it, and what that key
// must do (its point of 65 bytes, or an HMAC of 64). For WrapTransit: a nonce of
// 12 bytes, and a known text encrypted.
//
// Encoding: version (1) ‖ length (2, big endian) ‖ first ‖ length (2) ‖ second.
type canary struct{ first, second []byte }

func (c canary) encode() ([]byte, error) {
	out := []byte{canaryVersion}
	for _, part := range [][]byte{c.first, c.second} {
		out = binary.BigEndian.AppendUint16(out, uint16(len(part)))
		out = append(out, part...)
	}
	if len(out) > maxFingerprint {
		return nil, fmt.Errorf("hsm: a fingerprint of %d bytes: %w", len(out), ErrTokenAnswer)
	}
	return out, nil
}

// decodeCanary takes exactly what encode gives. Both parts have at least one
// byte.
func decodeCanary(b []byte) (canary, error) {
	bad := fmt.Errorf("%w: the fingerprint is malformed", ErrKeyChanged)
	if len(b) == 0 || len(b) > maxFingerprint || b[0] != canaryVersion {
		return canary{}, bad
	}
	var parts [2][]byte
	rest := b[1:]
	for i := range parts {
		if len(rest) < 2 {
			return canary{}, bad
		}
		n := int(binary.BigEndian.Uint16(rest))
		if n == 0 || n > len(rest)-2 {
			return canary{}, bad
		}
		parts[i], rest = rest[2:2+n], rest[2+n:]
	}
	if len(rest) != 0 {
		return canary{}, bad
	}
	return canary{parts[0], parts[1]}, nil
}

// MakeFingerprint returns bytes, fewer than 512 and not secret, by which
// CheckFingerprint knows the key's value again:
//
//   - PIN, Record: SHA-256 of HMAC-SHA256(key, "sigild/fingerprint/v1")
//   - Identity, Audit, Policy, Probe: SHA-256 of the uncompressed public point
//   - the wrap keys: a canary, which is different at each call
func (k *Keys) MakeFingerprint(ctx context.Context, p Purpose) ([]byte, error) {
	spec, _ := specOf(p)
	l, err := k.key(p, wrapKind, transitKind, macKind, p256Kind, secp256k1Kind)
	if err != nil {
		return nil, err
	}
	switch spec.kind {
	case macKind:
		return k.macFingerprint(ctx, p)
	case transitKind:
		return k.makeCanary(ctx, k.token.signing, func(s *session) (canary, error) { return s.transitCanary(l.secret) })
	case wrapKind:
		return k.makeCanary(ctx, k.token.keepers, func(s *session) (canary, error) {
			return s.wrapCanary(k.mech, l.secret, spec.subject)
		})
	}
	sum := sha256.Sum256(l.point)
	return sum[:], nil
}

// CheckFingerprint returns nil if the key on the token is the one that the
// fingerprint was made from, and ErrKeyChanged if it is not or if the
// fingerprint is malformed. A fingerprint proves nothing about who made it: keep
// it under a MAC.
func (k *Keys) CheckFingerprint(ctx context.Context, p Purpose, fingerprint []byte) error {
	spec, _ := specOf(p)
	l, err := k.key(p, wrapKind, transitKind, macKind, p256Kind, secp256k1Kind)
	if err != nil {
		return err
	}
	if spec.kind == wrapKind || spec.kind == transitKind {
		return k.checkCanary(ctx, p, l, fingerprint)
	}
	now, err := k.MakeFingerprint(ctx, p)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(now, fingerprint) != 1 {
		return fmt.Errorf("%w: %v", ErrKeyChanged, p)
	}
	return nil
}

func (k *Keys) macFingerprint(ctx context.Context, p Purpose) ([]byte, error) {
	mac, err := k.HMAC(ctx, p, []byte(fingerprintLabel))
	if err != nil {
		return nil, err
	}
	defer clear(mac[:])
	sum := sha256.Sum256(mac[:])
	return sum[:], nil
}

func (k *Keys) makeCanary(ctx context.Context, pool *pool, run func(*session) (canary, error)) ([]byte, error) {
	c, err := do(ctx, pool, "make a fingerprint", work[canary]{run: run})
	if err != nil {
		return nil, err
	}
	return c.encode()
}

// wrapCanary wraps a throw-away key.
func (s *session) wrapCanary(mech uint, key objectHandle, sub subject) (canary, error) {
	sm, err := s.newSample(sub)
	if err != nil {
		return canary{}, err
	}
	wrapped, err := s.native().wrapKey(s.handle, mech, key, sm.handle)
	return canary{wrapped, sm.proof}, errors.Join(err, s.destroy(sm.handle))
}

// transitCanary encrypts the label.
func (s *session) transitCanary(key objectHandle) (canary, error) {
	nonce := make([]byte, gcmNonceSize)
	if _, err := rand.Read(nonce); err != nil {
		return canary{}, err
	}
	ciphertext, err := s.gcm(true, key, nonce, []byte(fingerprintLabel))
	return canary{nonce, ciphertext}, err
}

func (k *Keys) checkCanary(ctx context.Context, p Purpose, l longLived, fingerprint []byte) error {
	c, err := decodeCanary(append([]byte(nil), fingerprint...))
	if err != nil {
		return fmt.Errorf("%w (%v)", err, p)
	}
	pool, run := k.token.keepers, func(s *session) (bool, error) {
		return s.isWrapCanary(k.mech, l.secret, k.wraps[p], c)
	}
	if p == WrapTransit {
		pool, run = k.token.signing, func(s *session) (bool, error) { return s.isTransitCanary(l.secret, c) }
	}
	same, err := do(ctx, pool, "check a fingerprint", work[bool]{run: run})
	if err == nil && !same {
		return fmt.Errorf("%w: %v", ErrKeyChanged, p)
	}
	return err
}

// isWrapCanary unwraps the canary, as a key that cannot leave the token, and
// looks whether it does what it should. Nothing that it computes leaves here.
func (s *session) isWrapCanary(mech uint, key objectHandle, w wrapKey, c canary) (bool, error) {
	h, err := s.unwrapOrBlame(mech, key, w, c.first)
	if errors.Is(err, ErrWrappedKey) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	err = s.recognise(w.spec.subject, h, c.second)
	wrong := errors.Is(err, ErrTokenAnswer)
	if wrong {
		err = nil
	}
	return err == nil && !wrong, errors.Join(err, s.destroy(h))
}

// isTransitCanary decrypts the canary. A token that refuses the ciphertext must
// decrypt another, and refuse the first again after that, or it is the token that is
// at fault.
func (s *session) isTransitCanary(key objectHandle, c canary) (bool, error) {
	if len(c.first) != gcmNonceSize || len(c.second) != len(fingerprintLabel)+gcmTagSize {
		return false, nil
	}
	text, err := s.gcm(false, key, c.first, c.second)
	if err != nil && mayBeTheKey(err) {
		control, failed := s.transitCanary(key)
		if failed == nil {
			_, failed = s.gcm(false, key, control.first, control.second)
		}
		if failed != nil {
			return false, err
		}
		if text, err = s.gcm(false, key, c.first, c.second); err != nil && mayBeTheKey(err) {
			return false, nil
		}
	}
	return err == nil && subtle.ConstantTimeCompare(text, []byte(fingerprintLabel)) == 1, err
}
