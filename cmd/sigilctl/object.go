package main

import (
	"encoding/hex"
	"encoding/json"
	"math/big"
	"strings"
)

// object is what somebody wants signed: a JSON object's members by their exact
// names, for showing them. The daemon reads it by itself, and more strictly:
// duplicate and unknown names, for one, are its to refuse.
type object struct {
	name    string // "transaction", for errors
	members map[string]json.RawMessage
	err     error // the first of a member that cannot be shown
}

func parseObject(name string, raw json.RawMessage) (*object, error) {
	o := &object{name: name}
	if json.Unmarshal(raw, &o.members) != nil || o.members == nil {
		return nil, fail(exitUsage, reasonUsage, "", "the %s is not one JSON object", name)
	}
	return o, nil
}

func (o *object) has(name string) bool {
	raw, given := o.members[name]
	return given && string(raw) != "null"
}

// text returns a member that is a string, "" if it is absent.
func (o *object) text(name string) (text string) {
	if o.has(name) && json.Unmarshal(o.members[name], &text) != nil {
		o.refuse(name, "must be a string in hexadecimal that starts with 0x")
	}
	return text
}

// number returns a quantity, nil if it is absent.
func (o *object) number(name string) *big.Int {
	text := o.text(name)
	if !o.has(name) || o.err != nil {
		return nil
	}
	digits, prefixed := strings.CutPrefix(text, "0x")
	n, ok := new(big.Int).SetString(digits, 16)
	if !prefixed || !ok || n.Sign() < 0 || len(digits) > 64 || digits[0] == '+' {
		o.refuse(name, "must be a number in hexadecimal that starts with 0x, of at most 256 bits")
		return nil
	}
	return n
}

// bytes returns data, nil if it is absent.
func (o *object) bytes(name string) []byte {
	text := o.text(name)
	if !o.has(name) || o.err != nil {
		return nil
	}
	digits, prefixed := strings.CutPrefix(text, "0x")
	data, err := hex.DecodeString(digits)
	if !prefixed || err != nil {
		o.refuse(name, "must be whole bytes in hexadecimal that start with 0x")
	}
	return data
}

// address returns an address as it was written, "" if it is absent.
func (o *object) address(name string) string {
	data := o.bytes(name)
	if o.has(name) && o.err == nil && len(data) != addressBytes {
		o.refuse(name, "must be an address: 0x and 40 digits")
	}
	return o.text(name)
}

// count returns the length of an array, 0 if it is absent.
func (o *object) count(name string) int {
	var items []json.RawMessage
	if o.has(name) && json.Unmarshal(o.members[name], &items) != nil {
		o.refuse(name, "must be an array")
	}
	return len(items)
}

func (o *object) refuse(name, problem string) {
	if o.err == nil {
		f := fail(exitUsage, reasonUsage, "mend it in the file; nothing was sent", "%s.%s: %s", o.name, name, problem)
		f.wire.Field = o.name + "." + name
		o.err = f
	}
}
