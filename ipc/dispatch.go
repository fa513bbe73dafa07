package ipc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/creachadair/jrpc2"
)

// errPanic is in the tree of the error that RequestInfo reports when a handler
// panicked.
var errPanic = errors.New("ipc: handler panicked")

// assigner gives every call of a connection to the connection itself. It never
// returns nil, for which jrpc2 would keep the call's id for ever.
type assigner struct{ c *connection }

// Assign implements jrpc2.Assigner.
func (a assigner) Assign(context.Context, string) jrpc2.Handler { return a.c.handle }

// handle answers one call.
func (c *connection) handle(ctx context.Context, req *jrpc2.Request) (any, error) {
	_, t, ok := c.ticket(req.ID())
	if !ok {
		return nil, wireError(internalError())
	}
	start := time.Now()
	result, err := c.run(ctx, t)
	clear(t.call.params)
	c.server.report(ctx, RequestInfo{
		Peer: c.peer, Method: t.call.method, Duration: time.Since(start), Err: err,
	})
	if err != nil {
		return nil, wireError(c.server.public(c.peer, t.call.method, err))
	}
	return result, nil
}

// run calls the handler of the call's method. The result is marshalled here,
// since jrpc2 would show the caller why a value cannot be.
func (c *connection) run(ctx context.Context, t ticket) (result json.RawMessage, err error) {
	call := t.call
	if call.err != nil {
		return nil, call.err
	}
	handler, ok := c.server.opts.Methods[call.method]
	if !ok || handler == nil {
		return nil, methodNotFound(call.method)
	}
	ctx, cancel := context.WithTimeout(ctx, c.server.limits.RequestTimeout)
	defer cancel()
	release, refused := c.server.takeAnswer(ctx, c.peer.UID, call.method)
	if refused != nil {
		return nil, refused
	}
	defer release()
	defer func() {
		if p := recover(); p != nil {
			c.server.log.Error("handler panicked", slog.String("method", call.method),
				slog.String("stack", string(debug.Stack())))
			result, err = nil, errPanic
		}
	}()
	value, err := handler(ctx, call.params)
	if err != nil {
		return nil, err
	}
	if result, err = json.Marshal(value); err != nil {
		return nil, err
	}
	c.server.holdAnswer(c.peer.UID, t.message, len(result))
	return result, nil
}

func methodNotFound(method string) *Error {
	return &Error{
		Code: CodeMethodNotFound, Reason: ReasonMethodNotFound,
		Message: fmt.Sprintf("the method %q does not exist", method),
	}
}

// public returns what the caller may know of err; the log gets the rest.
func (s *Server) public(peer Peer, method string, err error) *Error {
	var known *Error
	if errors.As(err, &known) && known != nil {
		return known
	}
	s.log.Error("request failed", slog.Any("peer", peer), slog.String("method", method),
		slog.String("error", fmt.Sprint(err)))
	return internalError()
}

// wireError returns e as jrpc2 sends it. A code that nobody set is the first
// one of the range that JSON-RPC leaves to servers.
func wireError(e *Error) *jrpc2.Error {
	code := jrpc2.Code(e.Code)
	if code == 0 {
		code = CodeServer
	}
	data, err := e.data()
	if err != nil { // every field is a plain value
		panic(fmt.Sprintf("ipc: error object: %v", err))
	}
	return &jrpc2.Error{Code: code, Message: e.Message, Data: data}
}
