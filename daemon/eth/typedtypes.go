package eth

import (
	"slices"
	"strconv"
	"strings"

	"github.com/ethereum/go-ethereum/crypto"
)

const (
	maxStructs     = 128
	maxFields      = 512 // of all structs together
	maxIdentifier  = 128 // bytes
	maxDimensions  = 8   // of one array type
	maxFixedLength = 1 << 16
)

// atom is a kind of type that EIP-712 encodes without looking further.
type atom uint8

const (
	atomStruct atom = iota
	atomAddress
	atomBool
	atomString
	atomBytes      // of any length
	atomFixedBytes // bytes1 to bytes32
	atomUint
	atomInt
)

// structType is a declared struct type.
type structType struct {
	fields    []structField
	signature string   // "name(type name,…)"
	hash      [32]byte // keccak256(encodeType)
}

type structField struct {
	name string
	typ  fieldType
}

// fieldType is the type of a field: an atom or a struct, in arrays.
type fieldType struct {
	text string // as declared
	base string // without the dimensions
	atom atom
	size int // of fixed bytes in bytes, of integers in bits
	// dimensions are those of an array type from the innermost to the outermost,
	// -1 for any length.
	dimensions []int
}

// typeSet holds all declared struct types by name.
type typeSet map[string]*structType

// parseTypes reads the "types" object and computes the type hashes.
func parseTypes(v value) (typeSet, error) {
	if v.kind != object {
		return nil, problem("must be an object, not %s", v.kind)
	}
	if len(v.members) > maxStructs {
		return nil, problem("declares more than %d types", maxStructs)
	}
	set, total := make(typeSet, len(v.members)), 0
	for _, m := range v.members {
		declared, err := parseStruct(m)
		if err != nil {
			return nil, at(m.name, err)
		}
		if total += len(declared.fields); total > maxFields {
			return nil, problem("declare more than %d fields together", maxFields)
		}
		set[m.name] = declared
	}
	return set, set.link()
}

func parseStruct(m member) (*structType, error) {
	if !isIdentifier(m.name, ":") {
		return nil, problem("is not a name for a type")
	}
	if base, _, _ := parseBase(m.name); base != atomStruct {
		return nil, problem("is the name of a built-in type")
	}
	fields, err := each(m.value, maxFields, parseField)
	if err != nil {
		return nil, err
	}
	for i, field := range fields {
		same := func(other structField) bool { return other.name == field.name }
		if slices.ContainsFunc(fields[:i], same) {
			return nil, atIndex(i, at("name", problem("is the name of an earlier field too")))
		}
	}
	return &structType{fields: fields, signature: signature(m.name, fields)}, nil
}

func parseField(v value) (structField, error) {
	f, err := exactFields(v, "name", "type")
	if err != nil {
		return structField{}, err
	}
	name, err := read(f, "name", value.string)
	if err != nil {
		return structField{}, err
	}
	if !isIdentifier(name, "") {
		return structField{}, at("name", problem("is not an identifier"))
	}
	typ, err := read(f, "type", parseFieldType)
	return structField{name: name, typ: typ}, err
}

// isIdentifier reports whether name is a Solidity identifier, in which the
// characters of extra may stand too. A colon in a struct's name, which large
// exchanges use, is as unambiguous in encodeType as a letter; brackets, commas
// and spaces are not.
func isIdentifier(name, extra string) bool {
	if name == "" || len(name) > maxIdentifier || ('0' <= name[0] && name[0] <= '9') {
		return false
	}
	for _, c := range []byte(name) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '$'
		if !letter && strings.IndexByte(extra, c) < 0 {
			return false
		}
	}
	return true
}

// string returns the text of a JSON string.
func (v value) string() (string, error) {
	if v.kind != text {
		return "", problem("must be a string, not %s", v.kind)
	}
	return v.text, nil
}

// parseFieldType reads a type such as "uint256", "Person" or "bytes32[2][]".
// Whether a struct of that name exists is checked by link.
func parseFieldType(v value) (fieldType, error) {
	text, err := v.string()
	if err != nil {
		return fieldType{}, err
	}
	base, brackets, _ := strings.Cut(text, "[")
	t := fieldType{text: text, base: base}
	if !isIdentifier(base, ":") {
		return fieldType{}, problem("is not a type")
	}
	if t.atom, t.size, err = parseBase(base); err != nil {
		return fieldType{}, err
	}
	if len(base) < len(text) {
		t.dimensions, err = parseDimensions(brackets)
	}
	return t, err
}

