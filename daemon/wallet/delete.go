package wallet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sigild/sigild/daemon/seal"
)

// DeleteRequest asks for a wallet's deletion, by its PIN or by an operator.
type DeleteRequest struct {
	Actor
	RequestID string
	Wallet    seal.ID
	PIN       []byte // nil: by an operator
	Digest    [32]byte
	Repetition
}

// DeletedWallet is the answer to a deletion.
type DeletedWallet struct {
	Existing bool
	Info     *Info
	Receipt  *Receipt
}

// Delete puts a tombstone on a wallet: it cannot be used any more, and an
// operator can restore it until it is purged. It is idempotent; a repetition
// needs no PIN, since nothing opens the wallet any more.
func (s *Service) Delete(ctx context.Context, r *DeleteRequest) (*DeletedWallet, error) {
	if err := checkText("requestId", r.RequestID, 1, maxRequestID); err != nil {
		return nil, err
	}
	key, err := s.requestKey(ctx, r.Peer.UID, string(r.Wallet[:]), "deleteWallet", r.RequestID)
	if err != nil {
		return nil, err
	}
	d, existing, err := s.once(ctx, &idempotent{key: key, digest: r.Digest, event: r.event("ok"),
		run:   func() error { return s.noted(ctx, r.event("ok"), s.delete(ctx, r, key)) },
		again: func(*done) error { return s.stillDeleted(ctx, r) }})
	if err != nil {
		return nil, err
	}
	p, err := s.loadFor(ctx, r.Actor, d.Wallet)
	if err != nil {
		return nil, err
	}
	info, err := s.info(ctx, p)
	if err != nil {
		return nil, err
	}
	receipt, err := s.receipt(ctx, "deleteWallet", d, info)
	return &DeletedWallet{Existing: existing, Info: info, Receipt: receipt}, err
}

func (r *DeleteRequest) event(result string) Event {
	return Event{Action: "deleteWallet", Peer: r.Peer, Wallet: r.Wallet, Digest: r.Digest[:], Result: result}
}

// stillDeleted refuses to prove a deletion that an operator took back.
func (s *Service) stillDeleted(ctx context.Context, r *DeleteRequest) error {
	if r.Unproven {
		return nil
	}
	p, err := s.loadFor(ctx, r.Actor, r.Wallet)
	if err == nil && p.State.Deleted == 0 {
		err = ErrRequestReused
	}
	return err
}

func (s *Service) delete(ctx context.Context, r *DeleteRequest, key RequestKey) error {
	if r.PIN == nil {
		if !r.Operator {
			return &FieldError{"pin", "is required"}
		}
		if _, err := s.loadFor(ctx, r.Actor, r.Wallet); err != nil {
			return err
		}
		s.endWallet(ctx, r.Wallet) // at once, as a freeze does
		done, err := s.Guard.Turn(ctx, r.Wallet)
		if err != nil {
			return err
		}
		defer done()
		return s.bury(ctx, r, key)
	}
	_, err := s.withPIN(ctx, r.Peer, r.Wallet, r.PIN, s.unlessDone(ctx, key, r.Digest, deletable), func(o *opened) error {
		o.rewritten = true
		return s.bury(ctx, r, key)
	})
	return err
}

// deletable lets a frozen wallet go, but not a second time.
func deletable(p *seal.Parsed) error {
	if p.State.Deleted != 0 {
		return ErrDeleted
	}
	return nil
}

// bury puts the tombstone; the caller holds the wallet's turn. A wall clock that
// is behind, as that of a host with an empty battery, must not shorten the grace:
// the tombstone is dated no earlier than what is known to have been before it.
func (s *Service) bury(ctx context.Context, r *DeleteRequest, key RequestKey) error {
	now := s.Now().Unix()
	request, err := s.request(ctx, key, &done{Digest: r.Digest, Wallet: r.Wallet, Time: now})
	if err != nil {
		return err
	}
	check := s.unlessDone(ctx, key, r.Digest, deletable)
	_, err = s.changeInTurn(ctx, &stateChange{actor: r.Actor, action: "deleteWallet", wallet: r.Wallet, request: request,
		apply: func(p *seal.Parsed) error {
			if err := check(p); err != nil {
				return err
			}
			p.State.Deleted = max(now, newest(p), s.Audit.Newest().Unix())
			return nil
		}})
	return err
}

