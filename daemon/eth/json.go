package eth

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	// MaxInput is the most bytes of JSON that a reader accepts: room for a blob
	// transaction of six blobs of 128 KiB in hexadecimal.
	MaxInput = 2 << 20
	// MaxDepth is how deep arrays and objects may nest in a payload.
	MaxDepth = 48
	// MaxValues is how many JSON values a payload may hold.
	MaxValues = 1 << 16
)

// kind is the JSON type of a value. The zero kind is an absent value.
type kind uint8

const (
	absent kind = iota
	null
	boolean
	number
	text
	list
	object
)

// String names the kind for an error.
func (k kind) String() string {
	names := [...]string{"absent", "null", "a boolean", "a number", "a string", "an array", "an object"}
	return names[k]
}

// value is one JSON value. Unlike what encoding/json makes of an object, it
// keeps every member's exact name and the literal text of numbers.
type value struct {
	kind    kind
	yes     bool   // of a boolean
	text    string // of a string, or a number's literal
	items   []value
	members []member
}

type member struct {
	name  string
	value value
}

// member returns the member called name, of kind absent if there is none.
func (v value) member(name string) value {
	for _, m := range v.members {
		if m.name == name {
			return m.value
		}
	}
	return value{}
}

// parseJSON reads one JSON text without duplicate names, invalid UTF-8 and
// unpaired surrogates. The last two would be replaced silently by U+FFFD, so
// that something else would be signed than was asked for.
func parseJSON(raw []byte) (value, error) {
	if len(raw) > MaxInput {
		return value{}, problem("is longer than %d bytes", MaxInput)
	}
	if !utf8.Valid(raw) {
		return value{}, problem("is not valid UTF-8")
	}
	if !json.Valid(raw) {
		return value{}, problem("is not one valid JSON value")
	}
	if !surrogatesPaired(raw) {
		return value{}, problem("holds a \\u escape of half a surrogate pair")
	}
	reader := treeReader{raw: raw}
	return reader.value(0)
}

// treeReader reads values from a JSON text that json.Valid has accepted: it
// looks for the ends of tokens only. That is several times as fast as the tokens
// of json.Decoder, which every signature would wait for.
type treeReader struct {
	raw    []byte
	pos    int
	values int
}

// next returns the first byte of the next token.
func (r *treeReader) next() byte {
	for r.raw[r.pos] == ' ' || r.raw[r.pos] == '\t' || r.raw[r.pos] == '\n' || r.raw[r.pos] == '\r' {
		r.pos++
	}
	return r.raw[r.pos]
}

func (r *treeReader) value(depth int) (value, error) {
	if r.values++; r.values > MaxValues {
		return value{}, problem("holds more than %d values", MaxValues)
	}
	switch r.next() {
	case '{', '[':
		return r.container(depth + 1)
	case '"':
		content, err := r.string()
		return value{kind: text, text: content}, err
	}
	switch literal := r.literal(); literal {
	case "null":
		return value{kind: null}, nil
	case "true", "false":
		return value{kind: boolean, yes: literal == "true"}, nil
	default:
		return value{kind: number, text: literal}, nil
	}
}

// literal reads a number, true, false or null, which end where the text or the
// container does.
func (r *treeReader) literal() string {
	end := r.pos
	for end < len(r.raw) && !strings.ContainsRune(",]} \t\n\r", rune(r.raw[end])) {
		end++
	}
	literal := string(r.raw[r.pos:end])
	r.pos = end
	return literal
}

func (r *treeReader) string() (content string, err error) {
	start, escaped := r.pos, false
	for r.pos++; r.raw[r.pos] != '"'; r.pos++ {
		if r.raw[r.pos] == '\\' {
			escaped = true
			r.pos++
		}
	}
	r.pos++
	if !escaped {
		return string(r.raw[start+1 : r.pos-1]), nil
	}
	if json.Unmarshal(r.raw[start:r.pos], &content) != nil {
		return "", problem("is not one valid JSON value")
	}
	return content, nil
}

func (r *treeReader) container(depth int) (value, error) {
	if depth > MaxDepth {
		return value{}, problem("is nested deeper than %d levels", MaxDepth)
	}
	if r.raw[r.pos] == '{' {
		return r.object(depth)
	}
	return r.list(depth)
}

// more steps over the bracket or comma before the next element, or over the
// bracket at the container's end.
func (r *treeReader) more(end byte) bool {
	if r.next() != end {
		r.pos++
	}
	if r.next() != end {
		return true
	}
	r.pos++
	return false
}

func (r *treeReader) list(depth int) (value, error) {
	v := value{kind: list}
	for r.more(']') {
		item, err := r.value(depth)
		if err != nil {
			return value{}, atIndex(len(v.items), err)
		}
		v.items = append(v.items, item)
	}
	return v, nil
}

func (r *treeReader) object(depth int) (value, error) {
	v := value{kind: object}
	for r.more('}') {
		r.next()
		name, err := r.string()
		if err != nil {
			return value{}, err
		}
		r.next()
		r.pos++ // the colon
		content, err := r.value(depth)
		if err != nil {
			return value{}, at(name, err)
		}
		v.members = append(v.members, member{name: name, value: content})
	}
	return v, v.checkNames()
}

// checkNames returns an error if two members of an object have one name.
func (v value) checkNames() error {
	names := make([]string, len(v.members))
	for i, m := range v.members {
		names[i] = m.name
	}
	slices.Sort(names)
	for i := 1; i < len(names); i++ {
		if names[i] == names[i-1] {
			return at(names[i], problem("is given twice"))
		}
	}
	return nil
}

// surrogatesPaired reports whether every \uD800…\uDFFF escape of a well-formed
// JSON text is half of a pair in the right order.
func surrogatesPaired(raw []byte) bool {
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		unit, isUnit := escapedUnit(raw[i:])
		switch {
		case !isUnit:
			i++
		case unit < 0xd800 || unit > 0xdfff:
			i += 5
		default:
			low, follows := escapedUnit(raw[i+6:])
			if unit > 0xdbff || !follows || low < 0xdc00 || low > 0xdfff {
				return false
			}
			i += 11
		}
	}
	return true
}

// escapedUnit reads a \uXXXX escape at the start of b.
func escapedUnit(b []byte) (unit uint64, ok bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	unit, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	return unit, err == nil
}