// parseDimensions reads what follows the first bracket of an array type.
func parseDimensions(brackets string) ([]int, error) {
	inner, closed := strings.CutSuffix(brackets, "]")
	if !closed {
		return nil, problem("is not a type: an array type ends with ]")
	}
	parts := strings.Split(inner, "][")
	if len(parts) > maxDimensions {
		return nil, problem("has more than %d dimensions", maxDimensions)
	}
	dimensions := make([]int, len(parts))
	for i, part := range parts {
		length, err := strconv.Atoi(part)
		switch {
		case part == "":
			length = -1
		case err != nil || strconv.Itoa(length) != part || length < 1 || length > maxFixedLength:
			return nil, problem("is not a type: an array's length is a decimal number from 1 to %d", maxFixedLength)
		}
		dimensions[i] = length
	}
	return dimensions, nil
}

// parseBase tells the built-in types from the names of structs. The aliases int
// and uint are no types of EIP-712: they would hash differently from what a
// contract computes.
func parseBase(name string) (atom, int, error) {
	switch name {
	case "address":
		return atomAddress, 0, nil
	case "bool":
		return atomBool, 0, nil
	case "string":
		return atomString, 0, nil
	case "bytes":
		return atomBytes, 0, nil
	case "function", "fixed", "ufixed", "byte":
		return atomBool, 0, problem("is a type that EIP-712 does not have")
	}
	for _, sized := range []struct {
		prefix         string
		atom           atom
		step, smallest int
		largest        int
	}{{"bytes", atomFixedBytes, 1, 1, 32}, {"uint", atomUint, 8, 8, 256}, {"int", atomInt, 8, 8, 256}} {
		digits, found := strings.CutPrefix(name, sized.prefix)
		if !found || strings.Trim(digits, "0123456789") != "" {
			continue
		}
		size, err := strconv.Atoi(digits)
		if err != nil || digits[0] == '0' || size < sized.smallest || size > sized.largest || size%sized.step != 0 {
			return sized.atom, 0, problem("is a type that EIP-712 does not have: its size must be written, and be one that Solidity knows")
		}
		return sized.atom, size, nil
	}
	return atomStruct, 0, nil
}

// link checks that every struct that is named exists, and computes the hashes.
func (set typeSet) link() error {
	for name, declared := range set {
		for i, field := range declared.fields {
			if field.typ.atom == atomStruct && set[field.typ.base] == nil {
				return at(name, atIndex(i, at("type", problem("names the type %s, which is not declared", excerpt(field.typ.base)))))
			}
		}
	}
	for name, declared := range set {
		declared.hash = crypto.Keccak256Hash([]byte(set.encodeType(name)))
	}
	return nil
}

// encodeType returns the signature of the struct and of all structs that
// it refers to, those in alphabetical order (EIP-712, "encodeType").
func (set typeSet) encodeType(name string) string {
	referenced := make(map[string]struct{})
	set.collect(name, referenced)
	delete(referenced, name)
	names := []string{name}
	for other := range referenced {
		names = append(names, other)
	}
	slices.Sort(names[1:])
	var encoded strings.Builder
	for _, name := range names {
		encoded.WriteString(set[name].signature)
	}
	return encoded.String()
}

// collect adds name and all structs reachable from it to found. Each is visited
// once, so that recursive types end too; the depth is at most maxStructs.
func (set typeSet) collect(name string, found map[string]struct{}) {
	if _, seen := found[name]; seen {
		return
	}
	found[name] = struct{}{}
	for _, field := range set[name].fields {
		if field.typ.atom == atomStruct {
			set.collect(field.typ.base, found)
		}
	}
}

func signature(name string, fields []structField) string {
	parts := make([]string, len(fields))
	for i, field := range fields {
		parts[i] = field.typ.text + " " + field.name
	}
	return name + "(" + strings.Join(parts, ",") + ")"
}
