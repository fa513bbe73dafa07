package ipc

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// The functions of this file walk bytes that json.Valid has accepted. They
// make no Go string of a value, since a value may be a PIN.

// skipSpace returns the index of the first byte of b at or after i that is not
// JSON whitespace.
func skipSpace(b []byte, i int) int {
	for i < len(b) && isSpace(b[i]) {
		i++
	}
	return i
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// stringEnd returns the index after the string that starts at b[i].
func stringEnd(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}

// valueEnd returns the index after the value that starts at b[i].
func valueEnd(b []byte, i int) int {
	depth := 0
	for i < len(b) {
		switch b[i] {
		case '"':
			i = stringEnd(b, i)
		case '{', '[':
			depth++
			i++
		case '}', ']':
			depth--
			i++
		case ',', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return i
			}
			i++
			continue
		default:
			i++
			if depth == 0 && i < len(b) && !endsScalar(b[i]) {
				continue
			}
		}
		if depth == 0 {
			return i
		}
	}
	return i
}

func endsScalar(c byte) bool { return isSpace(c) || c == ',' || c == ']' || c == '}' }

// eachMember calls fn with the raw key (quotes included) and the raw value of
// each member of the object b.
func eachMember(b []byte, fn func(key, value []byte) error) error {
	i := skipSpace(b, skipSpace(b, 0)+1)
	for i < len(b) && b[i] != '}' {
		keyEnd := stringEnd(b, i)
		start := skipSpace(b, skipSpace(b, keyEnd)+1) // past the colon
		end := valueEnd(b, start)
		if err := fn(b[i:keyEnd], b[start:end]); err != nil {
			return err
		}
		i = nextItem(b, end)
	}
	return nil
}

// eachElement calls fn with each raw element of the array b.
func eachElement(b []byte, fn func(n int, value []byte) error) error {
	i := skipSpace(b, skipSpace(b, 0)+1)
	for n := 0; i < len(b) && b[i] != ']'; n++ {
		end := valueEnd(b, i)
		if err := fn(n, b[i:end]); err != nil {
			return err
		}
		i = nextItem(b, end)
	}
	return nil
}

// nextItem returns the index of the item after a comma, or of the bracket.
func nextItem(b []byte, i int) int {
	i = skipSpace(b, i)
	if i < len(b) && b[i] == ',' {
		i = skipSpace(b, i+1)
	}
	return i
}

// unquote appends the content of the JSON string raw to dst. It reports false
// for what is not a string, not UTF-8 or holds half of a surrogate pair, which
// encoding/json would replace without a word.
func unquote(dst, raw []byte) ([]byte, bool) {
	if len(raw) < 2 || raw[0] != '"' || raw[len(raw)-1] != '"' {
		return dst, false
	}
	raw = raw[1 : len(raw)-1]
	for len(raw) > 0 {
		i := bytes.IndexByte(raw, '\\')
		if i < 0 {
			i = len(raw)
		}
		if !plain(raw[:i]) {
			return dst, false
		}
		dst, raw = append(dst, raw[:i]...), raw[i:]
		if len(raw) == 0 {
			break
		}
		r, n := unescape(raw)
		if n == 0 {
			return dst, false
		}
		dst, raw = utf8.AppendRune(dst, r), raw[n:]
	}
	return dst, true
}

// plain reports whether b may stand in a string as it is.
func plain(b []byte) bool {
	for _, c := range b {
		if c < 0x20 || c == '"' {
			return false
		}
	}
	return utf8.Valid(b)
}

// unescape returns the character of the escape sequence that b starts with and
// its length in bytes, 0 for none.
func unescape(b []byte) (rune, int) {
	if len(b) < 2 {
		return 0, 0
	}
	if b[1] == 'u' {
		return unescapeUnicode(b)
	}
	const names, values = `"\/bfnrt`, "\"\\/\b\f\n\r\t"
	if i := bytes.IndexByte([]byte(names), b[1]); i >= 0 {
		return rune(values[i]), 2
	}
	return 0, 0
}

func unescapeUnicode(b []byte) (rune, int) {
	r, ok := hex4(b)
	if !ok {
		return 0, 0
	}
	if !utf16.IsSurrogate(r) {
		return r, 6
	}
	low, ok := hex4(b[6:])
	if pair := utf16.DecodeRune(r, low); ok && pair != utf8.RuneError {
		return pair, 12
	}
	return 0, 0
}

// hex4 reads the sequence \uXXXX at the start of b.
func hex4(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range b[2:6] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return r, true
}
