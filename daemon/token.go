package daemon

import (
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/sigild/sigild/daemon/config"
	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/wallet"
	"github.com/sigild/sigild/daemon/wipe"
	"github.com/sigild/sigild/hsm"
	"github.com/sigild/sigild/tpm"
)

// ErrKeyGone is returned for a record that needs a generation of token keys or
// a host key that this installation does not have.
var ErrKeyGone = errors.New("the record needs a key that this installation does not have")

// token joins the PKCS#11 token and the TPM host keys to what wallets need. It
// takes the keys anew for each call, since they are lost with the log-in.
type token struct {
	line      *hsm.Supervisor
	chip      *tpmLine
	config    config.Token
	mechanism map[uint32]uint64 // by generation
	hosts     map[uint32]*tpm.HMACKey
	newest    seal.KeyIDs
	fault     tokenFault
	// distrusted is called once when the token goes out of service.
	distrusted func(*faultMark)
	unfed      atomic.Pointer[hsm.Error] // why the token took no randomness last time
}

func (t *token) Keys() seal.KeyIDs { return t.newest }
func (t *token) Mechanism() uint64 { return t.mechanism[t.newest.Token] }

// Custody is that of the token seen last; new wallets need it to be there.
func (t *token) Custody() seal.Custody {
	c := t.line.Last()
	if c == nil {
		return custody(t.config, hsm.Info{})
	}
	return custody(t.config, c.Info)
}

// keys gives a generation's keys as they are now, unless the token is out of
// service.
func (t *token) keys(ctx context.Context, generation uint32) (*hsm.Keys, error) {
	if err := t.fault.check(); err != nil {
		return nil, err
	}
	return t.standing(ctx, generation)
}

// standing gives them also while the token is out of service.
func (t *token) standing(ctx context.Context, generation uint32) (*hsm.Keys, error) {
	if _, known := t.mechanism[generation]; !known {
		return nil, fmt.Errorf("%w: generation %d", ErrKeyGone, generation)
	}
	c, err := t.line.Connection(ctx)
	if err != nil {
		return nil, err
	}
	return c.Keys(generation), nil
}

// with runs a call that may be repeated, and repeats it once after a fault of
// the session, the log-in or the device, as soon as the token is back.
func with[T any](ctx context.Context, t *token, generation uint32, call func(*hsm.Keys) (T, error)) (T, error) {
	return repeatable(ctx, t.keys, generation, call)
}

func repeatable[T any](ctx context.Context, open func(context.Context, uint32) (*hsm.Keys, error), generation uint32,
	call func(*hsm.Keys) (T, error)) (T, error) {
	var zero T
	keys, err := open(ctx, generation)
	if err != nil {
		return zero, err
	}
	value, err := call(keys)
	if err == nil || !hsm.Recoverable(err) || ctx.Err() != nil {
		return value, err
	}
	keys, away := open(ctx, generation)
	if away != nil {
		return zero, fmt.Errorf("%w: %w", away, err)
	}
	return call(keys)
}

// newRoot is what GenerateRoot gives.
type newRoot struct {
	object hsm.Object
	point  [65]byte
}

func (t *token) GenerateRoot(ctx context.Context) (wallet.Object, [65]byte, error) {
	r, err := with(ctx, t, t.newest.Token, func(k *hsm.Keys) (r newRoot, err error) {
		r.object, r.point, err = k.GenerateRoot(ctx)
		return r, err
	})
	return r.object, r.point, err
}

func (t *token) ImportSecret(ctx context.Context, secret []byte) (wallet.Object, error) {
	return with(ctx, t, t.newest.Token, func(k *hsm.Keys) (hsm.Object, error) { return k.ImportSecret(ctx, secret) })
}

func (t *token) CanImport(ctx context.Context) error {
	return t.can(ctx, (*hsm.Keys).CanImport)
}

func (t *token) CanExport(ctx context.Context) error {
	return t.can(ctx, (*hsm.Keys).CanExport)
}

