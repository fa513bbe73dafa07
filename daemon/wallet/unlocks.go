package wallet

import (
	"context"
	"errors"
	"math/big"
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
	mu      sync.Mutex
	most    int
	pending int // being made
	held    map[unlockKey]*unlock
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
	if err := r.check(p); err != nil {
		return nil, Attempts{}, err
	}
	if u == nil {
		return nil, Attempts{}, ErrUnlockRequired
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

// reserve counts a place for an unlock that is being made.
func (l *unlocks) reserve() (release func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.held)+l.pending >= l.most {
		return nil, ErrTooManyUnlocks
	}
	l.pending++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.pending--
	}, nil
}

func (l *unlocks) enter(key unlockKey, u *unlock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held[key] = u
}

func (l *unlocks) find(key unlockKey) *unlock {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held[key]
}

// remove takes the unlock at key out; with only set, no other than that.
func (l *unlocks) remove(key unlockKey, only *unlock) *unlock {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.held[key]
	if u == nil || (only != nil && u != only) {
		return nil
	}
	delete(l.held, key)
	return u
}

func (l *unlocks) keys() []unlockKey {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]unlockKey, 0, len(l.held))
	for key := range l.held {
		list = append(list, key)
	}
	return list
}
