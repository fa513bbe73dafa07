package channel

import (
	"context"
	"time"
)

// Use is the one use of a block.
type Use struct {
	// Again is true for a repetition: wait for the answer.
	Again bool
	// Holds, if it is set before Finish, says whether the result may be given again.
	Holds func() bool

	receiver *Receiver
	nonce    [32]byte
	peer     Peer
	exact    [32]byte
	until    time.Time
	prover   *Prover
	done     chan struct{} // closed when there is an answer, kept or not

	answer  []byte // proven result; nil: none was kept
	failure error
	first   *Use // of a repetition
}

// Prove adds proof to an answer of this use.
func (u *Use) Prove(kind Kind, answer []byte) ([]byte, error) { return u.prover.Prove(kind, answer) }

// Finish keeps the answer for repetitions until the block expires, as far as
// there is room, and wipes what made the proof.
func (u *Use) Finish(answer []byte, failure error) {
	u.prover.Wipe()
	r := u.receiver
	r.mu.Lock()
	defer r.mu.Unlock()
	u.failure = failure
	own := r.uses.perUID[u.peer.UID]
	if own.bytes+len(answer) <= r.AnswerBytesPerUID && r.uses.bytes+len(answer) <= r.AnswerBytes {
		r.uses.keep(u, answer)
	}
	close(u.done)
}

// Wait gives the answer that the first use got. ErrUsed when it was not kept, or does
// not hold any more.
func (u *Use) Wait(ctx context.Context) ([]byte, error) {
	select {
	case <-u.first.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	switch first := u.first; { // which nobody changes any more
	case first.failure != nil:
		return nil, first.failure
	case first.answer == nil, first.Holds != nil && !first.Holds():
		return nil, ErrUsed
	default:
		return first.answer, nil
	}
}

// uses are the blocks that were used and have not expired. A live one is never
// dropped for another.
type uses struct {
	byNonce map[[32]byte]*Use
	perUID  map[uint32]load
	bytes   int
	queue   []*Use // in the order of their coming
}

// load is what one user has in here.
type load struct {
	blocks int
	bytes  int // of kept answers
}

func (s *uses) again(peer Peer, nonce, exact [32]byte) (*Use, error) {
	first, known := s.byNonce[nonce]
	switch {
	case !known:
		return nil, nil
	case first.peer.UID != peer.UID, first.exact != exact, first.peer.Connection != peer.Connection:
		return nil, ErrUsed
	}
	return &Use{Again: true, receiver: first.receiver, first: first}, nil
}

func (s *uses) add(u *Use) {
	s.byNonce[u.nonce] = u
	own := s.perUID[u.peer.UID]
	own.blocks++
	s.perUID[u.peer.UID] = own
	s.queue = append(s.queue, u)
}

func (s *uses) keep(u *Use, answer []byte) {
	own := s.perUID[u.peer.UID]
	own.bytes += len(answer)
	s.perUID[u.peer.UID] = own
	s.bytes += len(answer)
	u.answer = answer
}

// prune forgets uses whose blocks have expired and whose requests have ended.
// Lifetimes are bounded, so looking from the front as far as one is alive
// leaves none for longer than the longest lifetime.
func (s *uses) prune(now time.Time) {
	n := 0
	for n < len(s.queue) && now.After(s.queue[n].until) && s.queue[n].ended() {
		s.remove(s.queue[n])
		s.queue[n] = nil
		n++
	}
	s.queue = s.queue[n:]
	if len(s.queue) == 0 {
		s.queue = nil
	}
}

func (u *Use) ended() bool {
	select {
	case <-u.done:
		return true
	default:
		return false
	}
}

func (s *uses) remove(u *Use) {
	delete(s.byNonce, u.nonce)
	s.bytes -= len(u.answer)
	own := s.perUID[u.peer.UID]
	own.blocks--
	own.bytes -= len(u.answer)
	s.perUID[u.peer.UID] = own
	if own.blocks <= 0 {
		delete(s.perUID, u.peer.UID)
	}
}