// can asks what was found out when the keys were opened. The token's answer is
// for people: it is no fault of now.
func (t *token) can(ctx context.Context, ability func(*hsm.Keys) error) error {
	keys, err := t.keys(ctx, t.newest.Token)
	if err != nil {
		return err
	}
	if err := ability(keys); err != nil {
		return fmt.Errorf("%w: %v", wallet.ErrCustody, err)
	}
	return nil
}

func (t *token) ImportRoot(ctx context.Context, scalar *[32]byte) (wallet.Object, [65]byte, error) {
	r, err := with(ctx, t, t.newest.Token, func(k *hsm.Keys) (r newRoot, err error) {
		r.object, r.point, err = k.ImportRoot(ctx, scalar)
		return r, err
	})
	return r.object, r.point, err
}

// ExportRoot has the token wrap the root under a key that lives for this call
// only, here and in the token.
func (t *token) ExportRoot(ctx context.Context, o wallet.Object, scalar *[32]byte) error {
	known := new([32]byte)
	defer clear(known[:])
	rand.Read(known[:])
	wrapped, err := useObject(ctx, t, o, func(k *hsm.Keys, o hsm.Object) ([]byte, error) { return k.WrapKnown(ctx, o, known) })
	defer clear(wrapped)
	if err != nil {
		return err
	}
	wipe.Do(func() { err = hsm.UnwrapKnown(known, wrapped, scalar) })
	if err != nil {
		return fmt.Errorf("%w: %w", wallet.ErrToken, err)
	}
	return nil
}

func (t *token) Wrap(ctx context.Context, k seal.KeyIDs, c wallet.Class, o wallet.Object) ([]byte, error) {
	p, err := purpose(c)
	if err != nil {
		return nil, err
	}
	return with(ctx, t, k.Token, func(k *hsm.Keys) ([]byte, error) { return k.Wrap(ctx, p, o.(hsm.Object)) })
}

func (t *token) Unwrap(ctx context.Context, k seal.KeyIDs, mechanism uint64, c wallet.Class, wrapped []byte) (wallet.Object, error) {
	if known, ok := t.mechanism[k.Token]; !ok || mechanism != known {
		return nil, fmt.Errorf("%w: generation %d, mechanism %#x", ErrKeyGone, k.Token, mechanism)
	}
	p, err := purpose(c)
	if err != nil {
		return nil, err
	}
	return with(ctx, t, k.Token, func(k *hsm.Keys) (hsm.Object, error) { return k.Unwrap(ctx, p, wrapped) })
}

func purpose(c wallet.Class) (hsm.Purpose, error) {
	switch c {
	case wallet.Root:
		return hsm.Wrap, nil
	case wallet.Derivation:
		return hsm.WrapSecret, nil
	case wallet.ExportableRoot:
		return hsm.WrapExport, nil
	case wallet.ExportableDerivation:
		return hsm.WrapExportSecret, nil
	}
	return 0, fmt.Errorf("no wrap key for class %d", c)
}

func (t *token) HMACSHA512(ctx context.Context, o wallet.Object, data []byte, mac *[64]byte) error {
	_, err := useObject(ctx, t, o, func(k *hsm.Keys, o hsm.Object) (struct{}, error) {
		return struct{}{}, k.HMACSHA512(ctx, o, data, mac)
	})
	return err
}

func (t *token) SignECDSA(ctx context.Context, o wallet.Object, digest [32]byte) ([64]byte, error) {
	return useObject(ctx, t, o, func(k *hsm.Keys, o hsm.Object) ([64]byte, error) { return k.SignECDSA(ctx, o, digest) })
}

