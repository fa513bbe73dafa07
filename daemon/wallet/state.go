package wallet

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/sigild/sigild/daemon/seal"
)

// Bounds of what a relay may say of a wallet.
const (
	MaxTags       = 16
	maxTag        = 64
	maxExternalID = 256
)

// Actor is who asks for a change that needs no PIN.
type Actor struct {
	Peer     Peer
	Operator bool // may act on every relay's wallets
}

// Update changes a wallet's label, tags or external id; nil leaves one as it is.
type Update struct {
	Label      *string
	ExternalID *string
	Tags       *[]string
}

func (u *Update) check() error {
	if u.Label != nil {
		if err := checkText("label", *u.Label, 0, maxLabel); err != nil {
			return err
		}
	}
	if u.ExternalID != nil {
		if err := checkText("externalId", *u.ExternalID, 0, maxExternalID); err != nil {
			return err
		}
	}
	if u.Tags != nil {
		return checkTags(*u.Tags)
	}
	return nil
}

// checkTags allows up to MaxTags different tags.
func checkTags(tags []string) error {
	if len(tags) > MaxTags {
		return &FieldError{"tags", "are too many: 16 at most"}
	}
	for n, tag := range tags {
		if err := checkText("tags", tag, 1, maxTag); err != nil {
			return err
		}
		if slices.Contains(tags[:n], tag) {
			return &FieldError{"tags", "name one twice"}
		}
	}
	return nil
}

// stateChange is a change of a record's state, which needs no PIN.
type stateChange struct {
	actor   Actor
	action  string
	wallet  seal.ID
	request *Request // that asks for it, if one does
	rated   bool     // counts as one of the changes that a relay may make in a minute
	apply   func(*seal.Parsed) error
}

func (c *stateChange) event(result string) Event {
	return Event{Action: c.action, Peer: c.actor.Peer, Wallet: c.wallet, Result: result}
}

// Update changes what a relay says of its wallet.
func (s *Service) Update(ctx context.Context, peer Peer, wallet seal.ID, u *Update) (*Info, error) {
	if err := u.check(); err != nil {
		return nil, err
	}
	c := &stateChange{actor: Actor{Peer: peer}, action: "update", wallet: wallet, rated: true}
	c.apply = func(p *seal.Parsed) error {
		if p.State.Deleted != 0 {
			return ErrDeleted
		}
		if u.Label != nil {
			p.State.Label = *u.Label
		}
		if u.ExternalID != nil {
			p.State.ExternalID = *u.ExternalID
		}
		if u.Tags != nil {
			p.State.Tags = slices.Sorted(slices.Values(*u.Tags))
		}
		return nil
	}
	return s.change(ctx, c)
}

// LabelAccount names one account of a wallet.
func (s *Service) LabelAccount(ctx context.Context, peer Peer, wallet seal.ID, account uint32, label string) (*Info, error) {
	if err := checkText("label", label, 0, maxLabel); err != nil {
		return nil, err
	}
	c := &stateChange{actor: Actor{Peer: peer}, action: "labelAccount", wallet: wallet, rated: true}
	c.apply = func(p *seal.Parsed) error {
		if p.State.Deleted != 0 {
			return ErrDeleted
		}
		if int64(account) >= int64(len(p.Header.Accounts)) {
			return ErrNotFound
		}
		for len(p.State.AccountLabels) <= int(account) {
			p.State.AccountLabels = append(p.State.AccountLabels, "")
		}
		p.State.AccountLabels[account] = label
		return nil
	}
	return s.change(ctx, c)
}

// Freeze stops every use of a wallet at once: unlocks end, and PIN checks that wait
// for their turn are refused, uncharged; one that was charged already is waited for.
// It is on disk when it returns. A wallet that is frozen stays frozen as it was, but
// what all wallets were frozen by gives way to whoever means this one.
func (s *Service) Freeze(ctx context.Context, a Actor, wallet seal.ID, by string) (*Info, error) {
	if _, err := s.loadFor(ctx, a, wallet); err != nil {
		return nil, err
	}
	return s.freeze(ctx, a, wallet, by)
}

// freeze is Freeze of a wallet that the actor is known to reach.
func (s *Service) freeze(ctx context.Context, a Actor, wallet seal.ID, by string) (*Info, error) {
	defer s.freezing.mark(wallet)()
	s.endWallet(ctx, wallet)
	return s.change(ctx, &stateChange{actor: a, action: "freeze", wallet: wallet, apply: func(p *seal.Parsed) error {
		if p.State.Deleted != 0 {
			return ErrDeleted
		}
		if p.State.Frozen == 0 {
			p.State.Frozen, p.State.FrozenBy = s.Now().Unix(), by
		} else if p.State.FrozenBy == ByAll {
			p.State.FrozenBy = by
		}
		return nil
	}})
}

