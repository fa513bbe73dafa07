package wallet

import (
	"context"
	"crypto/rand"
	"slices"
	"time"

	"github.com/sigild/sigild/daemon/policy"
	"github.com/sigild/sigild/daemon/seal"
)

// CreateRequest asks for a new wallet.
type CreateRequest struct {
	Peer      Peer
	RequestID string // 1 to 128 bytes, chosen by the relay; the same id is the same wallet
	Owner     string // 1 to 256 bytes: the relay's name for its user
	// ExternalID is the relay's name for the wallet, unique for the relay, up
	// to 256 bytes; empty: none.
	ExternalID string
	Tags       []string // up to MaxTags of up to 64 bytes
	Label      string   // up to 256 bytes
	Policy     policy.Policy
	PIN        []byte
	Digest     [32]byte  // of the parameters without the PIN
	Exportable bool      // the PIN can give the keys out; for ever, and from the first
	Import     *Imported // account 0; nil: the token makes it
	Repetition
}

// Created is the answer to a creation.
type Created struct {
	Existing bool // the request was carried out before
	Info     *Info
	Receipt  *Receipt
}

func (r *CreateRequest) check() error {
	if err := checkText("requestId", r.RequestID, 1, maxRequestID); err != nil {
		return err
	}
	if err := checkText("owner", r.Owner, 1, maxOwner); err != nil {
		return err
	}
	if err := r.Policy.Validate(); err != nil {
		return &FieldError{"policy", err.Error()}
	}
	u := Update{Label: &r.Label, ExternalID: &r.ExternalID, Tags: &r.Tags}
	return u.check()
}

// method is what receipts, the audit log and request ids know it by.
func (r *CreateRequest) method() string {
	if r.Import != nil {
		return "importWallet"
	}
	return "createWallet"
}

// Create makes a wallet with one account, whose key the token makes or, with
// Import, is brought in. It is idempotent: the same request id with the same
// parameters gives the wallet that it made, to its PIN; see Repetition.
func (s *Service) Create(ctx context.Context, r *CreateRequest) (*Created, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	key, err := s.requestKey(ctx, r.Peer.UID, r.Owner, r.method(), r.RequestID)
	if err != nil {
		return nil, err
	}
	d, existing, err := s.once(ctx, &idempotent{key: key, digest: r.Digest, event: r.event(seal.ID{}, "ok"),
		run: func() error {
			if err := s.admits(ctx, r, key); err != nil {
				return err
			}
			if err := s.rates.take(r.Peer.UID, time.Now()); err != nil {
				return err
			}
			return s.create(ctx, r, key)
		},
		again: func(d *done) error {
			return s.confirm(ctx, r.Repetition, r.event(d.Wallet, "ok"), r.PIN, s.usable)
		}})
	if err != nil {
		return nil, err
	}
	info, err := s.Get(ctx, r.Peer, d.Wallet)
	if err != nil {
		return nil, err
	}
	receipt, err := s.receipt(ctx, r.method(), d, info)
	return &Created{Existing: existing, Info: info, Receipt: receipt}, err
}

func (r *CreateRequest) event(id seal.ID, result string) Event {
	return Event{Action: r.method(), Peer: r.Peer, Wallet: id, Digest: r.Digest[:], Result: result}
}

// admits refuses what can be seen before any key is made.
func (s *Service) admits(ctx context.Context, r *CreateRequest, key RequestKey) error {
	if err := s.permits(ctx, r); err != nil {
		return err
	}
	if r.Import != nil {
		if err := s.admitsImport(ctx, r, key); err != nil {
			return err
		}
	}
	return seal.CheckNew(r.PIN)
}

// permits asks the operator and the token for a key that comes from elsewhere, or
// may go there.
func (s *Service) permits(ctx context.Context, r *CreateRequest) error {
	if r.Exportable {
		if err := s.mayExport(ctx); err != nil {
			return err
		}
	}
	if r.Import == nil {
		return nil
	}
	return s.mayImport(ctx)
}

