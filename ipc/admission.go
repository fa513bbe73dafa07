package ipc

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"
)

// admit serves conn in a goroutine of its own, or turns it away.
func (s *Server) admit(ctx context.Context, conn net.Conn, wg *sync.WaitGroup) {
	unixConn, peer, refused := s.identify(conn)
	if refused == nil {
		refused = s.takeConnection(peer.UID)
	}
	if refused != nil {
		s.turnAway(conn, peer, refused)
		return
	}
	c := s.newConnection(ctx, unixConn, peer)
	if c == nil {
		s.giveConnection(peer.UID)
		_ = conn.Close()
		return
	}
	wg.Go(func() {
		defer s.remove(c)
		c.serve()
	})
}

// identify asks who the peer is and whether it may connect.
func (s *Server) identify(conn net.Conn) (unixConn, Peer, *Error) {
	denied := &Error{
		Code: CodeUnauthorized, Reason: ReasonPeerNotAllowed,
		Message: "this user may not connect: ask the operator to allow its uid or gid",
	}
	u, ok := conn.(unixConn)
	if !ok {
		return nil, Peer{}, denied
	}
	peer, err := peerOf(u)
	if err != nil || s.opts.Allow == nil || !s.opts.Allow(peer) {
		return nil, peer, denied
	}
	return u, peer, nil
}

// newConnection returns nil if the server is shutting down.
func (s *Server) newConnection(ctx context.Context, conn unixConn, peer Peer) *connection {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithCancel(withPeer(ctx, peer))
	c := &connection{
		server: s, conn: conn, raw: raw, peer: peer, cancel: cancel,
		ctx: context.WithValue(ctx, connectionKey{}, ctx),
		scanner: scanner{
			maxBytes: s.limits.MessageBytes, maxDepth: s.limits.Depth, maxBatch: s.limits.Batch,
		},
		buffer:  make([]byte, readBytes),
		since:   time.Now(),
		tickets: make(map[uint64]ticket),
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isDraining() {
		cancel()
		return nil
	}
	s.conns[c] = struct{}{}
	return c
}

func (s *Server) remove(c *connection) {
	s.giveConnection(c.peer.UID)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.closeDrainedLocked()
}

// turnAway tells the peer why, once, and closes the connection.
func (s *Server) turnAway(conn net.Conn, peer Peer, e *Error) {
	defer conn.Close()
	s.logRefusal(peer, e)
	if conn.SetWriteDeadline(time.Now().Add(refusalTimeout)) == nil {
		_, _ = conn.Write(append(errorResponse(nil, e), '\n'))
	}
}

// takeConnection counts a connection of uid, or returns why it may not be.
func (s *Server) takeConnection(uid uint32) *Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	total := 0
	for _, u := range s.usage {
		total += u.connections
	}
	u := s.usageLocked(uid)
	defer s.forgetLocked(uid, u)
	switch {
	case total >= s.limits.Connections:
		return Overloaded("too many connections", retryAfter)
	case u.connections >= s.limits.ConnectionsPerUID:
		return Overloaded("too many connections of this user", retryAfter)
	}
	u.connections++
	return nil
}

func (s *Server) giveConnection(uid uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.usageLocked(uid)
	u.connections--
	s.forgetLocked(uid, u)
}

// takeInFlight counts the requests of m for uid, or reports false if that is over
// a limit.
func (s *Server) takeInFlight(uid uint32, m *message) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.usageLocked(uid)
	defer s.forgetLocked(uid, u)
	if u.inFlight+len(m.calls) > s.limits.InFlightPerUID || u.bytes+m.size > s.limits.InFlightBytesPerUID {
		return false
	}
	u.inFlight += len(m.calls)
	u.bytes += m.size
	return true
}

func (s *Server) giveInFlight(uid uint32, m *message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.usageLocked(uid)
	u.inFlight -= len(m.calls)
	u.bytes -= m.size
	u.answers -= m.answers
	s.forgetLocked(uid, u)
}

// takeAnswer returns why the answer to a call of uid may not be made now, before
// anything was done for it, so that the refusal costs nothing. A method with large
// results waits for a place first: else all that run at once would find room.
// release follows when the result is counted.
func (s *Server) takeAnswer(ctx context.Context, uid uint32, method string) (release func(), refused *Error) {
	release = func() {}
	if slices.Contains(s.opts.Large, method) {
		if release = s.takeLarge(ctx, uid); release == nil {
			return nil, Overloaded("too many large answers to this user are under way", retryAfter)
		}
	}
	if !s.hasAnswerRoom(uid) {
		release()
		return nil, Overloaded("the answers to this user are too large together: ask for less at once", retryAfter)
	}
	return release, nil
}

// takeLarge waits for a place, and returns nil if ctx ends first.
func (s *Server) takeLarge(ctx context.Context, uid uint32) (release func()) {
	s.mu.Lock()
	places := s.usageLocked(uid).large
	s.mu.Unlock()
	select {
	case places <- struct{}{}:
		return func() { <-places }
	case <-ctx.Done():
		return nil
	}
}

// hasAnswerRoom reports whether another answer of uid may be made.
func (s *Server) hasAnswerRoom(uid uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.usageLocked(uid)
	defer s.forgetLocked(uid, u)
	return u.answers < s.limits.AnswerBytesPerUID
}

// holdAnswer counts n bytes of an answer for uid until giveInFlight.
func (s *Server) holdAnswer(uid uint32, m *message, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m.answers += n
	s.usageLocked(uid).answers += n
}

func (s *Server) usageLocked(uid uint32) *usage {
	u := s.usage[uid]
	if u == nil {
		u = &usage{large: make(chan struct{}, largeAtOnce)}
		s.usage[uid] = u
	}
	return u
}

func (s *Server) forgetLocked(uid uint32, u *usage) {
	if *u == (usage{large: u.large}) { // a place is held only for a request in flight
		delete(s.usage, uid)
	}
}

// refusals keeps a peer that is turned away from filling the log.
type refusals struct {
	last   time.Time
	silent int
}

// logRefusal writes at most one line per second.
func (s *Server) logRefusal(peer Peer, e *Error) {
	s.mu.Lock()
	now := time.Now()
	if now.Sub(s.refusals.last) < time.Second {
		s.refusals.silent++
		s.mu.Unlock()
		return
	}
	silent := s.refusals.silent
	s.refusals = refusals{last: now}
	s.mu.Unlock()
	s.log.Warn("peer turned away", slog.Any("peer", peer), slog.String("reason", e.Reason),
		slog.Int("unreported", silent))
}
