package ipc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/creachadair/jrpc2"
	"github.com/creachadair/jrpc2/channel"
	"golang.org/x/sys/unix"
)

// readBytes is the size of a connection's read buffer.
const readBytes = 16 << 10

// unixConn is what a connection needs of *net.UnixConn.
type unixConn interface {
	net.Conn
	syscall.Conn
}

// A connection serves one peer. It is the channel of a jrpc2 server, which
// queues and runs the calls. jrpc2 sees a numbering of our own in place of ids,
// and neither methods nor parameters: it would copy these to places that cannot
// be wiped, and it takes a second call with the id of an earlier one that failed
// for a duplicate.
type connection struct {
	server *Server
	conn   unixConn
	raw    syscall.RawConn
	peer   Peer
	ctx    context.Context
	cancel context.CancelFunc

	// Used by Recv only.
	scanner scanner
	buffer  []byte
	unread  []byte    // the part of buffer that the scanner has not seen
	refused *Error    // of the value that is being skipped, until it is told
	since   time.Time // when the peer was last seen to begin or end a value

	writeMu sync.Mutex // held for one whole write

	mu       sync.Mutex
	tickets  map[uint64]ticket
	next     uint64
	inFlight int  // slots taken
	parked   bool // Recv waits for an answer to go out
	draining bool // no further requests are read
}

// A ticket is a call that jrpc2 knows by its number.
type ticket struct {
	call    *call
	message *message
}

var _ channel.Channel = (*connection)(nil)

// serve handles the peer's requests until it, or the server, ends the
// connection, and until all handlers have returned.
func (c *connection) serve() {
	defer c.cancel()
	srv := jrpc2.NewServer(assigner{c}, &jrpc2.ServerOptions{
		DisableBuiltin: true,
		Concurrency:    c.server.limits.InFlight,
		NewContext:     func() context.Context { return c.ctx },
	})
	// What ended the stream is the peer's affair; there is nobody to tell.
	_ = srv.Start(c).Wait()
	c.discard()
}

// discard wipes what was read and will not be answered any more.
func (c *connection) discard() {
	c.scanner.wipe()
	clear(c.buffer)
	c.mu.Lock()
	left := make(map[*message]bool)
	for _, t := range c.tickets {
		left[t.message] = true
	}
	clear(c.tickets)
	c.mu.Unlock()
	for m := range left {
		c.release(m)
	}
}

// Recv returns the next message in the form that jrpc2 is given: one object
// per call, which holds nothing but its number. It blocks while all slots of
// the connection are taken.
func (c *connection) Recv() ([]byte, error) {
	for {
		m, err := c.receive()
		if err != nil {
			return nil, c.finish(err)
		}
		if len(m.calls) == 0 {
			m.wipe() // notifications only
			continue
		}
		if err := c.admit(m); err != nil {
			m.wipe()
			return nil, err
		}
		return c.enter(m), nil
	}
}

// finish lets the answers that are under way go out, if the peer can still
// take them, and returns what ends the channel.
func (c *connection) finish(cause error) error {
	if !errors.Is(cause, errOrderly) {
		return cause
	}
	if err := c.waitFor(func() bool { return c.inFlight == 0 }); err != nil {
		return err
	}
	return io.EOF
}

// admit takes the slots of m. Over the uid's limit m is not handled but
// answered.
func (c *connection) admit(m *message) error {
	m.weight = min(len(m.calls), c.server.limits.InFlight)
	err := c.waitFor(func() bool {
		free := c.inFlight+m.weight <= c.server.limits.InFlight
		if free {
			c.inFlight += m.weight
		}
		return free
	})
	if err != nil {
		return err
	}
	m.charged = c.server.takeInFlight(c.peer.UID, m)
	if !m.charged {
		m.refuse(Overloaded("too many requests of this user are under way", retryAfter))
	}
	return nil
}

// release gives back what m holds.
func (c *connection) release(m *message) {
	m.wipe()
	if m.charged {
		c.server.giveInFlight(c.peer.UID, m)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inFlight -= m.weight
	c.unparkLocked()
}

// waitFor blocks until ready, which is called with mu held, is true. It returns
// an error if the peer hangs up first.
func (c *connection) waitFor(ready func() bool) error {
	for {
		c.mu.Lock()
		if ready() {
			c.mu.Unlock()
			return nil
		}
		c.parked = true
		err := c.conn.SetReadDeadline(time.Time{})
		c.mu.Unlock()
		if err != nil {
			return err
		}
		if err := c.park(); err != nil {
			return err
		}
	}
}

// park sleeps in the network poller, so that a peer that hangs up is noticed
// also while nothing is read from it.
func (c *connection) park() error {
	gone := false
	err := c.raw.Read(func(fd uintptr) bool {
		gone = hungUp(int(fd))
		return gone
	})
	switch {
	case gone:
		return io.EOF
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	}
	return err
}

// hungUp reports whether the peer has closed both directions. One that has
// only ended its requests (shutdown, SHUT_WR) still gets its answers.
func hungUp(fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd)}}
	if _, err := unix.Poll(fds, 0); err != nil {
		return false
	}
	return fds[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0
}

func (c *connection) unparkLocked() {
	if c.parked {
		c.parked = false
		_ = c.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// drain stops reading requests; the connection ends with its last answer.
func (c *connection) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
	c.parked = false
	_ = c.conn.SetReadDeadline(time.Unix(1, 0))
}

// enter numbers the calls of m and returns m for jrpc2.
func (c *connection) enter(m *message) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out bytes.Buffer
	for i, call := range m.calls {
		if i > 0 {
			out.WriteByte(',')
		}
		c.next++
		c.tickets[c.next] = ticket{call, m}
		out.WriteString(`{"jsonrpc":"2.0","method":"call","id":`)
		out.Write(strconv.AppendUint(out.AvailableBuffer(), c.next, 10))
		out.WriteByte('}')
	}
	if !m.batch {
		return out.Bytes()
	}
	return append(append([]byte{'['}, out.Bytes()...), ']')
}

// Close ends the connection.
func (c *connection) Close() error { return c.conn.Close() }
