package ipc

import "encoding/json"

// Framed is what the scanner makes of a stream.
type Framed struct {
	Values   []json.RawMessage
	Events   []string // one per event other than "more"
	IDs      []string // of the values that were refused, "" for none
	Capacity int      // the most that was held at any time, in bytes
}

// Frame feeds stream to a scanner in pieces of the given size.
func Frame(stream []byte, piece, maxBytes, maxDepth, maxBatch int) Framed {
	s := scanner{maxBytes: maxBytes, maxDepth: maxDepth, maxBatch: maxBatch}
	var out Framed
	for len(stream) > 0 {
		n, ev := s.scan(stream[:min(piece, len(stream))])
		stream = stream[n:]
		out.Capacity = max(out.Capacity, cap(s.value))
		if !out.note(&s, ev) {
			return out
		}
	}
	if s.begun() {
		out.note(&s, s.end())
	}
	return out
}

// note reports whether the stream can go on.
func (f *Framed) note(s *scanner, ev event) bool {
	if ev == eventMore {
		return true
	}
	f.Events = append(f.Events, [...]string{
		eventValue: "value", eventSkipped: "skipped", eventGarbage: "garbage",
		eventTooLarge: "tooLarge", eventTooDeep: "tooDeep",
		eventBatchTooLong: "batchTooLong", eventEndless: "endless",
	}[ev])
	if ev == eventSkipped || ev == eventEndless {
		f.IDs = append(f.IDs, string(s.rest.id))
	}
	if ev == eventValue {
		f.Values = append(f.Values, s.take())
	}
	return ev != eventGarbage && ev != eventEndless
}

// EncodeParams is encodeParams.
func EncodeParams(v any) ([]byte, error) { return encodeParams(v) }

// ParsedCall is a request as parseMessage reads it.
type ParsedCall struct {
	ID     string
	Method string
	Params json.RawMessage
	Err    *Error
}

// ParseMessage is parseMessage.
func ParseMessage(b []byte) ([]ParsedCall, *Error) {
	m, refused := parseMessage(b)
	if refused != nil {
		return nil, refused
	}
	var out []ParsedCall
	for _, c := range m.calls {
		out = append(out, ParsedCall{string(c.id), c.method, c.params, c.err})
	}
	return out, nil
}
