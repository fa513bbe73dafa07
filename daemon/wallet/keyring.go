package wallet

import (
	"context"

	"github.com/sigild/sigild/daemon/seal"
)

// keyring holds the accounts of one wallet that are ready to sign.
type keyring map[uint32]*account

// wipe overwrites the tweaks. The roots belong to whoever holds the objects.
func (k keyring) wipe() {
	for _, a := range k {
		a.tweak.wipe()
	}
}

// unwrapKeys brings accounts of an opened record into the token. The derivation
// key stays only while the tweaks are derived.
func (s *Service) unwrapKeys(ctx context.Context, held *objects, h *seal.Header, w *seal.Wrapped, accounts []uint32) (_ keyring, err error) {
	derivation, err := s.Token.Unwrap(ctx, h.Keys, h.Mechanism, derivationClass(h), w.Derivation)
	if err != nil {
		return nil, err
	}
	k := keyring{}
	defer func() {
		if err != nil {
			k.wipe()
		}
	}()
	passing := &objects{token: s.Token, held: []Object{derivation}}
	defer passing.destroy(ctx, &err)
	for _, index := range accounts {
		if k[index], err = s.unwrapAccount(ctx, held, h, w, derivation, index); err != nil {
			delete(k, index)
			return nil, err
		}
	}
	return k, nil
}

// unwrapAccount brings one account into the token.
func (s *Service) unwrapAccount(ctx context.Context, held *objects, h *seal.Header, w *seal.Wrapped, derivation Object, index uint32) (*account, error) {
	if int64(index) >= int64(len(h.Accounts)) {
		return nil, ErrNotFound
	}
	public, err := decompress(h.Accounts[index].Public)
	if err != nil {
		return nil, err
	}
	point, err := decompress(h.Accounts[index].Root)
	if err != nil {
		return nil, err
	}
	root, err := held.add(s.Token.Unwrap(ctx, h.Keys, h.Mechanism, rootClass(h), w.Roots[index]))
	if err != nil {
		return nil, err
	}
	t, err := s.tweakOf(ctx, derivation, &h.Accounts[index])
	if err != nil {
		return nil, err
	}
	return &account{root: root, tweak: t, public: public, point: point}, nil
}
