package wallet

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"

	"github.com/sigild/sigild/daemon/seal"
)

const accountLabel = "sigild/account/v1"

// tweakInput is what the derivation key's HMAC covers for one account:
// label ‖ length of the curve's name (1 byte) ‖ name ‖ index (4 bytes, big endian).
func tweakInput(curve seal.Curve, index uint32) []byte {
	b := append([]byte(accountLabel), byte(len(curve)))
	b = append(b, curve...)
	return binary.BigEndian.AppendUint32(b, index)
}

// objects are the session objects of one request; destroy ends them all.
type objects struct {
	token Token
	held  []Object
}

func (o *objects) add(object Object, err error) (Object, error) {
	if err == nil {
		o.held = append(o.held, object)
	}
	return object, err
}

// destroy adds its own failure to *err: a request whose keys may have stayed
// in the token has not gone well.
func (o *objects) destroy(ctx context.Context, err *error) {
	*err = errors.Join(*err, o.token.Destroy(ctx, o.held...))
}

// account is an account ready to sign: its root as a session object, whose
// owner is an objects, and its tweak, to be wiped.
type account struct {
	root   Object
	tweak  *tweak
	public [65]byte // t·P_h
	point  [65]byte // P_h, the root's public half
	// imported: the root is the whole private key, and t is 1.
	imported bool
}

// newTweak has the token compute an account's tweak from the derivation key.
func (s *Service) newTweak(ctx context.Context, derivation Object, index uint32) (*tweak, error) {
	wide := new([64]byte)
	defer clear(wide[:])
	if err := s.Token.HMACSHA512(ctx, derivation, tweakInput(seal.Secp256k1, index), wide); err != nil {
		return nil, err
	}
	return newTweak(wide)
}

// tweakOf gives a stored account's tweak.
func (s *Service) tweakOf(ctx context.Context, derivation Object, a *seal.Account) (*tweak, error) {
	if a.Custody == seal.CustodyImport {
		return oneTweak(), nil
	}
	return s.newTweak(ctx, derivation, a.Index)
}

// generateRoot makes the root pair of a new account.
func (s *Service) generateRoot(ctx context.Context, held *objects) (*account, error) {
	root, point, err := s.Token.GenerateRoot(ctx)
	if _, err := held.add(root, err); err != nil {
		return nil, err
	}
	return &account{root: root, point: point}, nil
}

// derive gives a new account its tweak and its public key.
func (s *Service) derive(ctx context.Context, a *account, derivation Object, index uint32) (err error) {
	if a.imported {
		a.tweak, a.public = oneTweak(), a.point
		return nil
	}
	if a.tweak, err = s.newTweak(ctx, derivation, index); err != nil {
		return err
	}
	if a.public, err = a.tweak.public(a.point); err != nil {
		a.tweak.wipe()
	}
	return err
}

// describe gives the account's public side for the header.
func (s *Service) describe(a *account, index uint32, created int64) seal.Account {
	addr, custody := address(a.public), s.Token.Custody()
	if a.imported {
		custody = seal.CustodyImport
	}
	return seal.Account{
		Index: index, Curve: seal.Secp256k1, Public: compress(a.public), Root: compress(a.point),
		Address: addr[:], Custody: custody, Created: created,
	}
}

// seal closes the wrapped keys under the PIN with fresh salt and gives the
// bytes to store. They were opened once more, unwrapped by the token, and each
// account from fresh on, at least the newest, signed and was verified.
func (s *Service) seal(ctx context.Context, pin []byte, h *seal.Header, st *seal.State, w *seal.Wrapped, fresh int) ([]byte, error) {
	h.KDF = s.KDF
	h.KDF.Salt = seal.NewSalt()
	key, err := s.newKey(ctx, pin, h)
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	data, err := s.encode(ctx, key, h, st, w)
	if err != nil {
		return nil, err
	}
	return data, s.rehearse(ctx, key, data, h.Wallet, min(fresh, len(h.Accounts)-1))
}

func (s *Service) newKey(ctx context.Context, pin []byte, h *seal.Header) (*seal.Key, error) {
	release, err := s.slots.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	factors, err := s.Token.Factors(h.Keys)
	if err != nil {
		return nil, err
	}
	return seal.DeriveKey(ctx, pin, h.Wallet, h.KDF, factors)
}

func (s *Service) encode(ctx context.Context, key *seal.Key, h *seal.Header, st *seal.State, w *seal.Wrapped) ([]byte, error) {
	header, err := h.Encode()
	if err != nil {
		return nil, err
	}
	box, err := seal.Close(key, header, w)
	if err != nil {
		return nil, err
	}
	state, err := seal.EncodeState(st)
	if err != nil {
		return nil, err
	}
	r := seal.Record{Header: header, Box: box, State: state}
	return r.Encode(ctx, s.Token.RecordMAC)
}

// rehearse does what a later signature will do with the stored bytes, so that
// no wallet is acknowledged that cannot sign.
func (s *Service) rehearse(ctx context.Context, key *seal.Key, data []byte, id seal.ID, fresh int) (err error) {
	p, err := seal.Parse(ctx, data, s.Installation, id, s.Token.RecordMAC)
	if err != nil {
		return err
	}
	w, err := seal.Open(key, p.Record.Header, p.Record.Box)
	if err != nil {
		return err
	}
	defer w.Wipe()
	held := &objects{token: s.Token}
	defer held.destroy(ctx, &err)
	var accounts []uint32
	for index := fresh; index < len(p.Header.Accounts); index++ {
		accounts = append(accounts, uint32(index))
	}
	k, err := s.unwrapKeys(ctx, held, p.Header, w, accounts)
	if err != nil {
		return err
	}
	defer k.wipe()
	for _, a := range k {
		var digest [32]byte
		rand.Read(digest[:])
		if _, err := s.tokenSign(ctx, a, digest); err != nil {
			return err
		}
	}
	return nil
}
