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

// pageBytes ends a page once its wallets take this much of an answer, so that a
// small request cannot have the daemon hold a thousand of the largest wallets. The
// wallet that reaches it is the last one: a page has at least one.
const pageBytes = 1 << 20

// Listing is a page of wallets.
type Listing struct {
	Wallets []*Info
	Corrupt []seal.ID // in the index, with a record that is not as it was written
	Cursor  []byte    // of the next page; nil at the end

	bytes int // what Wallets take of an answer
}

// add reports whether the page has room for another wallet after i.
func (l *Listing) add(i *Info, limit int) bool {
	l.Wallets = append(l.Wallets, i)
	l.bytes += i.AnswerBytes()
	return !l.full(limit)
}

func (l *Listing) full(limit int) bool { return len(l.Wallets) >= limit || l.bytes >= pageBytes }

// List returns a page of the peer's wallets, oldest first. A page of large wallets
// ends early, and with a state, or with both a tag and an owner, a page may have
// fewer wallets than its limit, or none: it is the last one only without a cursor.
func (s *Service) List(ctx context.Context, peer Peer, p Page, state Status) (*Listing, error) {
	l, limit := &Listing{}, p.Limit
	if state != "" || (p.Tag != "" && p.Owner != "") {
		p.Limit = scanned
	}
	var err error
	l.Corrupt, l.Cursor, err = s.eachListed(ctx, peer, p, state, func(i *Info) bool { return l.add(i, limit) })
	if err != nil {
		return nil, err
	}
	return l, nil
}

// eachListed gives the wallets of a page of the index to visit, until that returns
// false. It holds one wallet at a time. cursor is where the next page begins.
func (s *Service) eachListed(ctx context.Context, peer Peer, p Page, state Status, visit func(*Info) bool) (corrupt []seal.ID, cursor []byte, err error) {
	p.Relay = peer.UID
	ids, cursor, err := s.Store.List(ctx, p)
	if err != nil {
		return nil, nil, err
	}
	for n, id := range ids {
		info, err := s.listed(ctx, peer, id, p)
		if errors.Is(err, seal.ErrCorrupt) {
			corrupt = append(corrupt, id)
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		if info == nil || (state != "" && info.Status() != state) {
			continue
		}
		if !visit(info) && n+1 < len(ids) {
			return corrupt, cursorAt(info), nil
		}
	}
	return corrupt, cursor, nil
}

// ListAll returns a page of all relays' wallets, in the order of their ids: for an
// operator. A page may have fewer wallets than its limit, or none, and still have a
// next one, as in List.
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
			l.add(info, p.Limit)
		}
		last := n+1 == len(ids)
		if l.full(p.Limit) && !last || last && len(ids) == scanned {
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
		more := true
		_, cursor, err := s.eachListed(ctx, peer, p, Active, func(i *Info) bool {
			more = visit(i)
			return more
		})
		if err != nil || !more || cursor == nil {
			return err
		}
		p.After = cursor
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
