package ipc

import (
	"errors"
	"io"
	"os"
	"time"
)

// errOrderly ends the reading of requests, but not the answers under way.
var errOrderly = errors.New("ipc: no further requests")

// receive returns the next message. What cannot be a message is answered here.
func (c *connection) receive() (*message, error) {
	for {
		if err := c.fill(); err != nil {
			return nil, err
		}
		begun := c.scanner.begun()
		n, ev := c.scanner.scan(c.unread)
		clear(c.unread[:n])
		c.unread = c.unread[n:]
		if c.scanner.begun() != begun || ev == eventValue {
			c.since = time.Now()
		}
		m, err := c.handleEvent(ev)
		if m != nil || err != nil {
			return m, err
		}
	}
}

func (c *connection) handleEvent(ev event) (*message, error) {
	switch ev {
	case eventValue:
		return c.parse(c.scanner.take())
	case eventTooLarge, eventTooDeep, eventBatchTooLong:
		c.refused = c.refusal(ev)
		return nil, c.answerRefused(false)
	case eventSkipped, eventEndless:
		return nil, c.answerRefused(true)
	case eventGarbage:
		return nil, c.replyLast(parseError("no JSON value can begin here"))
	}
	return nil, nil
}

// answerRefused answers a request over a limit as soon as its id is known, and at
// the latest when it is at its end. Without an id its caller would not know that
// it was answered, so the connection ends; so it does with a request that goes on
// for too long.
func (c *connection) answerRefused(ended bool) error {
	e, id := c.refused, c.scanner.rest.id
	switch {
	case e != nil && id != nil:
		c.refused = nil
		if err := c.write(errorResponse(id, e)); err != nil {
			return err
		}
	case e != nil && ended:
		return c.replyLast(e)
	}
	if ended && c.scanner.skipping() { // the end did not come
		return errOrderly
	}
	return nil
}

// parse makes a message of a complete value, or answers what is none.
func (c *connection) parse(value []byte) (*message, error) {
	m, refused := parseMessage(value)
	if refused != nil {
		clear(value)
		return nil, c.reply(refused)
	}
	return m, nil
}

// reply writes an error that belongs to no id.
func (c *connection) reply(e *Error) error { return c.write(errorResponse(nil, e)) }

// replyLast is reply for an error after which the stream is of no use.
func (c *connection) replyLast(e *Error) error {
	if err := c.reply(e); err != nil {
		return err
	}
	return errOrderly
}

// fill makes sure that there are bytes to scan.
func (c *connection) fill() error {
	for {
		if err := c.armRead(); err != nil {
			return err
		}
		if len(c.unread) > 0 {
			return nil
		}
		n, err := c.conn.Read(c.buffer)
		c.unread = c.buffer[:n]
		switch {
		case n > 0 && c.isDraining(): // it came while the read was on its way into the kernel
			return errOrderly
		case n > 0:
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			err = c.timedOut()
		case errors.Is(err, io.EOF):
			return c.ended()
		}
		if err != nil {
			return err
		}
	}
}

// armRead sets the time until which the peer may be silent. Within a value
// that is the time for the whole of it, so that a byte now and then does not
// hold a buffer for ever.
func (c *connection) armRead() error {
	timeout := c.server.limits.IdleTimeout
	if c.scanner.begun() {
		timeout = c.server.limits.RequestTimeout
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining {
		return errOrderly
	}
	return c.conn.SetReadDeadline(c.since.Add(timeout))
}

func (c *connection) isDraining() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.draining
}

// timedOut decides what a silent peer means.
func (c *connection) timedOut() error {
	c.mu.Lock()
	draining, waiting := c.draining, c.inFlight > 0
	c.mu.Unlock()
	switch {
	case draining:
		return errOrderly
	case c.scanner.skipping():
		return c.answerRefused(true)
	case c.scanner.begun():
		return c.replyLast(&Error{
			Code: CodeInvalidRequest, Reason: ReasonTimeout,
			Message: "the request was not complete in time",
		})
	case waiting:
		c.since = time.Now()
		return nil
	}
	return errOrderly
}

// ended handles the end of the requests: a number ends with the stream, other
// values are cut short by it.
func (c *connection) ended() error {
	if !c.scanner.begun() {
		return errOrderly
	}
	if c.scanner.skipping() {
		return c.answerRefused(true)
	}
	if c.scanner.end() == eventValue {
		return c.replyLast(invalidRequest("a request is an object"))
	}
	return c.replyLast(parseError("the stream ended within a value"))
}
