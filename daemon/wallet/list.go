package wallet

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/sigild/sigild/daemon/seal"
)

// Status is what a wallet can be used for.
type Status string

// The states, in the order in which the first that applies is shown.
const (
	Deleted Status = "deleted" // a tombstone: the operator can restore it
	Frozen  Status = "frozen"
	Locked  Status = "locked" // no PIN attempt is left
	Active  Status = "active"
)

// Status gives the wallet's state.
func (i *Info) Status() Status {
	switch {
	case i.State.Deleted != 0:
		return Deleted
	case i.State.Frozen != 0:
		return Frozen
	case i.Attempts.Left == 0:
		return Locked
	}
	return Active
}

// scanned is how many wallets one page looks at when it filters by state.
const scanned = 500

// Listing is a page of wallets.
type Listing struct {
	Wallets []*Info
	Corrupt []seal.ID // in the index, with a record that is not as it was written
	Cursor  []byte    // of the next page; nil at the end
}

// List returns a page of the peer's wallets, oldest first. With a state, or with
// both a tag and an owner, a page may have fewer wallets than its limit, or none,
// and still have a next one.
func (s *Service) List(ctx context.Context, peer Peer, p Page, state Status) (*Listing, error) {
	return s.list(ctx, peer, p, state, scanned)
}

func (s *Service) list(ctx context.Context, peer Peer, p Page, state Status, scanned int) (*Listing, error) {
	p.Relay = peer.UID
	want := p.Limit
	if state != "" || (p.Tag != "" && p.Owner != "") {
		p.Limit = scanned
	}
	ids, cursor, err := s.Store.List(ctx, p)
	if err != nil {
		return nil, err
	}
	l := &Listing{Wallets: make([]*Info, 0, min(want, len(ids))), Cursor: cursor}
	for n, id := range ids {
		info, err := s.listed(ctx, peer, id, p)
		if errors.Is(err, seal.ErrCorrupt) {
			l.Corrupt = append(l.Corrupt, id)
			continue
		}
		if err != nil {
			return nil, err
		}
		if info == nil || (state != "" && info.Status() != state) {
			continue
		}
		if l.Wallets = append(l.Wallets, info); len(l.Wallets) == want && n+1 < len(ids) {
			l.Cursor = cursorAt(info)
			return l, nil
		}
	}
	return l, nil
}

// ListAll returns a page of all relays' wallets, in the order of their ids: for an
// operator. A page may have fewer wallets than its limit, or none, and still have a
// next one.
func (s *Service) ListAll(ctx context.Context, a Actor, p Page, state Status) (*Listing, error) {
	return s.listAll(ctx, a, p, state, scanned)
}

func (s *Service) listAll(ctx context.Context, a Actor, p Page, state Status, scanned int) (*Listing, error) {
	if !a.Operator {
		return nil, ErrOperator
	}
	var after *seal.ID
	if p.After != nil {
		if len(p.After) != len(seal.ID{}) {
			return nil, &FieldError{"cursor", "is not one that this method gave"}
		}
		after = (*seal.ID)(p.After)
	}
	ids, err := s.Store.Everything(ctx, after, scanned)
	if err != nil {
		return nil, err
	}
	l := &Listing{}
	for n, id := range ids {
		info, err := s.getFor(ctx, a, id)
		switch {
		case errors.Is(err, seal.ErrCorrupt):
			l.Corrupt = append(l.Corrupt, id)
		case errors.Is(err, ErrNotFound): // purged since
		case err != nil:
			return nil, err
		case p.matches(info) && (state == "" || info.Status() == state):
			l.Wallets = append(l.Wallets, info)
		}
		last := n+1 == len(ids)
		if len(l.Wallets) == p.Limit && !last || last && len(ids) == scanned {
			l.Cursor = id[:]
			return l, nil
		}
	}
	return l, nil
}

// matches is what the indexes find by.
func (p *Page) matches(i *Info) bool {
	return (p.Owner == "" || i.Header.Owner == p.Owner) && (p.Tag == "" || slices.Contains(i.State.Tags, p.Tag)) &&
		i.Header.Created >= p.From && (p.Until == 0 || i.Header.Created < p.Until)
}

// activePages is how many pages EachActive looks at: a caller who only wants
// some wallets is not to wait for a list of all of them.
const activePages = 10

// EachActive gives the peer's active wallets to visit, oldest first, until that
// returns false. It looks at no more than 5,000 wallets.
func (s *Service) EachActive(ctx context.Context, peer Peer, visit func(*Info) bool) error {
	return s.eachActive(ctx, peer, scanned, visit)
}

func (s *Service) eachActive(ctx context.Context, peer Peer, scanned int, visit func(*Info) bool) error {
	p := Page{Limit: scanned}
	for range activePages {
		l, err := s.list(ctx, peer, p, Active, scanned)
		if err != nil {
			return err
		}
		for _, i := range l.Wallets {
			if !visit(i) {
				return nil
			}
		}
		if p.After = l.Cursor; p.After == nil {
			return nil
		}
	}
	return nil
}

// listed reads one wallet of a page, and gives nil when it is none of that
// page's: of another owner under the same tag, or purged since the page was
// made. Where the index, which has no MAC, names a wallet of another owner or
// without the tag, it was changed outside the daemon.
func (s *Service) listed(ctx context.Context, peer Peer, id seal.ID, p Page) (*Info, error) {
	info, err := s.Get(ctx, peer, id)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	owned := p.Owner == "" || info.Header.Owner == p.Owner
	switch {
	case p.Tag != "" && !slices.Contains(info.State.Tags, p.Tag):
		return nil, seal.ErrCorrupt
	case !owned && p.Tag != "":
		return nil, nil
	case !owned:
		return nil, seal.ErrCorrupt
	}
	return info, nil
}

// cursorAt is the store's cursor behind a wallet: created (8 bytes, big
// endian) ‖ wallet.
func cursorAt(i *Info) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(i.Header.Created)), i.Header.Wallet[:]...)
}
