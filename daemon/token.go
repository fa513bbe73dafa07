package daemon

import (
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/wallet"
	"github.com/sigild/sigild/hsm"
	"github.com/sigild/sigild/tpm"
)

// ErrKeyGone is returned for a record that needs a generation of token keys or
// a host key that this installation does not have.
var ErrKeyGone = errors.New("the record needs a key that this installation does not have")

// token joins the PKCS#11 token and the TPM host keys to what wallets need.
type token struct {
	module    *hsm.Token
	keys      map[uint32]*hsm.Keys // by generation
	mechanism map[uint32]uint64
	hosts     map[uint32]*tpm.HMACKey
	newest    seal.KeyIDs
	identity  crypto.Signer
	custody   seal.Custody
}

func (t *token) Keys() seal.KeyIDs     { return t.newest }
func (t *token) Mechanism() uint64     { return t.mechanism[t.newest.Token] }
func (t *token) Custody() seal.Custody { return t.custody }
func (t *token) current() *hsm.Keys    { return t.keys[t.newest.Token] }

func (t *token) GenerateRoot(ctx context.Context) (wallet.Object, [65]byte, error) {
	o, p, err := t.current().GenerateRoot(ctx)
	return o, p, err
}

func (t *token) ImportSecret(ctx context.Context, secret []byte) (wallet.Object, error) {
	return t.current().ImportSecret(ctx, secret)
}

func (t *token) Wrap(ctx context.Context, k seal.KeyIDs, c wallet.Class, o wallet.Object) ([]byte, error) {
	keys, known := t.keys[k.Token]
	if !known {
		return nil, fmt.Errorf("%w: generation %d", ErrKeyGone, k.Token)
	}
	p, err := purpose(c)
	if err != nil {
		return nil, err
	}
	return keys.Wrap(ctx, p, o.(hsm.Object))
}

func (t *token) Unwrap(ctx context.Context, k seal.KeyIDs, mechanism uint64, c wallet.Class, wrapped []byte) (wallet.Object, error) {
	keys, known := t.keys[k.Token]
	if !known || mechanism != t.mechanism[k.Token] {
		return nil, fmt.Errorf("%w: generation %d, mechanism %#x", ErrKeyGone, k.Token, mechanism)
	}
	p, err := purpose(c)
	if err != nil {
		return nil, err
	}
	return keys.Unwrap(ctx, p, wrapped)
}

func purpose(c wallet.Class) (hsm.Purpose, error) {
	switch c {
	case wallet.Root:
		return hsm.Wrap, nil
	case wallet.Derivation:
		return hsm.WrapSecret, nil
	}
	return 0, fmt.Errorf("no wrap key for class %d", c)
}

func (t *token) HMACSHA512(ctx context.Context, o wallet.Object, data []byte) ([64]byte, error) {
	return t.current().HMACSHA512(ctx, o.(hsm.Object), data)
}

func (t *token) SignECDSA(ctx context.Context, o wallet.Object, digest [32]byte) ([64]byte, error) {
	sig, err := t.current().SignECDSA(ctx, o.(hsm.Object), digest)
	if errors.Is(err, hsm.ErrObjectLost) {
		return sig, fmt.Errorf("%w: %w", wallet.ErrObjectLost, err)
	}
	return sig, err
}

func (t *token) Destroy(ctx context.Context, objects ...wallet.Object) error {
	list := make([]hsm.Object, 0, len(objects))
	for _, o := range objects {
		list = append(list, o.(hsm.Object))
	}
	return t.current().Destroy(ctx, list...)
}

// FeedRandom is best effort by its nature: most tokens refuse C_SeedRandom,
// and the mix does not depend on it.
func (t *token) FeedRandom(ctx context.Context, feed []byte) error {
	err := t.module.SeedRandom(ctx, feed)
	if errors.Is(err, hsm.ErrUnsupported) {
		return nil
	}
	return err
}

func (t *token) RecordMAC(ctx context.Context, message []byte) ([32]byte, error) {
	return t.current().HMAC(ctx, hsm.Record, message)
}

func (t *token) SignReceipt(_ context.Context, digest [32]byte) ([]byte, error) {
	return t.identity.Sign(rand.Reader, digest[:], crypto.SHA256)
}

func (t *token) Factors(k seal.KeyIDs) (seal.Factors, error) {
	keys, host := t.keys[k.Token], t.hosts[k.Host]
	if keys == nil || host == nil {
		return nil, fmt.Errorf("%w: generation %d, host key %d", ErrKeyGone, k.Token, k.Host)
	}
	return factors{keys, host}, nil
}

type factors struct {
	keys *hsm.Keys
	host *tpm.HMACKey
}

func (f factors) Pepper(ctx context.Context, message []byte) ([32]byte, error) {
	return f.keys.HMAC(ctx, hsm.PIN, message)
}

func (f factors) Host(ctx context.Context, message []byte) ([32]byte, error) {
	return f.host.HMAC(ctx, message)
}
