package wallet

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	"github.com/sigild/sigild/daemon/policy"
	"github.com/sigild/sigild/daemon/seal"
)

// MaxBatch is how many signatures one request may ask for.
const MaxBatch = 64

// Item is one signature that a request asks for.
type Item struct {
	Account uint32
	Address *[20]byte // names the account in place of Account, which is found; nil: Account does
	Sender  *[20]byte // the transaction's "from", where it has one
	Digest  [32]byte
	Facts   policy.Facts // what the digest stands for; their sender is found
	// Verify looks at what is dear to look at, after the owner and the policy and
	// before any charge. It is given the account; nil: there is nothing.
	Verify func(account uint32) error
}

// SignRequest asks for signatures of one wallet's accounts, all or none.
type SignRequest struct {
	Peer   Peer
	Wallet seal.ID
	Items  []Item
	PIN    []byte // nil: by the unlock that the peer holds

	// Standing is set by Sign when it signed with the PIN, for whoever keeps the
	// signatures.
	Standing *Standing
}

// Signed is a verified signature that was audited.
type Signed struct {
	Signature
	Public  [65]byte
	Address [20]byte
}

// Sign signs with the PIN, for which the keys are in the token only while it
// runs, or by an unlock. Nothing is returned unless every signature was made,
// verified and audited.
func (s *Service) Sign(ctx context.Context, r *SignRequest) ([]*Signed, Attempts, error) {
	if len(r.Items) == 0 || len(r.Items) > MaxBatch {
		return nil, Attempts{}, &FieldError{"items", fmt.Sprintf("must be 1 to %d", MaxBatch)}
	}
	signed, attempts, err := s.sign(ctx, r)
	if err != nil {
		return nil, Attempts{}, errors.Join(err, s.auditRefusal(ctx, r, err))
	}
	return signed, attempts, nil
}

// sign writes the line of what it made while a change of the wallet still waits
// for it: after a freeze was acknowledged, no signature from before it leaves.
func (s *Service) sign(ctx context.Context, r *SignRequest) (signed []*Signed, a Attempts, err error) {
	if r.PIN == nil {
		return s.signUnlocked(ctx, r)
	}
	a, err = s.withPIN(ctx, r.Peer, r.Wallet, r.PIN, s.ready(r.check), func(o *opened) error {
		r.Standing = s.standing(r.Wallet)
		if signed, err = s.signOpened(ctx, r, o); err != nil {
			return err
		}
		return s.auditItems(ctx, r, "ok")
	})
	return signed, a, err
}

// signOpened has the keys in the token only while it runs.
func (s *Service) signOpened(ctx context.Context, r *SignRequest, o *opened) (_ []*Signed, err error) {
	held := &objects{token: s.Token}
	defer held.destroy(ctx, &err)
	k, err := s.unwrapKeys(ctx, held, o.Header, o.wrapped, r.accounts())
	if err != nil {
		return nil, err
	}
	defer k.wipe()
	return s.signItems(ctx, k, r.Items, nil)
}

// accounts lists the accounts that the items need, each once.
func (r *SignRequest) accounts() []uint32 {
	var list []uint32
	seen := map[uint32]bool{}
	for _, i := range r.Items {
		if !seen[i.Account] {
			seen[i.Account] = true
			list = append(list, i.Account)
		}
	}
	return list
}

// check decides before any charge, and finds the accounts that addresses name.
func (r *SignRequest) check(p *seal.Parsed) error {
	rules, err := policy.Decode(p.Header.Policy)
	if err != nil {
		return seal.ErrCorrupt
	}
	for n := range r.Items {
		if err := r.Items[n].check(p, rules); err != nil {
			return err
		}
	}
	return nil
}

func (i *Item) check(p *seal.Parsed, rules policy.Policy) error {
	if i.Address != nil {
		account, err := accountAt(p, *i.Address)
		if err != nil {
			return err
		}
		i.Account = account
	}
	if int64(i.Account) >= int64(len(p.Header.Accounts)) {
		return ErrNotFound
	}
	if i.Sender != nil && subtle.ConstantTimeCompare(i.Sender[:], p.Header.Accounts[i.Account].Address) != 1 {
		return ErrSender
	}
	i.Facts.Sender = fmt.Sprintf("0x%x", p.Header.Accounts[i.Account].Address)
	if err := decide(rules, i.Facts); err != nil {
		return err
	}
	if i.Verify == nil {
		return nil
	}
	return i.Verify(i.Account)
}

