package wallet

import (
	"context"
	"errors"
	"maps"
	"math/big"
	"slices"
	"sync"
	"sync/atomic"
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
	cut     atomic.Bool // somebody took the right away: a batch under way ends at its next item
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
	making     map[*making]unlockKey
	ending     map[*unlock]unlockKey // taken out, and signatures by them may be under way
}

// making is an unlock that is being made.
type making struct {
	locked bool // somebody locked the wallet meanwhile
}

func newUnlocks(most, mostPerUID int) *unlocks {
	return &unlocks{most: most, mostPerUID: mostPerUID, places: map[unlockKey]int{}, taken: map[uint32]int{},
		held: map[unlockKey]*unlock{}, making: map[*making]unlockKey{}, ending: map[*unlock]unlockKey{}}
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
	signed, err := s.signTaken(ctx, r, u, giveBack)
	if errors.Is(err, ErrObjectLost) {
		s.endThis(ctx, key, u, ErrRelock)
		return nil, Attempts{}, ErrRelock
	}
	if u.spent() {
		s.endThis(ctx, key, u, ErrUnlockRequired)
	}
	return signed, Attempts{}, err
}

// signTaken signs by an unlock of which was taken, and gives back also when it panics:
// whoever ends the unlock waits for that. It signs no further item of a batch once the
// right to it was taken away.
func (s *Service) signTaken(ctx context.Context, r *SignRequest, u *unlock, giveBack func(failed bool)) (signed []*Signed, err error) {
	failed := true
	defer func() { giveBack(failed) }()
	if signed, err = s.signItems(ctx, u.keys, r.Items, u.revoked); err == nil {
		err = s.auditItems(ctx, r, "ok")
	}
	failed = err != nil
	return signed, err
}

// reserve counts a place for an unlock that is being made, unless it has the place
// of one that it replaces.
func (l *unlocks) reserve(key unlockKey) (m *making, release func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed != nil {
		return nil, nil, l.closed
	}
	if l.places[key] == 0 && (len(l.places) >= l.most || l.taken[key.uid] >= l.mostPerUID) {
		return nil, nil, ErrTooManyUnlocks
	}
	l.take(key)
	m = &making{}
	l.making[m] = key
	return m, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.making, m)
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

// enter makes an unlock known, unless the wallet was locked while it was made: who
// locks must not find it unlocked afterwards.
func (l *unlocks) enter(m *making, key unlockKey, u *unlock) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed != nil {
		return l.closed
	}
	if m.locked {
		return ErrUnlockRequired
	}
	delete(l.making, m)
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

// remove takes u out, unless another has taken its place.
func (l *unlocks) remove(key unlockKey, u *unlock) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[key] != u {
		return false
	}
	l.drop(key)
	return true
}

// takeOut takes the unlocks that match out. Others that match, which somebody else
// took out, may still sign: these it gives apart. cut has batches end early.
func (l *unlocks) takeOut(cut bool, match func(unlockKey) bool) (out, others []*unlock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for u, key := range l.ending {
		if match(key) {
			others = append(others, u)
		}
	}
	for key, u := range l.held {
		if match(key) {
			l.drop(key)
			out = append(out, u)
		}
	}
	for _, u := range append(others, out...) {
		u.cut.Store(cut || u.cut.Load())
	}
	return out, others
}

// lock keeps those that match and are being made from being entered, and says how many
// wallets that are not unlocked these are of.
func (l *unlocks) lock(match func(unlockKey) bool) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	marked := map[unlockKey]bool{}
	for m, key := range l.making {
		if !match(key) {
			continue
		}
		if m.locked = true; l.held[key] == nil {
			marked[key] = true
		}
	}
	return len(marked)
}

// close lets no unlock in any more. The first reason stays.
func (l *unlocks) close(reason error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed == nil {
		l.closed = reason
	}
}

// drop takes an unlock out. The caller holds mu.
func (l *unlocks) drop(key unlockKey) {
	l.ending[l.held[key]] = key
	delete(l.held, key)
	l.leave(key)
}

// gone forgets unlocks that were taken out, once no signature by them is under way.
func (l *unlocks) gone(ended ...*unlock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, u := range ended {
		delete(l.ending, u)
	}
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
