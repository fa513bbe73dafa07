package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/sigild/sigild/ipc"
)

// connect reaches the daemon before anybody is asked for a PIN.
func (a *app) connect(ctx context.Context) (*ipc.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	c, err := ipc.Dial(ctx, a.socket)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, fail(exitUnavailable, reasonUnreachable, "", "sigild did not take the connection within --timeout; nothing was sent")
	}
	return c, err
}

// query connects, and calls a method that needs no PIN.
func query[Result any](ctx context.Context, a *app, method string, params any) (*Result, json.RawMessage, error) {
	c, err := a.connect(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer c.Close()
	return call[Result](ctx, a, c, method, params)
}

// call returns the result, and its text as the daemon wrote it: that may have
// members which this program does not know yet.
func call[Result any](ctx context.Context, a *app, c *ipc.Client, method string, params any) (*Result, json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	var raw json.RawMessage
	if err := c.Call(ctx, method, params, &raw); err != nil {
		return nil, nil, err
	}
	result := new(Result)
	if err := json.Unmarshal(raw, result); err != nil {
		return nil, nil, fmt.Errorf("%w: result of %s", ipc.ErrProtocol, method)
	}
	return result, raw, nil
}

// print writes the result once, whole: as the daemon sent it with --json, else
// in the words of human. A result that nobody got is a failure.
func (a *app) print(raw json.RawMessage, human func() string) error {
	var out bytes.Buffer
	if a.json {
		if err := json.Compact(&out, raw); err != nil {
			return fmt.Errorf("%w: not JSON", ipc.ErrProtocol)
		}
		out.WriteByte('\n')
	} else {
		out.WriteString(human())
	}
	if _, err := a.stdout.Write(out.Bytes()); err != nil {
		f := fail(exitFailed, reasonFailed, "", "the daemon answered, but the result could not be written: %v", err)
		f.answered = true
		return f
	}
	return nil
}
