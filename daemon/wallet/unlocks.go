package wallet

import (
	"context"
	"errors"
	"maps"
	"math/big"
	"slices"
	"sync"
	"time"

	"github.com/sigild/sigild/daemon/seal"
)

// unlock is a wallet whose keys stay in the token for a while. Its fields after
// mu change only under it.
type unlock struct {
	peer    Peer
	terms   Terms
	until   time.Time // monotonic
	held    *objects
	timer   *time.Timer
	hangup  func() bool // stops watching the connection
	mu      sync.Mutex
	using   sync.WaitGroup // signatures under way
	keys    keyring
	ended   error // why it is over; nil while it holds
	left    int
	allowed *big.Int // what is left of TotalValue
}

// unlocks are all that are held, at most one a wallet and uid.
type unlocks struct {
	mu         sync.Mutex
	most       int
	mostPerUID int
	closed     error             // why there are none any more; nil while there may be
	places     map[unlockKey]int // held or being made: the one that is replaced and the next share a place
	taken      map[uint32]int    // places by uid
	held       map[unlockKey]*unlock
}

func newUnlocks(most, mostPerUID int) *unlocks {
	return &unlocks{most: most, mostPerUID: mostPerUID, places: map[unlockKey]int{}, taken: map[uint32]int{}, held: map[unlockKey]*unlock{}}
}

type unlockKey struct {
	wallet seal.ID
	uid    uint32
}

// signUnlocked signs by the unlock that the peer holds. A change that takes a
// right away first changes the record and then ends the unlocks, which waits for
// those who took theirs: so the unlock that is taken is the one that was there
// when the record was read, and the signature's line is written before it is
// given back.
func (s *Service) signUnlocked(ctx context.Context, r *SignRequest) ([]*Signed, Attempts, error) {
	key := unlockKey{r.Wallet, r.Peer.UID}
	u := s.unlocks.find(key)
	p, err := s.load(ctx, r.Peer, r.Wallet)
	if err != nil {
		return nil, Attempts{}, err
	}
	if err := s.ready(r.check)(p); err != nil {
		return nil, Attempts{}, err
	}
	if u == nil {
		return nil, Attempts{}, s.unlocks.missing()
	}
	giveBack, err := u.take(r)
	if err != nil {
		return nil, Attempts{}, err
	}
	signed, err := s.signItems(ctx, u.keys, r.Items)
	if err == nil {
		err = s.auditItems(ctx, r, "ok")
	}
	giveBack(err != nil)
	if errors.Is(err, ErrObjectLost) {
		s.endThis(ctx, key, u, ErrRelock)
		return nil, Attempts{}, ErrRelock
	}
	if u.spent() {
		s.endThis(ctx, key, u, ErrUnlockRequired)
	}
	return signed, Attempts{}, err
}

// reserve counts a place for an unlock that is being made, unless it has the place
// of one that it replaces.
func (l *unlocks) reserve(key unlockKey) (release func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed != nil {
		return nil, l.closed
	}
	if l.places[key] == 0 && (len(l.places) >= l.most || l.taken[key.uid] >= l.mostPerUID) {
		return nil, ErrTooManyUnlocks
	}
	l.take(key)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.leave(key)
	}, nil
}

// take and leave count who uses the place at key. The caller holds mu.
func (l *unlocks) take(key unlockKey) {
	if l.places[key]++; l.places[key] == 1 {
		l.taken[key.uid]++
	}
}

func (l *unlocks) leave(key unlockKey) {
	if l.places[key]--; l.places[key] > 0 {
		return
	}
	delete(l.places, key)
	if l.taken[key.uid]--; l.taken[key.uid] == 0 {
		delete(l.taken, key.uid)
	}
}

func (l *unlocks) enter(key unlockKey, u *unlock) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed != nil {
		return l.closed
	}
	l.held[key] = u
	l.take(key)
	return nil
}

func (l *unlocks) find(key unlockKey) *unlock {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held[key]
}

// missing says why an unlock is not there.
func (l *unlocks) missing() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed != nil {
		return l.closed
	}
	return ErrUnlockRequired
}

// remove takes the unlock at key out; with only set, no other than that.
func (l *unlocks) remove(key unlockKey, only *unlock) *unlock {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.held[key]
	if u == nil || (only != nil && u != only) {
		return nil
	}
	l.drop(key)
	return u
}

// takeOut takes the unlocks of the uids that match out.
func (l *unlocks) takeOut(match func(uid uint32) bool) (out []*unlock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, u := range l.held {
		if match(key.uid) {
			l.drop(key)
			out = append(out, u)
		}
	}
	return out
}

// close takes all unlocks out and lets none in any more. The first reason stays.
func (l *unlocks) close(reason error) (out []*unlock) {
	l.mu.Lock()
	if l.closed == nil {
		l.closed = reason
	}
	l.mu.Unlock()
	return l.takeOut(func(uint32) bool { return true })
}

// drop forgets an unlock. The caller holds mu.
func (l *unlocks) drop(key unlockKey) {
	delete(l.held, key)
	l.leave(key)
}

func (l *unlocks) keys() []unlockKey {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Keys(l.held))
}

// mostOfOne is how many places the uid has taken that has taken most.
func (l *unlocks) mostOfOne() (most int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range l.taken {
		most = max(most, n)
	}
	return most
}
