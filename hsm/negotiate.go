package hsm

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/miekg/pkcs11"
)

// Key wrap mechanisms. Each of them authenticates what it unwraps, and takes
// keys of any length.
const (
	ckmAESKeyWrapKWP   = 0x210B // CKM_AES_KEY_WRAP_KWP, RFC 5649, PKCS#11 v3.0
	ckmAESKeyWrapPAD   = 0x210A // CKM_AES_KEY_WRAP_PAD; SoftHSM's is RFC 5649
	ckmAESKeyWrapPKCS7 = 0x210C // CKM_AES_KEY_WRAP_PKCS7, RFC 3394 over PKCS#7 padding, PKCS#11 v3.0
	// CKM_CLOUDHSM_AES_KEY_WRAP_ZERO_PAD: RFC 5649 in AWS CloudHSM
	ckmCloudHSMZeroPad = pkcs11.CKM_VENDOR_DEFINED | 0x216F
)

// wrapMechanisms is the allow list in order of preference. Modes without
// authentication are not on it, whatever a token says that they can do.
func wrapMechanisms() []uint {
	return []uint{ckmAESKeyWrapKWP, ckmAESKeyWrapPAD, ckmAESKeyWrapPKCS7, ckmCloudHSMZeroPad}
}

// NegotiateWrap returns the first mechanism of the allow list that works on
// this token, shown by a full round trip with throw-away session keys: a
// secp256k1 key and a 64-byte secret are wrapped, unwrapped, do the same as
// before, and do not unwrap after one bit was changed. The number alone proves
// nothing: SoftHSM has RFC 5649 under 0x210A. It returns ErrNoWrapMechanism
// with the answer for each mechanism when none works.
//
// The mechanism belongs into every record that was sealed with it.
func (t *Token) NegotiateWrap(ctx context.Context) (mech uint, err error) {
	if !t.loggedIn.Load() {
		return 0, ErrNotLoggedIn
	}
	return do(ctx, t.keepers, "negotiate the wrap mechanism", work[uint]{
		run: func(s *session) (mech uint, err error) {
			err = s.scratch(func(x *session) error { mech, err = x.negotiate(); return err })
			return mech, err
		},
	})
}

func (s *session) negotiate() (uint, error) {
	list, err := s.pool.token.mechanisms()
	if err != nil {
		return 0, err
	}
	var answers []error
	for _, mech := range wrapMechanisms() {
		if !slices.Contains(list, mech) {
			continue
		}
		err := s.tryMechanism(mech)
		if err == nil {
			return mech, nil
		}
		if class := classOf(err); class != GiveUp && class != NewSession {
			return 0, err
		}
		answers = append(answers, fmt.Errorf("0x%x: %w", mech, err))
	}
	return 0, fmt.Errorf("%w: %v", ErrNoWrapMechanism, errors.Join(answers...))
}

// mechanisms returns the mechanism list of the token.
func (t *Token) mechanisms() ([]uint, error) {
	list, err := t.module.GetMechanismList(t.slot)
	if err != nil {
		return nil, fromModule("C_GetMechanismList", err)
	}
	out := make([]uint, len(list))
	for i, m := range list {
		out[i] = m.Mechanism
	}
	return out, nil
}

// tryMechanism runs the round trips under a throw-away wrap key.
func (s *session) tryMechanism(mech uint) error {
	key, err := s.sessionWrapKey(mech, nil)
	if err != nil {
		return err
	}
	for _, sub := range []subject{privateKey, secretKey} {
		if err := s.tryWrapping(mech, key, sub); err != nil {
			return errors.Join(fmt.Errorf("%v: %w", sub, err), s.destroy(key))
		}
	}
	return s.destroy(key)
}

// sessionWrapKey makes a throw-away wrap key with an unwrap template.
func (s *session) sessionWrapKey(mech uint, unwrapTemplate template) (key objectHandle, err error) {
	spec, _ := specOf(Wrap)
	full := spec.secretHalf(mech).with(boolean(pkcs11.CKA_TOKEN, false))
	_, err = climb(full.ladder(), func(d drop) (err error) {
		t := full.dropping(d)
		if unwrapTemplate != nil {
			t = append(t, nested(pkcs11.CKA_UNWRAP_TEMPLATE, unwrapTemplate))
		}
		key, err = s.native().generateKey(s.handle, pkcs11.CKM_AES_KEY_GEN, t)
		return err
	})
	return key, err
}

func (s *session) tryWrapping(mech uint, key objectHandle, sub subject) error {
	sm, err := s.newSample(sub)
	if err != nil {
		return err
	}
	wrapped, d, err := s.roundTrip(mech, key, sm, sub.object(false))
	if err == nil {
		err = s.refusesTampering(mech, key, wrapped, sub.object(false).dropping(d))
	}
	return errors.Join(err, s.destroy(sm.handle))
}

// refusesTampering checks that one changed bit makes the wrapped key useless.
func (s *session) refusesTampering(mech uint, key objectHandle, wrapped []byte, t template) error {
	forged := slices.Clone(wrapped)
	forged[len(forged)/2] ^= 1
	h, err := s.unwrap(mech, key, forged, t)
	if err != nil {
		return nil
	}
	return errors.Join(errors.New("hsm: the mechanism does not authenticate: a changed key unwraps"), s.destroy(h))
}
