package hsm

import (
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

// The operations here run on a session by whoever has taken it from the pool.

func (s *session) module() *pkcs11.Ctx { return s.pool.token.module }
func (s *session) native() *native     { return s.pool.token.native }

// sign runs one signature or HMAC that must fill out exactly. An operation that
// failed half-way may still be active, so the session is not used again.
func (s *session) sign(mech uint, key objectHandle, data, out []byte) error {
	n, begun, err := s.native().sign(s.handle, mech, key, data, out)
	if err == nil && n != len(out) {
		err = fmt.Errorf("hsm: C_Sign gives %d bytes in place of %d: %w", n, len(out), ErrTokenAnswer)
	}
	if err != nil {
		s.suspect = s.suspect || begun
		clear(out)
	}
	return err
}

// signECDSA signs a digest and returns r ‖ s.
func (s *session) signECDSA(key objectHandle, digest [32]byte) ([64]byte, error) {
	var out [64]byte
	err := s.sign(pkcs11.CKM_ECDSA, key, digest[:], out[:])
	return out, err
}

// gcm runs AES-GCM and returns the output.
func (s *session) gcm(encrypt bool, key objectHandle, nonce, data []byte) ([]byte, error) {
	out := make([]byte, len(data)+32)
	n, begun, err := s.native().gcm(encrypt, s.handle, key, nonce, data, out)
	if err != nil {
		s.suspect = s.suspect || begun
		clear(out)
		return nil, err
	}
	if n < 0 || n > len(out) {
		clear(out)
		return nil, fmt.Errorf("%w: AES-GCM gave %d bytes", ErrTokenAnswer, n)
	}
	return out[:n], nil
}

// destroy destroys an object. When the module cannot do it, the session is
// closed after the call, which does.
func (s *session) destroy(h objectHandle) error {
	err := fromModule("C_DestroyObject", s.module().DestroyObject(s.handle, h))
	if err != nil {
		s.suspect = true
	}
	return err
}

// read returns one attribute of an object that is not secret.
func (s *session) read(h objectHandle, kind uint) ([]byte, error) {
	got, err := s.module().GetAttributeValue(s.handle, h, []*pkcs11.Attribute{pkcs11.NewAttribute(kind, nil)})
	if err != nil {
		return nil, fromModule("C_GetAttributeValue("+attributeName(kind)+")", err)
	}
	if len(got) != 1 {
		return nil, fmt.Errorf("hsm: C_GetAttributeValue gives %d values: %w", len(got), ErrTokenAnswer)
	}
	return got[0].Value, nil
}

// maxFound bounds a search. Far fewer objects have one key id, and the daemon
// has far fewer session objects.
const maxFound = 4096

// find returns the objects that match a template.
func (s *session) find(t template) (found []objectHandle, err error) {
	if err := s.module().FindObjectsInit(s.handle, t.plain()); err != nil {
		return nil, fromModule("C_FindObjectsInit", err)
	}
	defer func() {
		if final := s.module().FindObjectsFinal(s.handle); final != nil {
			s.suspect = true
			err = errors.Join(err, fromModule("C_FindObjectsFinal", final))
		}
	}()
	for len(found) < maxFound {
		batch, _, err := s.module().FindObjects(s.handle, 64)
		if err != nil {
			return nil, fromModule("C_FindObjects", err)
		}
		if len(batch) == 0 {
			return found, nil
		}
		found = append(found, batch...)
	}
	return nil, fmt.Errorf("hsm: more than %d objects match: %w", maxFound, ErrTokenAnswer)
}

// generateRoot makes a secp256k1 pair as session objects and returns its
// private half and its point. The public object is of no further use.
func (s *session) generateRoot(d drop) (objectHandle, []byte, error) {
	private := privateKey.object(true).without(pkcs11.CKA_CLASS, pkcs11.CKA_KEY_TYPE).dropping(d)
	public := template{
		boolean(pkcs11.CKA_TOKEN, false),
		boolean(pkcs11.CKA_VERIFY, true),
		raw(pkcs11.CKA_EC_PARAMS, oidSecp256k1()),
	}
	p, err := s.native().generateKeyPair(s.handle, pkcs11.CKM_EC_KEY_PAIR_GEN, public, private)
	if err != nil {
		return 0, nil, err
	}
	point, err := s.point(p.public)
	if err == nil {
		_, err = onSecp256k1(point)
	}
	if err = errors.Join(err, s.destroy(p.public)); err != nil {
		return 0, nil, errors.Join(err, s.destroy(p.private))
	}
	return p.private, point, nil
}

// point reads the point of a public key object.
func (s *session) point(public objectHandle) ([]byte, error) {
	b, err := s.read(public, pkcs11.CKA_EC_POINT)
	if err != nil {
		return nil, err
	}
	return parsePoint(b)
}

// importSecret makes a generic secret for HMAC as a session object. The value
// is wiped with the marshalled template.
func (s *session) importSecret(value []byte, d drop) (objectHandle, error) {
	t := secretKey.object(true).dropping(d)
	return s.native().createObject(s.handle, append(t, raw(pkcs11.CKA_VALUE, value)))
}
