package hsm

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/miekg/pkcs11"

	"github.com/sigild/sigild/daemon/wipe"
)

// Object is a session object on the token: the private half of a root pair, or
// a derivation key. It belongs to one keeper session and one log-in, and is lost
// with either; using it then is ErrObjectLost and does not reach the token. The
// zero Object is lost.
type Object struct{ ref *reference }

type reference struct {
	handle    objectHandle
	subject   subject
	token     *Token
	life      *life
	destroyed atomic.Bool // given to Destroy, or unknown to the token
	confirmed atomic.Bool // the token says that it is gone
}

// reference returns what the object stands for, if it is still there.
func (k *Keys) reference(o Object) (*reference, error) {
	if o.ref == nil || k.lost(o.ref) {
		return nil, ErrObjectLost
	}
	return o.ref, nil
}

// Lost reports whether the object is gone: it was destroyed, or its session or
// log-in is.
func (o Object) Lost() bool {
	return o.ref == nil || o.ref.destroyed.Load() || o.ref.life.gone.Load() || o.ref.life.epoch != o.ref.token.epoch.Load()
}

func (k *Keys) lost(r *reference) bool {
	return r.token != k.token || Object{r}.Lost()
}

// made wraps a handle that was just made on s.
func made(s *session, h objectHandle, sub subject) Object {
	return Object{&reference{handle: h, subject: sub, token: s.pool.token, life: s.life}}
}

// discardObject destroys what nobody waits for any more.
func discardObject(s *session, o Object) { _ = s.destroy(o.ref.handle) }

// root is a new root pair.
type root struct {
	object Object
	point  [pointSize]byte
}

// GenerateRoot makes a secp256k1 key pair in the token and returns the private
// half, which can sign and be wrapped and nothing else, and the public point,
// uncompressed: 0x04 ‖ X (32) ‖ Y (32), checked to be on the curve.
func (k *Keys) GenerateRoot(ctx context.Context) (Object, [65]byte, error) {
	if err := k.usable(); err != nil {
		return Object{}, [65]byte{}, err
	}
	r, err := do(ctx, k.token.keepers, "generate a root pair", work[root]{
		run: func(s *session) (root, error) {
			h, point, err := s.generateRoot(k.rootDrop)
			if err != nil {
				return root{}, err
			}
			return root{made(s, h, privateKey), [pointSize]byte(point)}, nil
		},
		discard: func(s *session, r root) { discardObject(s, r.object) },
	})
	return r.object, r.point, err
}

// Sizes of an imported secret in bytes. HMAC-SHA512 hashes longer keys.
const (
	minSecret = 16
	maxSecret = 128
)

// ImportSecret makes a session object of a secret of 16 to 128 bytes, which can
// compute HMAC-SHA512 and be wrapped and nothing else. The secret stays the
// caller's to wipe; the copy made for the token is wiped.
func (k *Keys) ImportSecret(ctx context.Context, secret []byte) (Object, error) {
	if len(secret) < minSecret || len(secret) > maxSecret {
		return Object{}, fmt.Errorf("hsm: a secret of %d bytes: it must be %d to %d", len(secret), minSecret, maxSecret)
	}
	if err := k.usable(); err != nil {
		return Object{}, err
	}
	own := newSecret(secret)
	return do(ctx, k.token.keepers, "import a secret", work[Object]{
		run: func(s *session) (Object, error) {
			h, err := s.importSecret(own.bytes(), k.secretDrop)
			if err != nil {
				return Object{}, err
			}
			return made(s, h, secretKey), nil
		},
		discard: discardObject,
		release: own.free,
	})
}

