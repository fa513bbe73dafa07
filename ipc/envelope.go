package ipc

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// Bounds on what the server must send back or log.
const (
	maxIDBytes     = 256
	maxMethodBytes = 128
)

// A call is one request of a message.
type call struct {
	id     []byte // the raw id, a string, a number or null; nil for none
	method string
	params json.RawMessage // aliases the message; nil for none
	err    *Error          // answered with this instead of being handled
	absent bool            // a notification: not answered, not handled
}

// A message is one JSON value from the peer: a request or a batch.
type message struct {
	bytes   []byte // the value itself; params alias it
	batch   bool
	calls   []*call // without the notifications
	weight  int     // slots that it takes of its connection
	size    int     // bytes of the value
	charged bool    // its calls and size count against the uid
	answers int     // bytes of its results that count against the uid; of Server.mu
}

// wipe overwrites the request's bytes.
func (m *message) wipe() { clear(m.bytes) }

// refuse answers all calls with err, and lets go of the request's bytes.
func (m *message) refuse(err *Error) {
	for _, c := range m.calls {
		c.err, c.params = err, nil
	}
	m.wipe()
	m.bytes = nil
}

// parseMessage takes the envelope apart. It returns an *Error, to be sent with
// id null, when there is nothing in b that could be answered one by one. It
// does not keep b in that case.
func parseMessage(b []byte) (*message, *Error) {
	if !utf8.Valid(b) {
		return nil, parseError("not UTF-8")
	}
	if !json.Valid(b) {
		return nil, parseError("not JSON")
	}
	m := &message{bytes: b, size: len(b), batch: b[0] == '['}
	if !m.batch {
		m.add(parseCall(b))
		return m, nil
	}
	n := 0
	_ = eachElement(b, func(_ int, value []byte) error {
		n++
		m.add(parseCall(value))
		return nil
	})
	if n == 0 {
		return nil, invalidRequest("the batch is empty")
	}
	return m, nil
}

func (m *message) add(c *call) {
	if !c.absent {
		m.calls = append(m.calls, c)
	}
}

// parseCall reads one request object, strictly by JSON-RPC 2.0 section 4.
func parseCall(b []byte) *call {
	c := &call{}
	if b[0] != '{' {
		c.err = invalidRequest("a request is an object")
		return c
	}
	e := envelope{call: c}
	_ = eachMember(b, func(key, value []byte) error {
		e.member(key, value)
		return nil
	})
	e.finish()
	return c
}

// An envelope is a request object while it is read.
type envelope struct {
	call                                   *call
	hasVersion, hasID, hasMethod, hasParam bool
}

func (e *envelope) member(key, value []byte) {
	switch string(key) {
	case `"jsonrpc"`:
		e.version(value)
	case `"id"`:
		e.id(value)
	case `"method"`:
		e.method(value)
	case `"params"`:
		e.params(value)
	default:
		e.fail("a member other than jsonrpc, id, method and params")
	}
}

// fail notes the first error; reading goes on, since the id may come later.
func (e *envelope) fail(message string) {
	if e.call.err == nil {
		e.call.err = invalidRequest(message)
	}
}

func (e *envelope) version(value []byte) {
	if e.hasVersion {
		e.fail("jsonrpc is given twice")
		return
	}
	e.hasVersion = true
	if string(value) != `"2.0"` {
		e.fail(`jsonrpc is not "2.0"`)
	}
}

func (e *envelope) id(value []byte) {
	if e.hasID {
		e.call.id = nil
		e.fail("id is given twice")
		return
	}
	e.hasID = true
	if problem := idProblem(value); problem != "" {
		e.fail(problem)
		return
	}
	e.call.id = bytes.Clone(value)
}

// idProblem says why a JSON value cannot be the id of a request, "" when it can.
// Null is one, which JSON-RPC 2.0 section 4 takes and discourages.
func idProblem(value []byte) string {
	isText := value[0] == '"'
	isNumber := value[0] == '-' || value[0] >= '0' && value[0] <= '9'
	switch {
	case !isText && !isNumber && string(value) != "null":
		return "id is neither a string, a number nor null"
	case len(value) > maxIDBytes:
		return "id is too long"
	}
	return ""
}

func (e *envelope) method(value []byte) {
	if e.hasMethod {
		e.fail("method is given twice")
		return
	}
	e.hasMethod = true
	name, ok := unquote(nil, value[:min(len(value), maxMethodBytes)])
	if !ok || len(name) == 0 {
		e.fail("method is not a name")
		return
	}
	e.call.method = string(name)
}

func (e *envelope) params(value []byte) {
	if e.hasParam {
		e.fail("params is given twice")
		return
	}
	e.hasParam = true
	switch {
	case string(value) == "null":
	case value[0] == '[' || value[0] == '{':
		e.call.params = value
	default:
		e.fail("params is neither an array nor an object")
	}
}

// finish checks that nothing is missing. A valid request without an id is a
// notification.
func (e *envelope) finish() {
	switch {
	case e.call.err != nil:
	case !e.hasVersion:
		e.fail("jsonrpc is missing")
	case !e.hasMethod:
		e.fail("method is missing")
	case !e.hasID:
		e.call.absent = true
	}
}