// useObject runs a call on a session object. An object that is gone is said to
// be so whatever else is wrong: its owner must unlock again.
func useObject[T any](ctx context.Context, t *token, o wallet.Object, call func(*hsm.Keys, hsm.Object) (T, error)) (T, error) {
	object := o.(hsm.Object)
	value, err := with(ctx, t, t.newest.Token, func(k *hsm.Keys) (T, error) { return call(k, object) })
	if err != nil && object.Lost() {
		return value, fmt.Errorf("%w: %w", wallet.ErrObjectLost, err)
	}
	return value, err
}

// Destroy needs no working token: objects of one that is gone went with it.
func (t *token) Destroy(ctx context.Context, objects ...wallet.Object) error {
	c := t.line.Last()
	if c == nil {
		return nil
	}
	list := make([]hsm.Object, 0, len(objects))
	for _, o := range objects {
		list = append(list, o.(hsm.Object))
	}
	return c.Keys(t.newest.Token).Destroy(ctx, list...)
}

// FeedRandom is best effort by its nature: most tokens refuse C_SeedRandom, each
// with a code of its own, and the mix does not depend on it. The status tells. A
// fault of the device is an error, as with any call.
func (t *token) FeedRandom(ctx context.Context, feed []byte) error {
	c, err := t.line.Connection(ctx)
	if err != nil {
		return err
	}
	err = c.Token.SeedRandom(ctx, feed)
	var refusal *hsm.Error
	if errors.As(err, &refusal) && refusal.Class == hsm.GiveUp {
		t.unfed.Store(refusal)
		return nil
	}
	if err == nil {
		t.unfed.Store(nil)
	}
	return err
}

// Random is the token as a source of randomness.
func (t *token) Random(ctx context.Context, n int) ([]byte, error) {
	c, err := t.line.Connection(ctx)
	if err != nil {
		return nil, err
	}
	return c.Token.Random(ctx, n)
}

func (t *token) RecordMAC(ctx context.Context, message []byte) ([32]byte, error) {
	return with(ctx, t, t.newest.Token, func(k *hsm.Keys) ([32]byte, error) { return k.HMAC(ctx, hsm.Record, message) })
}

// guardMAC is RecordMAC for the guard. It serves also while the token is out of
// service, so that an attempt that was charged just before is given back; an
// HMAC gives no key away.
func (t *token) guardMAC(ctx context.Context, message []byte) ([32]byte, error) {
	return repeatable(ctx, t.standing, t.newest.Token, func(k *hsm.Keys) ([32]byte, error) { return k.HMAC(ctx, hsm.Record, message) })
}

func (t *token) SignReceipt(ctx context.Context, digest [32]byte) ([]byte, error) {
	return with(ctx, t, t.newest.Token, func(k *hsm.Keys) ([]byte, error) {
		signer, err := k.Signer(hsm.Identity)
		if err != nil {
			return nil, err
		}
		return signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	})
}

// Factors refuses before anything is charged when a device is away.
func (t *token) Factors(k seal.KeyIDs) (seal.Factors, error) {
	host := t.hosts[k.Host]
	if _, known := t.mechanism[k.Token]; !known || host == nil {
		return nil, fmt.Errorf("%w: generation %d, host key %d", ErrKeyGone, k.Token, k.Host)
	}
	if _, err := t.keys(context.Background(), k.Token); err != nil { // waits for the patience at most
		return nil, err
	}
	if err := t.chip.gate.wait(context.Background()); err != nil {
		t.chip.kick()
		return nil, err
	}
	return factors{t, k.Token, host}, nil
}

type factors struct {
	token      *token
	generation uint32
	host       *tpm.HMACKey
}

func (f factors) Pepper(ctx context.Context, message []byte, h1 *[32]byte) error {
	_, err := with(ctx, f.token, f.generation, func(k *hsm.Keys) (struct{}, error) {
		return struct{}{}, k.HMACInto(ctx, hsm.PIN, message, h1)
	})
	return err
}

func (f factors) Host(ctx context.Context, message []byte, h2 *[32]byte) error {
	return f.token.chip.mac(ctx, f.host, message, h2)
}
