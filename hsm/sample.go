package hsm

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha512"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

// sampleLabel is what a sample secret's HMAC is over.
const sampleLabel = "sigild/sample/v1"

// sample is a throw-away session key with what is needed to recognise it after
// it was wrapped and unwrapped: wrapping is judged by what the key then does,
// never by what the token says about it.
type sample struct {
	subject subject
	handle  objectHandle
	proof   []byte // the point (65 bytes), or the HMAC of sampleLabel (64 bytes)
}

// newSample makes a sample of a subject.
func (s *session) newSample(sub subject) (sample, error) {
	sm := sample{subject: sub}
	_, err := climb(sub.object(true).ladder(), func(d drop) (err error) {
		sm.handle, sm.proof, err = s.makeSample(sub, d)
		return err
	})
	return sm, err
}

func (s *session) makeSample(sub subject, d drop) (objectHandle, []byte, error) {
	if sub == privateKey {
		return s.generateRoot(d)
	}
	var secret [64]byte
	defer clear(secret[:])
	if _, err := rand.Read(secret[:]); err != nil {
		return 0, nil, err
	}
	mac := hmac.New(sha512.New, secret[:])
	mac.Write([]byte(sampleLabel))
	h, err := s.importSecret(secret[:], d)
	return h, mac.Sum(nil), err
}

// recognise checks that the object does what the sample's key does.
func (s *session) recognise(sub subject, h objectHandle, proof []byte) error {
	if sub == privateKey {
		return s.provePair(h, proof)
	}
	var mac [64]byte
	if err := s.sign(pkcs11.CKM_SHA512_HMAC, h, []byte(sampleLabel), mac[:]); err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(mac[:], proof) != 1 {
		return fmt.Errorf("hsm: an HMAC differs: %w", ErrTokenAnswer)
	}
	return nil
}

// provePair signs a random digest and verifies it with the secp256k1 point.
func (s *session) provePair(private objectHandle, point []byte) error {
	var digest [32]byte
	if _, err := rand.Read(digest[:]); err != nil {
		return err
	}
	signature, err := s.signECDSA(private, digest)
	if err != nil {
		return err
	}
	return verifySecp256k1(point, digest, signature)
}

// unwrap makes a session object of a wrapped key.
func (s *session) unwrap(mech uint, key objectHandle, wrapped []byte, t template) (objectHandle, error) {
	return s.native().unwrapKey(s.handle, mech, key, wrapped, t)
}

// returns unwraps a wrapped sample with t, checks that it is the same key, and
// destroys the object.
func (s *session) returns(mech uint, key objectHandle, wrapped []byte, sm sample, t template) error {
	h, err := s.unwrap(mech, key, wrapped, t)
	if err != nil {
		return err
	}
	return errors.Join(s.recognise(sm.subject, h, sm.proof), s.destroy(h))
}

// roundTrip wraps the sample under key and finds the fullest template with
// which it comes back. It returns the wrapped sample and what was left out.
func (s *session) roundTrip(mech uint, key objectHandle, sm sample, full template) ([]byte, drop, error) {
	wrapped, err := s.native().wrapKey(s.handle, mech, key, sm.handle)
	if err != nil {
		return nil, 0, err
	}
	d, err := climb(full.ladder(), func(d drop) error {
		return s.returns(mech, key, wrapped, sm, full.dropping(d))
	})
	return wrapped, d, err
}
