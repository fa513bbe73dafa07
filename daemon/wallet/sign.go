package wallet

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"

	"github.com/sigild/sigild/daemon/policy"
	"github.com/sigild/sigild/daemon/seal"
)

// SignRequest asks for one signature of one account.
type SignRequest struct {
	Peer    Peer
	Wallet  seal.ID
	Account uint32
	Sender  *[20]byte // the transaction's "from", where it has one
	Digest  [32]byte
	Facts   policy.Facts // what the digest stands for
	PIN     []byte
}

// Signed is a verified, audited signature.
type Signed struct {
	Signature
	Public   [65]byte
	Address  [20]byte
	Attempts Attempts
}

// Sign signs one digest with the PIN. The keys are in the token only while it
// runs.
func (s *Service) Sign(ctx context.Context, r *SignRequest) (*Signed, error) {
	var signed *Signed
	attempts, err := s.withPIN(ctx, r.Peer, r.Wallet, r.PIN, r.check, func(o *opened) (err error) {
		signed, err = s.signOpened(ctx, r, o)
		return err
	})
	if err != nil {
		s.refused(ctx, r, err)
		return nil, err
	}
	if err := s.audit(ctx, r.event("ok")); err != nil {
		return nil, err
	}
	signed.Attempts = attempts
	return signed, nil
}

// check decides before any charge.
func (r *SignRequest) check(p *seal.Parsed) error {
	if p.State.Frozen != 0 {
		return ErrFrozen
	}
	if int64(r.Account) >= int64(len(p.Header.Accounts)) {
		return ErrNotFound
	}
	if r.Sender != nil && subtle.ConstantTimeCompare(r.Sender[:], p.Header.Accounts[r.Account].Address) != 1 {
		return ErrSender
	}
	rules, err := policy.Decode(p.Header.Policy)
	if err != nil {
		return seal.ErrCorrupt
	}
	return decide(rules, r.Facts)
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

func (s *Service) signOpened(ctx context.Context, r *SignRequest, o *opened) (_ *Signed, err error) {
	held := &objects{token: s.Token}
	defer held.destroy(ctx, &err)
	a, err := s.unwrapAccount(ctx, held, o.Header, o.wrapped, r.Account)
	if err != nil {
		return nil, err
	}
	defer a.tweak.wipe()
	sig, err := s.tokenSign(ctx, a, r.Digest)
	if err != nil {
		return nil, err
	}
	return &Signed{Signature: *sig, Public: a.public, Address: address(a.public)}, nil
}

// tokenSign has the token sign and lets nothing out that was not verified
// against the account's public key, or that repeats a nonce.
func (s *Service) tokenSign(ctx context.Context, a *account, digest [32]byte) (*Signature, error) {
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
	return sig, s.witness(ctx, a, sig.R, digest)
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

func (r *SignRequest) event(result string) Event {
	return Event{Action: "sign", Peer: r.Peer, Wallet: r.Wallet, Account: r.Account,
		Digest: r.Digest[:], Result: result, Detail: map[string]string{"operation": string(r.Facts.Operation)}}
}

// refused audits a request that ended without a signature. Its own failure
// changes nothing for the caller, who gets the refusal either way.
func (s *Service) refused(ctx context.Context, r *SignRequest, cause error) {
	_ = s.audit(ctx, r.event(cause.Error()))
}

func (s *Service) audit(ctx context.Context, e Event) error {
	e.Time = s.Now().UTC()
	return s.Audit.Write(ctx, e)
}
