package ipc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// errAnswer is returned when jrpc2 sends what is not an answer to a call.
var errAnswer = errors.New("ipc: an answer without a call")

const answerPrefix = `{"jsonrpc":"2.0","id":`

// Send writes the answer to one message, with the peer's own ids, and gives the
// message's slots back. A peer that does not take it loses the connection.
func (c *connection) Send(answer []byte) error {
	out, m, err := c.translate(answer)
	if err == nil {
		err = c.write(out)
	}
	if m != nil {
		c.release(m)
	}
	if err != nil {
		_ = c.conn.Close()
	}
	return err
}

// translate replaces our numbers by the peer's ids and returns the message
// that is answered.
func (c *connection) translate(answer []byte) ([]byte, *message, error) {
	out := make([]byte, 0, len(answer)+64)
	if answer[0] != '[' {
		return c.translateOne(out, answer)
	}
	var m *message
	out = append(out, '[')
	err := eachElement(answer, func(n int, one []byte) (err error) {
		if n > 0 {
			out = append(out, ',')
		}
		out, m, err = c.translateOne(out, one)
		return err
	})
	return append(out, ']'), m, err
}

func (c *connection) translateOne(out, answer []byte) ([]byte, *message, error) {
	rest, ok := bytes.CutPrefix(answer, []byte(answerPrefix))
	number, rest, found := bytes.Cut(rest, []byte{','})
	if !ok || !found {
		return out, nil, errAnswer
	}
	t, ok := c.redeem(string(number))
	if !ok {
		return out, nil, errAnswer
	}
	out = append(out, answerPrefix...)
	if t.call.id == nil {
		out = append(out, "null"...)
	}
	out = append(append(out, t.call.id...), ',')
	return append(out, rest...), t.message, nil
}

// ticket returns the call that jrpc2 knows as number.
func (c *connection) ticket(number string) (uint64, ticket, bool) {
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return 0, ticket{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	t, ok := c.tickets[n]
	return n, t, ok
}

// redeem is ticket for a call that is answered.
func (c *connection) redeem(number string) (ticket, bool) {
	n, t, ok := c.ticket(number)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.tickets, n)
	return t, ok
}

// write sends b and a newline, for the people who look at the stream, in one
// piece, and wipes b.
func (c *connection) write(b []byte) error {
	b = append(b, '\n')
	defer clear(b)
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	if err := c.conn.SetWriteDeadline(time.Now().Add(c.server.limits.WriteTimeout)); err != nil {
		return err
	}
	_, err := c.conn.Write(b)
	return err
}

// errorResponse returns the response that carries e; nil belongs to no id.
func errorResponse(id []byte, e *Error) []byte {
	body, err := json.Marshal(e)
	if err != nil { // every field is a plain value
		panic(fmt.Sprintf("ipc: error object: %v", err))
	}
	if id == nil {
		id = []byte("null")
	}
	out := append([]byte(nil), answerPrefix...)
	out = append(append(out, id...), `,"error":`...)
	return append(append(out, body...), '}')
}

// refusal returns the error for a value that exceeds a limit.
func (c *connection) refusal(ev event) *Error {
	l := c.server.limits
	e := &Error{Code: CodeInvalidRequest}
	switch ev {
	case eventTooLarge:
		e.Reason, e.Message = ReasonTooLarge, fmt.Sprintf("the request is larger than %d bytes", l.MessageBytes)
	case eventTooDeep:
		e.Reason, e.Message = ReasonTooDeep, fmt.Sprintf("the request is nested deeper than %d levels", l.Depth)
	case eventBatchTooLong:
		e.Reason, e.Message = ReasonBatchTooLong, fmt.Sprintf("the batch has more than %d requests", l.Batch)
	}
	return e
}
