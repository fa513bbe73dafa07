package ipc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
)

// Errors of the client, beside *Error for what the server answered.
var (
	// ErrClientClosed is returned by calls on a client after Close.
	ErrClientClosed = errors.New("ipc: client is closed")
	// ErrNotSent is returned when the connection ended, twice, before the
	// request had left as a whole: the server has not acted on it.
	ErrNotSent = errors.New("ipc: connection lost before the request was sent")
	// ErrConnectionLost is returned when the connection ended after the
	// request was sent and before its answer came: the server may or may not
	// have acted on it. Repeat only what is idempotent, with the same request
	// id.
	ErrConnectionLost = errors.New("ipc: connection lost, the outcome of the request is unknown")
	// ErrProtocol is returned when the server's answer makes no sense.
	ErrProtocol = errors.New("ipc: malformed answer")
)

// A Client calls a server over one Unix socket. A connection that was lost is
// made anew by the next call. It is safe for concurrent use; the calls share
// one connection.
type Client struct {
	path string

	pins pins

	turn chan struct{} // of size 1: who holds it may dial

	mu     sync.Mutex
	link   *link
	closed bool
}

// Dial connects to the socket at path. ctx bounds the dialling only. Without
// the option Identity or PlainPINs, requests with a PIN return ErrNoIdentity.
func Dial(ctx context.Context, path string, options ...Option) (*Client, error) {
	c := &Client{path: path, turn: make(chan struct{}, 1)}
	for _, o := range options {
		if err := o(c); err != nil {
			return nil, err
		}
	}
	if _, err := c.connect(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// Close ends the connection; calls under way return ErrConnectionLost.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.link == nil {
		return nil
	}
	err := c.link.close()
	c.link = nil
	return err
}

// Call sends one request and decodes the result into result, unless that is
// nil. params is nil for none, a slice for parameters by position, or one value,
// as a sigild_* method takes it; only the fields of a struct, and values by
// position, may be a Secret. The request's bytes are wiped once they are sent.
// Secrets are sealed to the daemon; see Identity.
//
// A request is sent a second time only if the first one did not leave as a
// whole, so that the server cannot have acted on it, or if its PIN is sealed, so
// that the server acts on it once and repeats its first answer. An error is an *Error if
// the server answered with one, ctx.Err(), or wraps one of this package's.
func (c *Client) Call(ctx context.Context, method string, params, result any) error {
	raw, err := c.exchange(ctx, method, params)
	if err != nil || result == nil {
		return err
	}
	if err := json.Unmarshal(raw, result); err != nil {
		return fmt.Errorf("%w: result of %s: %v", ErrProtocol, method, err)
	}
	return nil
}

func (c *Client) roundTrip(ctx context.Context, method string, params []byte) (json.RawMessage, error) {
	l, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	raw, err := l.call(ctx, method, params)
	if !errors.Is(err, ErrNotSent) || ctx.Err() != nil {
		return raw, err
	}
	if l, err = c.connect(ctx); err != nil {
		return nil, err
	}
	return l.call(ctx, method, params)
}

// connect returns a link that was alive a moment ago.
func (c *Client) connect(ctx context.Context) (*link, error) {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if l, err := c.current(); l != nil || err != nil {
		return l, err
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", c.path)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("ipc: is sigild running? %w", err)
	}
	return c.adopt(newLink(conn))
}

// current returns the link if it is alive, nil if one has to be made.
func (c *Client) current() (*link, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ErrClientClosed
	}
	if c.link != nil && c.link.alive() {
		return c.link, nil
	}
	return nil, nil
}

func (c *Client) adopt(l *link) (*link, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		_ = l.close()
		return nil, ErrClientClosed
	}
	c.link = l
	return l, nil
}
