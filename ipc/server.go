package ipc

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"
)

// ErrServerClosed is returned by Serve when Shutdown was called before it.
var ErrServerClosed = errors.New("ipc: server is shut down")

// retryAfter is what a peer over one of its limits is told to wait.
const retryAfter = time.Second

// refusalTimeout bounds the write to a peer that is turned away. It is the
// first write on the socket, so it does not block.
const refusalTimeout = time.Second

// A Handler answers one method. ctx ends after Limits.RequestTimeout and when
// the connection does; PeerFrom tells whose request it is. params is the raw
// value, nil if absent, and is wiped when the handler returns: see Decode and
// DecodeArgs, and copy what must outlive the call.
//
// The result is marshalled as JSON. An *Error goes to the caller as it is; any
// other error becomes "internal error", with its text in the log only.
type Handler func(ctx context.Context, params json.RawMessage) (any, error)

// RequestInfo describes an answered request.
type RequestInfo struct {
	Peer Peer
	// Method is as the caller wrote it, at most 128 bytes, "" if it could not
	// be read. It need not exist.
	Method   string
	Duration time.Duration
	// Err is the handler's error, before it was cut down for the caller.
	Err error
}

// Options describe a Server.
type Options struct {
	// Limits are DefaultLimits if all zero.
	Limits Limits
	// Allow says whether a peer may connect; nil allows nobody. It is called
	// for one connection after another and must not block.
	Allow func(Peer) bool
	// Methods are the handlers by the method's name. The map is not changed
	// any more once it was given to NewServer.
	Methods map[string]Handler
	// Large names methods whose results may be large. A few of them run at once for
	// one uid, and others wait: so many results only can go beyond
	// Limits.AnswerBytesPerUID, which is looked at before a method begins.
	Large []string
	// Logger gets internal errors and refused peers, never parameters or
	// results; nil discards.
	Logger *slog.Logger
	// OnRequest is called after each request, before its answer is written,
	// from many goroutines.
	OnRequest func(context.Context, RequestInfo)
}

// Server serves JSON-RPC 2.0 to the peers of one or more Unix sockets. Its
// methods are safe for concurrent use.
type Server struct {
	opts   Options
	limits Limits
	log    *slog.Logger

	mu        sync.Mutex
	listeners map[net.Listener]struct{}
	conns     map[*connection]struct{}
	usage     map[uint32]*usage
	refusals  refusals
	draining  chan struct{} // closed when Shutdown begins
	drained   chan struct{} // closed when no connection is left after that
}

// usage is what one uid holds.
type usage struct {
	connections, inFlight, bytes, answers int

	large chan struct{} // who holds one of its places runs a method of Options.Large
}

// largeAtOnce is how many methods of Options.Large run at once for one uid.
const largeAtOnce = 4

// NewServer returns a server that serves nobody yet.
func NewServer(opts Options) *Server {
	if opts.Limits == (Limits{}) {
		opts.Limits = DefaultLimits()
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{
		opts: opts, limits: opts.Limits, log: opts.Logger,
		listeners: make(map[net.Listener]struct{}),
		conns:     make(map[*connection]struct{}),
		usage:     make(map[uint32]*usage),
		draining:  make(chan struct{}),
		drained:   make(chan struct{}),
	}
}

// Serve accepts connections from ln until ctx ends or Shutdown is called, and
// returns nil when the last of them is closed. The end of ctx is the hard stop:
// it closes all connections and ends the contexts of their handlers. Serve
// closes ln. It returns an error that wraps ErrLimits for limits that cannot be
// served with, and the listener's error if that fails for good.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	defer ln.Close()
	if err := s.limits.Validate(); err != nil {
		return err
	}
	if !s.track(ln) {
		return ErrServerClosed
	}
	defer s.untrack(ln)
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer context.AfterFunc(ctx, func() { _ = ln.Close() })()
	err := s.acceptLoop(ctx, ln, &wg)
	if err != nil {
		cancel() // a listener that failed takes its connections along
		return err
	}
	wg.Wait()
	cancel()
	return nil
}

func (s *Server) acceptLoop(ctx context.Context, ln net.Listener, wg *sync.WaitGroup) error {
	pause := time.Duration(0)
	for {
		conn, err := ln.Accept()
		switch {
		case err == nil:
			pause = 0
			s.admit(ctx, conn, wg)
		case ctx.Err() != nil || s.isDraining():
			return nil
		case !isPassing(err):
			return err
		default:
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			s.log.Warn("accept failed, trying again", slog.String("error", err.Error()))
			s.rest(ctx, pause)
		}
	}
}

// isPassing reports whether Accept may succeed later: the process or the host
// is out of descriptors or memory, or the peer gave up.
func isPassing(err error) bool {
	for _, e := range []syscall.Errno{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM,
		syscall.ECONNABORTED, syscall.EINTR, syscall.EAGAIN,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// rest waits for d, or until the server stops.
func (s *Server) rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-s.draining:
	}
}

// Shutdown stops accepting connections and reading requests, and lets those
// under way finish. It returns nil when all connections are closed. If ctx ends
// first, it closes them, ends their handlers' contexts and returns ctx.Err().
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.beginDrainLocked()
	s.mu.Unlock()
	select {
	case <-s.drained:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.cancel()
	}
	return ctx.Err()
}

func (s *Server) beginDrainLocked() {
	if s.isDraining() {
		return
	}
	close(s.draining)
	for ln := range s.listeners {
		_ = ln.Close()
	}
	for c := range s.conns {
		c.drain()
	}
	s.closeDrainedLocked()
}

func (s *Server) closeDrainedLocked() {
	if s.isDraining() && len(s.conns) == 0 {
		select {
		case <-s.drained:
		default:
			close(s.drained)
		}
	}
}

func (s *Server) isDraining() bool {
	select {
	case <-s.draining:
		return true
	default:
		return false
	}
}

func (s *Server) track(ln net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isDraining() {
		return false
	}
	s.listeners[ln] = struct{}{}
	return true
}

func (s *Server) untrack(ln net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, ln)
}

func (s *Server) report(ctx context.Context, info RequestInfo) {
	if s.opts.OnRequest != nil {
		s.opts.OnRequest(ctx, info)
	}
}