// newest is the latest time that a record has.
func newest(p *seal.Parsed) int64 {
	t := max(p.Header.Created, p.State.PINSet, p.State.Frozen, p.State.Deleted)
	for _, a := range p.Header.Accounts {
		t = max(t, a.Created)
	}
	for _, exported := range p.State.Exported {
		t = max(t, exported)
	}
	return t
}

// Restore takes a tombstone away. It is the operator's.
func (s *Service) Restore(ctx context.Context, a Actor, wallet seal.ID) (*Info, error) {
	if err := s.begin(ctx, a, "restoreWallet", wallet); err != nil {
		return nil, err
	}
	return s.change(ctx, &stateChange{actor: a, action: "restoreWallet", wallet: wallet, apply: func(p *seal.Parsed) error {
		p.State.Deleted = 0
		return nil
	}})
}

// purged is how many tombstones Purge reads at a time.
const purged = 100

// born is a time before which no wallet can have been made: there was no sigild yet
// (2026-01-01, Unix seconds).
const born = 1_767_225_600

// errUndated is returned for a wallet that lived while the clock was wrong only, of
// which nobody knows how long it has been deleted.
var errUndated = errors.New("all its times are before sigild existed, as the clock was wrong: to have it purged restore it and delete it again")

// Purge removes wallets whose tombstones are older than grace, and says how
// many. A record that is at fault itself does not keep others from it; a device, a
// database or an audit log that is does, so that there are not two lines a wallet each
// hour for as long as it lasts. by is whom the audit log names.
func (s *Service) Purge(ctx context.Context, by Peer, grace time.Duration) (removed int, err error) {
	actor, before := Actor{Peer: by, Operator: true}, s.Now().Add(-grace).Unix()
	var failed []error
	var after []byte
	for {
		ids, next, err := s.Store.Tombstones(ctx, before, after, purged)
		if err != nil {
			return removed, errors.Join(append(failed, err)...)
		}
		for _, id := range ids {
			p, err := s.buried(ctx, actor, id, before)
			if err == nil && newest(p) > before {
				continue // the clock was behind when its tombstone was put
			}
			if err == nil {
				if err := s.begin(ctx, actor, "purgeWallet", id); err != nil {
					return removed, errors.Join(append(failed, err)...)
				}
				err = s.remove(ctx, by, p)
			}
			switch {
			case err == nil:
				removed++
				continue
			case !ownFault(err):
				return removed, errors.Join(append(failed, fmt.Errorf("wallet %x: %w", id, err))...)
			}
			failed = append(failed, fmt.Errorf("wallet %x: %w", id, err))
		}
		if next == nil || ctx.Err() != nil {
			return removed, errors.Join(failed...)
		}
		after = next
	}
}

// ownFault reports whether a wallet is not purged for what its record, or the index of
// tombstones, says of it.
func ownFault(err error) bool {
	return errors.Is(err, seal.ErrCorrupt) || errors.Is(err, ErrNotFound) || errors.Is(err, errUndated)
}

// buried gives a record that has its tombstone since before, as the index of
// tombstones, which has no MAC, says.
func (s *Service) buried(ctx context.Context, a Actor, id seal.ID, before int64) (*seal.Parsed, error) {
	p, err := s.loadFor(ctx, a, id)
	switch {
	case err != nil:
		return nil, err
	case p.State.Deleted == 0 || p.State.Deleted > before:
		return nil, seal.ErrCorrupt
	case newest(p) < born:
		return nil, errUndated
	}
	return p, nil
}

// remove takes one wallet out. The last line must not be missing because the daemon
// stops, and a removal that failed has one too: it may have been made.
func (s *Service) remove(ctx context.Context, by Peer, p *seal.Parsed) error {
	r := Removal{Wallet: p.Header.Wallet, Relay: p.Header.Relay, Prev: p.Stored, Index: indexOf(p)}
	for _, a := range p.Header.Accounts {
		r.Addresses = append(r.Addresses, [20]byte(a.Address))
	}
	e := Event{Action: "purgeWallet", Peer: by, Wallet: r.Wallet, Result: "ok"}
	if err := s.Store.Remove(ctx, r); err != nil {
		return s.noted(ctx, e, err)
	}
	return s.auditAnyway(ctx, e)
}
