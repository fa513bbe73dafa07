package hsm

import (
	"context"
	"errors"
	"fmt"
)

// rehearsalBytes is how long the secret of a rehearsal is: as long as a seed, since
// SoftHSM takes no shorter key for HMAC-SHA-512.
const rehearsalBytes = 64

const rehearsalText = "sigild/rehearsal"

// Rehearse does once, with keys that exist for that time only, what wallets ask of
// the token: unwrapping, HMAC and a signature, as their use does, and then random
// bytes, a new root, an imported secret and wrapping, as their creation does. An
// error of the first kind is ErrUnusable. Nothing is left on the token.
func (k *Keys) Rehearse(ctx context.Context) error {
	if err := k.rehearseUse(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrUnusable, err)
	}
	return k.rehearseCreation(ctx)
}

func (k *Keys) rehearseUse(ctx context.Context) error {
	if _, err := k.HMAC(ctx, PIN, []byte(rehearsalText)); err != nil {
		return err
	}
	return errors.Join(
		k.rehearseUnwrapped(ctx, WrapSecret, k.wraps[WrapSecret].control),
		k.rehearseUnwrapped(ctx, Wrap, k.wraps[Wrap].control))
}

func (k *Keys) rehearseCreation(ctx context.Context) (err error) {
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
func (k *Keys) rehearseWrapped(ctx context.Context, p Purpose, o Object) error {
	wrapped, err := k.Wrap(ctx, p, o)
	if err != nil {
		return err
	}
	return k.rehearseUnwrapped(ctx, p, wrapped)
}

func (k *Keys) rehearseUnwrapped(ctx context.Context, p Purpose, wrapped []byte) (err error) {
	again, err := k.Unwrap(ctx, p, wrapped)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.Destroy(ctx, again)) }()
	if p == Wrap {
		_, err = k.SignECDSA(ctx, again, [32]byte{1})
		return err
	}
	return k.HMACSHA512(ctx, again, []byte(rehearsalText), new([64]byte))
}
