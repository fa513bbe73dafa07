package ipc

import (
	"encoding"
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"unicode/utf8"
)

// maxPathName bounds what of a caller's own member name an error repeats.
const maxPathName = 64

// maxDepth bounds the nesting of a text that is not itself the request, such as
// JSON in a string, which the connection's own limit does not see.
const maxDepth = 64

// checkUnique refuses a member that an object of b, at any depth, has twice,
// and strings that are not Unicode. Space before the value hides nothing.
func checkUnique(b []byte, path string) error { return checkNested(b, path, maxDepth) }

func checkNested(b []byte, path string, depth int) error {
	b = b[skipSpace(b, 0):]
	if nested := b[0] == '{' || b[0] == '['; nested && depth == 0 {
		return InvalidParams("", "nested too deep")
	}
	switch b[0] {
	case '{':
		return checkUniqueObject(b, path, depth-1)
	case '[':
		return eachElement(b, func(n int, value []byte) error {
			return checkNested(value, path+"["+strconv.Itoa(n)+"]", depth-1)
		})
	case '"':
		if !isUnicode(b) {
			return InvalidParams(path, "the string is not valid Unicode")
		}
	}
	return nil
}

func checkUniqueObject(b []byte, path string, depth int) error {
	var seen names
	return eachMember(b, func(key, value []byte) error {
		if !isUnicode(key) {
			return InvalidParams(path, "a member's name is not valid Unicode")
		}
		name, _ := unquote(nil, key)
		here := joinPath(path, shorten(name))
		if !seen.add(name) {
			return InvalidParams(here, "the member is given twice")
		}
		return checkNested(value, here, depth)
	})
}

// isUnicode is unquote without its result: values may be secret.
func isUnicode(raw []byte) bool {
	if slices.Index(raw, '\\') < 0 {
		return utf8.Valid(raw)
	}
	out, ok := unquote(make([]byte, 0, len(raw)), raw)
	clear(out)
	return ok
}

func shorten(name []byte) string {
	if len(name) > maxPathName {
		return strconv.QuoteToASCII(string(name[:maxPathName])) + "…"
	}
	for _, c := range name {
		if c < 0x20 || c == '"' || c >= utf8.RuneSelf {
			return strconv.QuoteToASCII(string(name))
		}
	}
	return string(name)
}

// names is the set of an object's member names. Most objects are small, so
// that a list is enough; a large one gets a map.
type names struct {
	list [][]byte
	set  map[string]struct{}
}

// add reports false if name is there already.
func (s *names) add(name []byte) bool {
	const small = 16
	if s.set == nil && len(s.list) < small {
		if slices.ContainsFunc(s.list, func(n []byte) bool { return string(n) == string(name) }) {
			return false
		}
		s.list = append(s.list, name)
		return true
	}
	if s.set == nil {
		s.set = make(map[string]struct{}, 2*small)
		for _, n := range s.list {
			s.set[string(n)] = struct{}{}
		}
	}
	_, there := s.set[string(name)]
	s.set[string(name)] = struct{}{}
	return !there
}

var (
	rawType         = reflect.TypeFor[json.RawMessage]()
	unmarshalerType = reflect.TypeFor[json.Unmarshaler]()
	textType        = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// check compares b with the type that it will be unmarshalled into.
func check(b []byte, t reflect.Type, path string) error {
	if string(b) == "null" {
		if t.Kind() == reflect.Pointer {
			return nil
		}
		return InvalidParams(path, "null is not taken")
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	pointer := reflect.PointerTo(t)
	switch {
	case t == rawType:
		return nil
	case pointer.Implements(unmarshalerType), pointer.Implements(textType):
		return checkSelf(b, t, path)
	case t.Kind() == reflect.Struct && b[0] == '{':
		return checkObject(b, t, path)
	case t.Kind() == reflect.Slice && b[0] == '[':
		return eachElement(b, func(n int, value []byte) error {
			return check(value, t.Elem(), path+"["+strconv.Itoa(n)+"]")
		})
	}
	return nil
}

// checkSelf lets a type that decodes itself say whether it takes b, here where
// the path is known.
func checkSelf(b []byte, t reflect.Type, path string) error {
	v := reflect.New(t)
	defer wipeSecrets(v)
	if json.Unmarshal(b, v.Interface()) != nil {
		return InvalidParams(path, "the value is malformed, "+wanted(t))
	}
	return nil
}

// wanted says what a value of type t looks like on the wire.
func wanted(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[Hex]():
		return `a string of "0x" and pairs of hexadecimal digits is needed`
	case reflect.TypeFor[Time]():
		return "a time like 2006-01-02T15:04:05Z is needed"
	case secretType:
		return "a string is needed"
	}
	return "see the method's documentation"
}

func checkObject(b []byte, t reflect.Type, path string) error {
	fields := fieldsOf(t)
	err := eachMember(b, func(key, value []byte) error {
		name, _ := unquote(nil, key)
		f, ok := fields[string(name)]
		here := joinPath(path, shorten(name))
		if !ok {
			return InvalidParams(here, "the member is not known")
		}
		delete(fields, string(name))
		return check(value, f.kind, here)
	})
	if err != nil {
		return err
	}
	return checkComplete(fields, path)
}

// checkComplete names the first required field that is left over.
func checkComplete(left map[string]field, path string) error {
	var missing []string
	for name, f := range left {
		if f.required {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	return InvalidParams(joinPath(path, missing[0]), "the member is missing")
}