// Wrap returns the object's key as ciphertext of the token, under Wrap or
// WrapExport for a root and WrapSecret or WrapExportSecret for a secret. Any
// other purpose is ErrPurpose. An object that was unwrapped under Wrap or
// WrapSecret is refused by the token.
func (k *Keys) Wrap(ctx context.Context, p Purpose, o Object) ([]byte, error) {
	l, err := k.key(p, wrapKind)
	if err != nil {
		return nil, err
	}
	r, err := k.reference(o)
	if err != nil {
		return nil, err
	}
	if k.wraps[p].spec.subject != r.subject {
		return nil, fmt.Errorf("%w: %v does not wrap a %v", ErrPurpose, p, r.subject)
	}
	wrapped, err := do(ctx, k.token.signing, "wrap a key", work[[]byte]{
		run: func(s *session) ([]byte, error) {
			return s.native().wrapKey(s.handle, k.mech, l.secret, r.handle)
		},
		discard: func(_ *session, wrapped []byte) { clear(wrapped) },
	})
	if err = k.used(r, err); err != nil {
		clear(wrapped)
		return nil, err
	}
	return wrapped, nil
}

// Unwrap makes a session object of a wrapped key. It returns ErrWrappedKey when
// the token refuses the ciphertext and does unwrap a good one; another error
// says nothing about the ciphertext.
func (k *Keys) Unwrap(ctx context.Context, p Purpose, wrapped []byte) (Object, error) {
	l, err := k.key(p, wrapKind)
	if err != nil {
		return Object{}, err
	}
	if len(wrapped) == 0 || len(wrapped) > maxWrapped {
		return Object{}, fmt.Errorf("%w: it has %d bytes", ErrWrappedKey, len(wrapped))
	}
	w, own := k.wraps[p], make([]byte, len(wrapped))
	wipe.Do(func() { copy(own, wrapped) })
	return do(ctx, k.token.keepers, "unwrap a key", work[Object]{
		run: func(s *session) (Object, error) {
			h, err := s.unwrapOrBlame(k.mech, l.secret, w, own)
			if err != nil {
				return Object{}, err
			}
			return made(s, h, w.spec.subject), nil
		},
		discard: discardObject,
		release: func() { clear(own) },
	})
}

// unwrapOrBlame unwraps, or finds out whether the wrapped key or the token is at
// fault. Tokens answer a forged key with anything from CKR_WRAPPED_KEY_INVALID to
// CKR_GENERAL_ERROR, so the code alone does not tell; a good wrapped key does, and
// that the token refuses the other one before it and after it.
func (s *session) unwrapOrBlame(mech uint, key objectHandle, w wrapKey, wrapped []byte) (objectHandle, error) {
	h, err := s.unwrap(mech, key, wrapped, w.template)
	if err == nil || !mayBeTheKey(err) {
		return h, err
	}
	control, failed := s.unwrap(mech, key, w.control, w.template)
	if failed != nil {
		return 0, err
	}
	if err := s.destroy(control); err != nil {
		return 0, err
	}
	if h, err = s.unwrap(mech, key, wrapped, w.template); err != nil && mayBeTheKey(err) {
		return 0, fmt.Errorf("%w: %v", ErrWrappedKey, err)
	}
	return h, err
}

// mayBeTheKey reports whether a token may say this of a wrapped key that is not its
// own.
func mayBeTheKey(err error) bool {
	class := classOf(err)
	return (class == GiveUp || class == NewSession) && !certain(codeOf(err))
}

// HMACSHA512 computes HMAC-SHA512 of data, at most 1 MiB, under a secret. data
// stays the caller's to wipe; so is mac, which holds nothing of it after an error.
func (k *Keys) HMACSHA512(ctx context.Context, o Object, data []byte, mac *[64]byte) error {
	r, err := k.object(o, secretKey)
	if err != nil {
		return err
	}
	err = k.token.mac(ctx, pkcs11.CKM_SHA512_HMAC, r.handle, data, mac[:])
	if err = k.used(r, err); err != nil {
		clear(mac[:])
	}
	return err
}

// SignECDSA signs a digest with a root and returns r ‖ s, 32 bytes each, as the
// token gives it: half of all signatures have a high s, and the caller verifies.
func (k *Keys) SignECDSA(ctx context.Context, o Object, digest [32]byte) ([64]byte, error) {
	r, err := k.object(o, privateKey)
	if err != nil {
		return [64]byte{}, err
	}
	out, err := do(ctx, k.token.signing, "sign", work[[64]byte]{
		run: func(s *session) ([64]byte, error) { return s.signECDSA(r.handle, digest) },
	})
	if err = k.used(r, err); err != nil {
		clear(out[:])
	}
	return out, err
}

