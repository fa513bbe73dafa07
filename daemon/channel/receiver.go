package channel

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"
	"time"
)

var (
	// ErrExpired is returned for a block after its expiry.
	ErrExpired = errors.New("the sealed PIN has expired")
	// ErrExpiry is returned for a block that expires too far ahead.
	ErrExpiry = errors.New("the sealed PIN expires more than 120 seconds ahead: compare the clocks")
	// ErrUsed is returned for a block that came before, with another request or
	// from another user.
	ErrUsed = errors.New("this sealed PIN was used before")
	// ErrQuota is returned when a user has too many live blocks.
	ErrQuota = errors.New("too many sealed PINs are in use")
)

// Config holds a receiver's parts and limits.
type Config struct {
	Installation ID
	Sign         Signer
	Now          func() time.Time // with monotonic readings, as time.Now gives
	PerUID       int              // live blocks of one user, at least 1
	Total        int              // live blocks of all
	// Bytes of answers kept for retries: of one user, so that none takes
	// another's room, and of all.
	AnswerBytesPerUID, AnswerBytes int
}

// Receiver is the daemon's end. It is safe for concurrent use.
type Receiver struct {
	Config
	making sync.Mutex // held while a key pair is made

	mu    sync.Mutex
	pairs []*pair // the newest last
	uses  uses
	clock wallClock
}

// NewReceiver returns a receiver without a key pair yet.
func NewReceiver(c Config) *Receiver {
	return &Receiver{Config: c, uses: uses{byNonce: map[[32]byte]*Use{}, perUID: map[uint32]load{}}}
}

// Announce gives the key to seal to now, with the time; it makes a new pair when
// the newest has its age.
func (r *Receiver) Announce(ctx context.Context) (*Announcement, error) {
	r.making.Lock()
	defer r.making.Unlock()
	now := r.Now()
	if p := r.newest(now); p != nil {
		return p.announce(ctx, r.Installation, now, r.Sign)
	}
	p, err := newPair(now)
	if err != nil {
		return nil, err
	}
	a, err := p.announce(ctx, r.Installation, now, r.Sign)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pairs = append(r.pairs, p)
	time.AfterFunc(KeyAge+MaxLifetime, r.prune) // also when nobody asks any more
	return a, nil
}

func (r *Receiver) prune() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pruneLocked(r.Now())
}

// newest drops the pairs that are not usable any more, and gives the newest if
// it is young enough to be announced.
func (r *Receiver) newest(now time.Time) *pair {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pruneLocked(now)
	if len(r.pairs) == 0 {
		return nil
	}
	p := r.pairs[len(r.pairs)-1]
	if now.Sub(p.made) >= KeyAge {
		return nil
	}
	return p
}

func (r *Receiver) pruneLocked(now time.Time) {
	kept := r.pairs[:0]
	back := r.clock.setBack(now)
	for _, p := range r.pairs {
		if p.usable(now) && !back {
			kept = append(kept, p)
		}
	}
	clear(r.pairs[len(kept):])
	r.pairs = kept
	r.uses.prune(now)
}

// Peer is who sent a block.
type Peer struct {
	UID uint32
	// Connection ends with the peer's connection; set for a request whose
	// effect does, so that only the same connection gets its answer again.
	Connection context.Context
}

// Open takes a block for the request that it came with; exact is a digest of
// the request's very bytes. The first Use opens the PINs and must be finished;
// the same request from the same peer gets a Use whose Again is true, and whose
// answer is to be waited for.
func (r *Receiver) Open(peer Peer, q Request, b *Block, exact [32]byte) (*Use, *PINs, error) {
	now := r.Now()
	nonce := sha256.Sum256(b.Enc)
	p, err := r.admit(now, b)
	if err != nil {
		return nil, nil, err
	}
	if u, err := r.before(peer, nonce, exact); u != nil || err != nil {
		return u, nil, err
	}
	if len(q.Method) > MaxMethod {
		return nil, nil, ErrSealed
	}
	pins, prover, err := p.open(b, r.Installation, q.aad(p.id, b.Expires))
	if err != nil {
		return nil, nil, err
	}
	u := &Use{receiver: r, nonce: nonce, peer: peer, exact: exact, prover: prover, done: make(chan struct{}),
		until: now.Add(time.Unix(b.Expires, 0).Sub(now.Round(0)) + 2*maxStep)}
	if again, err := r.enter(u); again != nil || err != nil {
		pins.Wipe()
		prover.Wipe()
		return again, nil, err
	}
	return u, pins, nil
}

// admit finds the key pair of a block, and checks the expiry.
func (r *Receiver) admit(now time.Time, b *Block) (*pair, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pruneLocked(now)
	ahead := time.Unix(b.Expires, 0).Sub(now.Round(0))
	for _, p := range r.pairs {
		if string(p.id[:]) != string(b.KeyID) {
			continue
		}
		switch {
		case ahead <= 0:
			return nil, ErrExpired
		case ahead > MaxLifetime:
			return nil, ErrExpiry
		}
		return p, nil
	}
	return nil, ErrKeyUnknown
}

// before answers a block whose nonce is known, without opening it.
func (r *Receiver) before(peer Peer, nonce, exact [32]byte) (*Use, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.uses.again(peer, nonce, exact)
}

// enter notes the nonce. Junk that does not open never gets here, so that
// nobody can use up a block or a quota without its sealer.
func (r *Receiver) enter(u *Use) (*Use, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if again, err := r.uses.again(u.peer, u.nonce, u.exact); again != nil || err != nil {
		return again, err
	}
	if len(r.uses.byNonce) >= r.Total || r.uses.perUID[u.peer.UID].blocks >= r.PerUID {
		return nil, ErrQuota
	}
	r.uses.add(u)
	return nil, nil
}
