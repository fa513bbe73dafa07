package hsm

import (
	"context"
	"errors"
)

// rehearsalBytes is how long the secret of a rehearsal is: as long as a seed, since
// SoftHSM takes no shorter key for HMAC-SHA-512.
const rehearsalBytes = 64

// Rehearse does once, with keys that exist for that time only, what a wallet's
// creation and its signatures ask of the token: random bytes, a new root, an
// imported secret, wrapping, unwrapping, HMAC and a signature. It returns the
// first error. Nothing is left on the token.
func (k *Keys) Rehearse(ctx context.Context) (err error) {
	if _, err := k.HMAC(ctx, PIN, []byte("sigild/rehearsal")); err != nil {
		return err
	}
	value, err := k.token.Random(ctx, rehearsalBytes)
	defer func() { clear(value) }()
	if err != nil {
		return err
	}
	secret, err := k.ImportSecret(ctx, value)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.Destroy(ctx, secret)) }()
	root, _, err := k.GenerateRoot(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.Destroy(ctx, root)) }()
	return errors.Join(k.rehearseWrapped(ctx, WrapSecret, secret), k.rehearseWrapped(ctx, Wrap, root))
}

// rehearseWrapped wraps an object, unwraps it and uses what came out.
func (k *Keys) rehearseWrapped(ctx context.Context, p Purpose, o Object) (err error) {
	wrapped, err := k.Wrap(ctx, p, o)
	if err != nil {
		return err
	}
	again, err := k.Unwrap(ctx, p, wrapped)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.Destroy(ctx, again)) }()
	if p == Wrap {
		_, err = k.SignECDSA(ctx, again, [32]byte{1})
		return err
	}
	return k.HMACSHA512(ctx, again, []byte("sigild/rehearsal"), new([64]byte))
}