// create makes and stores the wallet and writes the audit line. The sources and the
// PIN's slot may have taken long: what the operator forbade meanwhile is not stored.
func (s *Service) create(ctx context.Context, r *CreateRequest, key RequestKey) error {
	var id seal.ID
	rand.Read(id[:])
	now := s.Now().Unix()
	request, err := s.request(ctx, key, &done{Digest: r.Digest, Wallet: id, Time: now})
	if err != nil {
		return err
	}
	row, err := s.Guard.NewRow(ctx, id)
	if err != nil {
		return err
	}
	n := NewWallet{Wallet: id, Relay: r.Peer.UID, Guard: row, Request: *request,
		Index: Index{Owner: r.Owner, Created: now, ExternalID: r.ExternalID, Tags: slices.Sorted(slices.Values(r.Tags))}}
	if err := s.forge(ctx, r, &n); err != nil {
		return err
	}
	if err := s.permits(ctx, r); err != nil {
		return err
	}
	if err := s.Store.Create(ctx, n); err != nil {
		return s.noted(ctx, r.event(id, ""), err)
	}
	return s.audit(ctx, r.event(id, "ok"))
}

// forge makes the keys: the token's root pair first, so that the token cannot
// choose it by the seed, then the derivation key from the mixed entropy. A key
// that is brought in comes before the sources are asked: it may be a wrong one.
func (s *Service) forge(ctx context.Context, r *CreateRequest, n *NewWallet) (err error) {
	held := &objects{token: s.Token}
	defer held.destroy(ctx, &err)
	var a *account
	if r.Import != nil {
		if a, err = s.importRoot(ctx, held, r.Import); err != nil {
			return err
		}
	}
	seed, err := s.Entropy.Seed(ctx, n.Wallet)
	if err != nil {
		return err
	}
	defer seed.Wipe()
	if err := s.Token.FeedRandom(ctx, seed.TokenFeed()); err != nil {
		return err
	}
	if a == nil {
		if a, err = s.generateRoot(ctx, held); err != nil {
			return err
		}
	}
	derivation, err := held.add(s.Token.ImportSecret(ctx, seed.Bytes()))
	if err != nil {
		return err
	}
	sources := seed.Sources()
	seed.Wipe()
	if err := s.derive(ctx, a, derivation, 0); err != nil {
		return err
	}
	defer a.tweak.wipe()
	return s.sealNew(ctx, r, n, a, derivation, sources)
}

func (s *Service) sealNew(ctx context.Context, r *CreateRequest, n *NewWallet, a *account, derivation Object, sources []seal.Source) error {
	rules, err := r.Policy.Encode()
	if err != nil {
		return err
	}
	h := &seal.Header{
		Format: seal.Format, Wallet: n.Wallet, Installation: s.Installation, Created: n.Index.Created,
		Keys: s.Token.Keys(), Mechanism: s.Token.Mechanism(),
		Accounts: []seal.Account{s.describe(a, 0, n.Index.Created)},
		Relay:    r.Peer.UID, Owner: r.Owner, Policy: rules, Exportable: r.Exportable, Limits: s.Limits,
		Sources: sources, Dropped: s.Entropy.Dropped(),
	}
	w, err := s.wrap(ctx, h, derivation, a.root)
	if err != nil {
		return err
	}
	defer w.Wipe()
	n.Address = address(a.public)
	n.Record, err = s.seal(ctx, r.PIN, h, &seal.State{Revision: 1, Label: r.Label, ExternalID: r.ExternalID, Tags: n.Index.Tags}, w, 0)
	return err
}

// wrap has the token encrypt a new wallet's keys.
func (s *Service) wrap(ctx context.Context, h *seal.Header, derivation, root Object) (*seal.Wrapped, error) {
	k, err := s.Token.Wrap(ctx, h.Keys, derivationClass(h), derivation)
	if err != nil {
		return nil, err
	}
	w := &seal.Wrapped{Derivation: k}
	d, err := s.Token.Wrap(ctx, h.Keys, rootClass(h), root)
	if err != nil {
		w.Wipe()
		return nil, err
	}
	w.Roots = [][]byte{d}
	return w, nil
}