// Unfreeze is the operator's. With by it leaves a wallet that somebody else froze
// as it is.
func (s *Service) Unfreeze(ctx context.Context, a Actor, wallet seal.ID, by string) (*Info, error) {
	if !a.Operator {
		return nil, ErrOperator
	}
	if by != "" {
		if p, err := s.loadFor(ctx, a, wallet); err != nil {
			return nil, err
		} else if p.State.FrozenBy != by {
			return s.info(ctx, p)
		}
	}
	if err := s.begin(ctx, a, "unfreeze", wallet); err != nil {
		return nil, err
	}
	return s.change(ctx, &stateChange{actor: a, action: "unfreeze", wallet: wallet, apply: func(p *seal.Parsed) error {
		if by == "" || by == p.State.FrozenBy {
			p.State.Frozen, p.State.FrozenBy = 0, ""
		}
		return nil
	}})
}

// begin audits what an operator, or a purge, is about to do, before it gives rights
// back or removes a wallet: a full disk must not leave it undone in the log and done
// in the database.
func (s *Service) begin(ctx context.Context, a Actor, action string, wallet seal.ID) error {
	if !a.Operator {
		return ErrOperator
	}
	return s.audit(ctx, Event{Action: action, Peer: a.Peer, Wallet: wallet, Result: "begun"})
}

// change is changeInTurn after the wallet's turn: it waits for a PIN check or
// an unlock that is under way, so that none of them outlives a freeze. What fails
// has its line too: the change may have been made.
func (s *Service) change(ctx context.Context, c *stateChange) (*Info, error) {
	info, err := s.awaitTurn(ctx, c)
	return info, s.noted(ctx, c.event(""), err)
}

func (s *Service) awaitTurn(ctx context.Context, c *stateChange) (*Info, error) {
	done, err := s.Guard.Turn(ctx, c.wallet)
	if err != nil {
		return nil, err
	}
	defer done()
	return s.changeInTurn(ctx, c)
}

// changeInTurn rewrites a record's state and its indexes in one transaction,
// and ends the wallet's unlocks when the wallet is no longer usable.
func (s *Service) changeInTurn(ctx context.Context, c *stateChange) (*Info, error) {
	p, err := s.restated(ctx, c)
	if p != nil && usable(p) != nil { // also when the change could not be written
		s.endWallet(ctx, c.wallet)
	}
	if err != nil {
		return nil, err
	}
	if err := s.audit(ctx, c.event("ok")); err != nil {
		return nil, err
	}
	return s.info(ctx, p)
}

// restated gives the record as it is after the change. What changes nothing is
// not written, and takes no step of the anchor: the TPM's flash wears out.
func (s *Service) restated(ctx context.Context, c *stateChange) (*seal.Parsed, error) {
	p, err := s.loadFor(ctx, c.actor, c.wallet)
	if err != nil {
		return nil, err
	}
	before := indexOf(p)
	changed, err := applied(p, c.apply)
	switch {
	case err != nil:
		return nil, err
	case !changed && c.request == nil:
		return p, s.Store.Settled(ctx) // the change that made it so may not be confirmed yet
	case c.rated:
		if err := s.rates.take(c.actor.Peer.UID, time.Now()); err != nil {
			return nil, err
		}
	}
	p.State.Revision++
	after := indexOf(p)
	next, err := s.restate(ctx, p)
	if err != nil {
		return p, err
	}
	return p, s.Store.Replace(ctx, Change{Wallet: c.wallet, Relay: p.Header.Relay, Prev: p.Stored, Next: next,
		Before: &before, After: &after, Request: c.request})
}

// applied applies a change and says whether the state is another one by it.
func applied(p *seal.Parsed, apply func(*seal.Parsed) error) (bool, error) {
	before, err := seal.EncodeState(p.State)
	if err != nil {
		return false, err
	}
	if err := apply(p); err != nil {
		return false, err
	}
	after, err := seal.EncodeState(p.State)
	return !bytes.Equal(before, after), err
}

// restate encodes a record whose state changed; header and box stay.
func (s *Service) restate(ctx context.Context, p *seal.Parsed) ([]byte, error) {
	state, err := seal.EncodeState(p.State)
	if err != nil {
		return nil, err
	}
	r := seal.Record{Header: p.Record.Header, Box: p.Record.Box, State: state}
	return r.Encode(ctx, s.Token.RecordMAC)
}

// indexOf is what the store finds a wallet by.
func indexOf(p *seal.Parsed) Index {
	return Index{Owner: p.Header.Owner, Created: p.Header.Created, ExternalID: p.State.ExternalID,
		Tags: slices.Clone(p.State.Tags), Deleted: p.State.Deleted}
}
