package ipc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"
)

// maxAnswerBytes bounds what the client holds of one answer.
const maxAnswerBytes = 64 << 20

// lastWordTimeout bounds how long a link that cannot be written to is read.
const lastWordTimeout = time.Second

// A link is one connection of a client.
type link struct {
	conn    net.Conn
	writing chan struct{} // of size 1: who holds it may write
	done    chan struct{} // closed when no answer can come any more

	mu      sync.Mutex
	next    uint64
	pending map[uint64]chan response
	cause   error // why done is closed
}

// A response is a JSON-RPC response object.
type response struct {
	Version string          `json:"jsonrpc"`
	ID      *uint64         `json:"id"`
	Result  json.RawMessage `json:"result"`
	Error   *Error          `json:"error"`
}

func newLink(conn net.Conn) *link {
	l := &link{
		conn:    conn,
		writing: make(chan struct{}, 1),
		done:    make(chan struct{}),
		pending: make(map[uint64]chan response),
	}
	go l.read()
	return l
}

func (l *link) alive() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cause == nil
}

func (l *link) close() error {
	l.fail(ErrConnectionLost)
	return l.conn.Close()
}

// fail ends the link; only the first cause counts.
func (l *link) fail(cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failLocked(cause)
}

func (l *link) failLocked(cause error) {
	if l.cause == nil {
		l.cause = cause
		close(l.done)
	}
}

// call sends one request and waits for its answer.
func (l *link) call(ctx context.Context, method string, params []byte) (json.RawMessage, error) {
	id, answer := l.register()
	defer l.forget(id)
	request, err := encodeRequest(id, method, params)
	if err != nil {
		return nil, err
	}
	defer clear(request)
	if err := l.send(ctx, request); err != nil {
		return lastWord(answer, err)
	}
	select {
	case r := <-answer:
		return r.outcome()
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.done:
		return lastWord(answer, l.cause)
	}
}

// lastWord prefers an answer that came before the end.
func lastWord(answer chan response, err error) (json.RawMessage, error) {
	select {
	case r := <-answer:
		return r.outcome()
	default:
		return nil, err
	}
}

func (r response) outcome() (json.RawMessage, error) {
	if r.Error != nil {
		return nil, r.Error
	}
	if r.Result == nil {
		return nil, fmt.Errorf("%w: neither result nor error", ErrProtocol)
	}
	return r.Result, nil
}

func encodeRequest(id uint64, method string, params []byte) ([]byte, error) {
	name, err := json.Marshal(method)
	if err != nil {
		return nil, fmt.Errorf("%w: method: %v", ErrParams, err)
	}
	out := make([]byte, 0, len(name)+len(params)+80)
	out = append(out, `{"jsonrpc":"2.0","id":`...)
	out = strconv.AppendUint(out, id, 10)
	out = append(append(out, `,"method":`...), name...)
	out = append(append(out, `,"params":`...), params...)
	return append(out, "}\n"...), nil
}

func (l *link) register() (uint64, chan response) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next++
	answer := make(chan response, 1)
	l.pending[l.next] = answer
	return l.next, answer
}

func (l *link) forget(id uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.pending, id)
}

// send writes the request. A request that left in part only can be neither
// finished nor taken back, so it ends the link.
func (l *link) send(ctx context.Context, request []byte) error {
	select {
	case l.writing <- struct{}{}:
		defer func() { <-l.writing }()
	case <-ctx.Done():
		return ctx.Err()
	case <-l.done:
		return l.unsent(nil)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	n, err := l.write(ctx, request)
	// The newline at the end is for readers; the request is complete without.
	if err == nil || n >= len(request)-1 {
		return nil
	}
	if n == 0 && ctx.Err() != nil {
		return ctx.Err()
	}
	if ctx.Err() != nil {
		_ = l.conn.Close()
		return ctx.Err()
	}
	// The server has hung up. What it said before is still to be read.
	_ = l.conn.SetReadDeadline(time.Now().Add(lastWordTimeout))
	<-l.done
	return l.unsent(err)
}

// write is bounded by ctx.
func (l *link) write(ctx context.Context, b []byte) (int, error) {
	if err := l.conn.SetWriteDeadline(time.Time{}); err != nil {
		return 0, err
	}
	expired := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(expired)
		_ = l.conn.SetWriteDeadline(time.Unix(1, 0))
	})
	n, err := l.conn.Write(b)
	if !stop() {
		<-expired // or it would hit the next write
	}
	return n, err
}

// unsent prefers what the server said before it hung up, such as that this
// user may not connect.
func (l *link) unsent(err error) error {
	var said *Error
	if errors.As(l.cause, &said) {
		return said
	}
	if err == nil {
		return ErrNotSent
	}
	return fmt.Errorf("%w: %v", ErrNotSent, err)
}

// read delivers answers until the connection ends.
func (l *link) read() {
	defer l.conn.Close()
	in := scanner{maxBytes: maxAnswerBytes, maxDepth: 1000, maxBatch: 1}
	buffer := make([]byte, readBytes)
	for {
		n, err := l.conn.Read(buffer)
		if scanErr := l.scan(&in, buffer[:n]); scanErr != nil {
			l.fail(scanErr)
			return
		}
		if err != nil {
			l.fail(ErrConnectionLost)
			return
		}
	}
}

func (l *link) scan(in *scanner, b []byte) error {
	for len(b) > 0 {
		n, ev := in.scan(b)
		b = b[n:]
		switch ev {
		case eventMore:
		case eventValue:
			if err := l.deliver(in.take()); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%w: %w", ErrConnectionLost, ErrProtocol)
		}
	}
	return nil
}

// deliver gives an answer to its caller.
func (l *link) deliver(value []byte) error {
	var r response
	if err := json.Unmarshal(value, &r); err != nil || r.Version != "2.0" {
		return fmt.Errorf("%w: %w", ErrConnectionLost, ErrProtocol)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.ID == nil {
		return l.deliverUnnamedLocked(r)
	}
	if answer, ok := l.pending[*r.ID]; ok {
		delete(l.pending, *r.ID)
		answer <- r
	}
	return nil
}

// deliverUnnamedLocked ends the link by an error of the server that belongs to
// no id. It goes to the only call under way. With several of them nobody knows
// which was meant; with none it is why the server hangs up.
func (l *link) deliverUnnamedLocked(r response) error {
	switch {
	case r.Error == nil:
		return fmt.Errorf("%w: %w", ErrConnectionLost, ErrProtocol)
	case len(l.pending) == 0:
		return r.Error
	case len(l.pending) > 1:
		return fmt.Errorf("%w: %w", ErrConnectionLost, r.Error)
	}
	for id, answer := range l.pending {
		delete(l.pending, id)
		answer <- r
	}
	// Before the caller runs on: its next call must not use this link.
	l.failLocked(ErrConnectionLost)
	return ErrConnectionLost
}
