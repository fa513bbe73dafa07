package ipc

import (
	"encoding/json"
	"unicode/utf8"
)

// maxTail bounds what is kept of the end of a request that is skipped.
const maxTail = 1024

// A refusedValue is what the scanner keeps of a value over a limit: the request's
// id, so that its caller knows which of its calls is answered. Callers wait for
// ever for an answer to an id that they know, go-ethereum's client among them.
type refusedValue struct {
	id   []byte // as the peer wrote it; nil as long as it was not found
	tail []byte // what came since the last inner value of an object ended
	lost bool   // tail is not all of that
}

// begin looks for the id in head, the part of the value before the refusal.
func (r *refusedValue) begin(head []byte, isObject bool) {
	*r = refusedValue{lost: true} // head may end within a string
	if isObject {
		r.id = requestID(head)
	}
}

// keep takes bytes of the value's own level.
func (r *refusedValue) keep(b []byte) {
	switch {
	case r.lost || r.id != nil:
	case len(r.tail)+len(b) > maxTail:
		r.lost = true
		clear(r.tail)
	default:
		r.tail = append(r.tail, b...)
	}
}

// restart begins the tail: an inner value has ended.
func (r *refusedValue) restart(isObject bool) {
	if r.tail == nil {
		r.tail = make([]byte, 0, maxTail) // it does not grow, so that all of it can be wiped
	}
	clear(r.tail)
	r.tail, r.lost = r.tail[:0], !isObject
}

// end looks for the id among the last members of the value.
func (r *refusedValue) end() {
	if r.id == nil && !r.lost {
		r.id = requestID(r.tail)
	}
	clear(r.tail)
}

// requestID returns the id among the members that b has, which is the beginning
// of an object or what follows one of its members. It gives nil where there is
// none, or not all of it.
func requestID(b []byte) []byte {
	for i := skipSpace(b, 0); i < len(b) && (b[i] == '{' || b[i] == ','); i = skipSpace(b, i) {
		if i = skipSpace(b, i+1); i == len(b) || b[i] != '"' {
			return nil
		}
		key := b[i:stringEnd(b, i)]
		if i = skipSpace(b, i+len(key)); i == len(b) || b[i] != ':' {
			return nil
		}
		i = skipSpace(b, i+1)
		end := valueEnd(b, i)
		if end == len(b) {
			return nil
		}
		if string(key) == `"id"` {
			return usableID(b[i:end])
		}
		i = end
	}
	return nil
}

func usableID(value []byte) []byte {
	if !json.Valid(value) || !utf8.Valid(value) || idProblem(value) != "" {
		return nil
	}
	return append([]byte(nil), value...)
}