// accountAt finds the account of an address in the record that the index named.
// The index has no MAC: when it named another wallet, somebody changed it.
func accountAt(p *seal.Parsed, address [20]byte) (uint32, error) {
	for _, a := range p.Header.Accounts {
		if [20]byte(a.Address) == address {
			return a.Index, nil
		}
	}
	return 0, seal.ErrCorrupt
}

// decide turns a decision into an error: refused by policy and unable to
// decide are different answers, and neither signs.
func decide(rules policy.Policy, f policy.Facts) error {
	switch d := rules.Decide(f); d.Verdict {
	case policy.Allow:
		return nil
	case policy.Deny:
		return &DeniedError{Reason: d.Reason}
	default:
		return fmt.Errorf("%w: %s", ErrUndecided, d.Reason)
	}
}

// signItems signs every item, or gives nothing. may, if there is one, is asked before
// each.
func (s *Service) signItems(ctx context.Context, k keyring, items []Item, may func() error) ([]*Signed, error) {
	list := make([]*Signed, 0, len(items))
	for _, i := range items {
		if may != nil {
			if err := may(); err != nil {
				return nil, err
			}
		}
		a := k[i.Account]
		if a == nil {
			return nil, ErrNotFound
		}
		sig, err := s.tokenSign(ctx, a, i.Digest)
		if err != nil {
			return nil, err
		}
		list = append(list, &Signed{Signature: *sig, Public: a.public, Address: address(a.public)})
	}
	return list, nil
}

// tokenSign has the token sign and lets nothing out that was not verified
// against the account's public key, or that repeats a nonce. A token that gave
// such an answer signs nothing more, whoever asks next.
func (s *Service) tokenSign(ctx context.Context, a *account, digest [32]byte) (*Signature, error) {
	sig, err := s.verifiedSign(ctx, a, digest)
	if errors.Is(err, ErrToken) || errors.Is(err, ErrNonceReused) {
		s.Token.Distrust(err)
	}
	return sig, err
}

func (s *Service) verifiedSign(ctx context.Context, a *account, digest [32]byte) (*Signature, error) {
	blinded, err := a.tweak.blind(digest)
	if err != nil {
		return nil, err
	}
	raw, err := s.Token.SignECDSA(ctx, a.root, blinded)
	if err != nil {
		return nil, err
	}
	sig, err := a.tweak.finish(raw, digest, a.public)
	if err != nil {
		return nil, err
	}
	if err := s.witness(ctx, a, sig.R, digest); err != nil {
		return nil, err
	}
	return sig, nil
}

// witness remembers, on disk, which digest a root's nonce was used for. One r
// with two digests gives the root away. The same r for the same digest is the
// same signature, as tokens with deterministic nonces (RFC 6979) give it.
func (s *Service) witness(ctx context.Context, a *account, r, digest [32]byte) error {
	b := append([]byte("sigild/nonce/v1"), compress(a.point)...)
	key := sha256.Sum256(append(b, r[:]...))
	value := sha256.Sum256(digest[:])
	before, err := s.Store.Nonce(ctx, [16]byte(key[:]), [16]byte(value[:]))
	if err != nil {
		return err
	}
	if before != nil && *before != [16]byte(value[:]) {
		return ErrNonceReused
	}
	return nil
}

// auditRefusal is auditItems for a caller that may be gone: a charge must not
// be without its line.
func (s *Service) auditRefusal(ctx context.Context, r *SignRequest, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditTimeout)
	defer cancel()
	return s.auditItems(ctx, r, reasonOf(cause))
}

// auditItems writes a line for each item, on disk when it returns.
func (s *Service) auditItems(ctx context.Context, r *SignRequest, result string) error {
	events := make([]Event, len(r.Items))
	for n, i := range r.Items {
		events[n] = Event{Time: s.Now().UTC(), Action: "sign", Peer: r.Peer, Wallet: r.Wallet, Account: i.Account,
			Digest: i.Digest[:], Result: result, Detail: map[string]string{"operation": string(i.Facts.Operation)}}
	}
	return s.Audit.Write(ctx, events...)
}

// auditTimeout bounds a line whose caller may be gone.
const auditTimeout = 10 * time.Second

// auditAnyway writes a line also when its caller is gone: of a request that was refused
// or failed, or of what was done already.
func (s *Service) auditAnyway(ctx context.Context, e Event) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditTimeout)
	defer cancel()
	return s.audit(ctx, e)
}

func (s *Service) audit(ctx context.Context, e Event) error {
	e.Time = s.Now().UTC()
	return s.Audit.Write(ctx, e)
}