// object returns the reference of an object of a subject.
func (k *Keys) object(o Object, sub subject) (*reference, error) {
	r, err := k.reference(o)
	if err != nil {
		return nil, err
	}
	if r.subject != sub {
		return nil, fmt.Errorf("%w: the object is a %v", ErrPurpose, r.subject)
	}
	return r, nil
}

// used checks after a call that the object was there all the time: a module may
// give the handle of an object that is gone to the next one. A token that does
// not know the handle any more has lost the object too.
func (k *Keys) used(r *reference, err error) error {
	switch codeOf(err) {
	case pkcs11.CKR_KEY_HANDLE_INVALID, pkcs11.CKR_OBJECT_HANDLE_INVALID:
		r.destroyed.Store(true)
		return fmt.Errorf("%w: %w", ErrObjectLost, err)
	}
	if err == nil && k.lost(r) {
		return ErrObjectLost
	}
	return err
}

// Destroy destroys the objects. It does so also when ctx has ended, for at most
// the call timeout, or twice that when every signing session hangs: any other will
// do, and other objects are not to be lost for it. An object that the token does not
// destroy loses its session: that is closed, which destroys every object made in it,
// and those of others there are lost too. Objects that are gone already are no error.
func (k *Keys) Destroy(ctx context.Context, objects ...Object) error {
	ctx = context.WithoutCancel(ctx)
	doomed := k.doom(objects)
	if len(doomed) == 0 {
		return nil
	}
	err := k.destroyOn(ctx, k.token.signing, doomed)
	if errors.Is(err, ErrHung) || errors.Is(err, errNoSession) {
		err = k.destroyOn(ctx, k.token.keepers, doomed)
	}
	if err != nil {
		k.condemn(doomed)
	}
	return err
}

func (k *Keys) destroyOn(ctx context.Context, p *pool, doomed []*reference) error {
	_, err := do(ctx, p, "destroy session objects", work[struct{}]{
		run: func(s *session) (struct{}, error) { return struct{}{}, k.destroyAll(s, doomed) },
	})
	return err
}

// doom marks the objects as gone and returns those that were not.
func (k *Keys) doom(objects []Object) []*reference {
	var doomed []*reference
	for _, o := range objects {
		if o.ref != nil && !k.lost(o.ref) && o.ref.destroyed.CompareAndSwap(false, true) {
			doomed = append(doomed, o.ref)
		}
	}
	return doomed
}

// destroyAll destroys objects one by one. The call may have hung, and their session been
// closed for it, or the log-in ended: what is not reached yet is gone then, and the
// module may have given its handle to another caller's object.
func (k *Keys) destroyAll(s *session, doomed []*reference) error {
	var errs []error
	for _, r := range doomed {
		if r.life.over(k.token.epoch.Load()) {
			continue
		}
		err := fromModule("C_DestroyObject", s.module().DestroyObject(s.handle, r.handle))
		if err != nil && codeOf(err) != pkcs11.CKR_OBJECT_HANDLE_INVALID {
			errs = append(errs, err)
			continue
		}
		r.confirmed.Store(true)
	}
	return errors.Join(errs...)
}

// condemn closes the keeper sessions of objects that could not be destroyed, or
// of which that is not known. A session in use is closed when it comes back.
func (k *Keys) condemn(doomed []*reference) {
	for _, r := range doomed {
		if !r.confirmed.Load() {
			r.life.gone.Store(true)
		}
	}
	go k.token.keepers.sweep()
}

// SessionObjects returns how many session objects the process has on the token.
// It is for metrics and for finding leaks.
func (k *Keys) SessionObjects(ctx context.Context) (int, error) {
	if err := k.usable(); err != nil {
		return 0, err
	}
	return do(ctx, k.token.signing, "count session objects", work[int]{
		run: func(s *session) (int, error) {
			found, err := s.find(template{boolean(pkcs11.CKA_TOKEN, false)})
			return len(found), err
		},
	})
}
