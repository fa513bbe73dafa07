package eth

import (
	"math/big"
	"strings"

	"github.com/ethereum/go-ethereum/common/math"
	"github.com/ethereum/go-ethereum/crypto"
)

// hashStruct returns keccak256(typeHash ‖ encodeData(v)) (EIP-712, "hashStruct").
// Every field must be there, and no other. The recursion is as deep as the JSON
// text, which parseJSON has bounded.
func (set typeSet) hashStruct(name string, v value) ([32]byte, error) {
	if v.kind != object {
		return [32]byte{}, problem("must be an object of type %s, not %s", excerpt(name), v.kind)
	}
	declared := set[name]
	if extra := declared.undeclared(v); extra != "" {
		return [32]byte{}, at(extra, problem("is not a field of its type"))
	}
	encoded := make([]byte, 0, 32*(1+len(declared.fields)))
	encoded = append(encoded, declared.hash[:]...)
	for _, field := range declared.fields {
		given := v.member(field.name)
		if given.kind == absent {
			return [32]byte{}, at(field.name, problem("is required by its type"))
		}
		word, err := set.encodeValue(field.typ, field.typ.dimensions, given)
		if err != nil {
			return [32]byte{}, at(field.name, err)
		}
		encoded = append(encoded, word[:]...)
	}
	return crypto.Keccak256Hash(encoded), nil
}

// undeclared returns the name of a member that the type does not have, or "".
func (s *structType) undeclared(v value) string {
	declared := make(map[string]struct{}, len(s.fields))
	for _, field := range s.fields {
		declared[field.name] = struct{}{}
	}
	for _, m := range v.members {
		if _, found := declared[m.name]; !found {
			return m.name
		}
	}
	return ""
}

// encodeValue returns the 32 bytes that stand for a value of the type with the
// given dimensions (EIP-712, "encodeData").
func (set typeSet) encodeValue(t fieldType, dimensions []int, v value) ([32]byte, error) {
	if len(dimensions) > 0 {
		return set.encodeArray(t, dimensions, v)
	}
	if t.atom == atomStruct {
		return set.hashStruct(t.base, v)
	}
	return t.encodeAtom(v)
}

// encodeArray returns the hash of the elements' words put together.
func (set typeSet) encodeArray(t fieldType, dimensions []int, v value) ([32]byte, error) {
	last := len(dimensions) - 1
	if v.kind != list {
		return [32]byte{}, problem("must be an array, not %s", v.kind)
	}
	if length := dimensions[last]; length >= 0 && len(v.items) != length {
		return [32]byte{}, problem("must have %d elements, not %d", length, len(v.items))
	}
	encoded := make([]byte, 0, 32*len(v.items))
	for i, item := range v.items {
		word, err := set.encodeValue(t, dimensions[:last], item)
		if err != nil {
			return [32]byte{}, atIndex(i, err)
		}
		encoded = append(encoded, word[:]...)
	}
	return crypto.Keccak256Hash(encoded), nil
}

func (t fieldType) encodeAtom(v value) (word [32]byte, err error) {
	switch t.atom {
	case atomAddress:
		address, err := v.address()
		copy(word[12:], address[:])
		return word, err
	case atomBool:
		if v.kind != boolean {
			return word, problem("must be true or false, not %s", v.kind)
		}
		if v.yes {
			word[31] = 1
		}
		return word, nil
	case atomString:
		text, err := v.string()
		return crypto.Keccak256Hash([]byte(text)), err
	case atomBytes:
		data, err := v.bytes()
		return crypto.Keccak256Hash(data), err
	case atomFixedBytes:
		return word, v.fixedBytes(word[:t.size])
	default:
		return t.encodeInteger(v)
	}
}

// encodeInteger checks the range of the type and returns two's complement.
func (t fieldType) encodeInteger(v value) (word [32]byte, err error) {
	number, err := v.integer()
	if err != nil {
		return word, err
	}
	one := big.NewInt(1)
	lowest, end := new(big.Int), new(big.Int).Lsh(one, uint(t.size))
	if t.atom == atomInt {
		end.Rsh(end, 1)
		lowest.Neg(end)
	}
	if number.Cmp(lowest) < 0 || number.Cmp(end) >= 0 {
		return word, problem("is out of the range of %s", t.base)
	}
	copy(word[:], math.U256Bytes(number))
	return word, nil
}

// maxExactNumber is the largest integer that JSON readers agree on, 2^53-1
// (RFC 8259, section 6).
const maxExactNumber = 1<<53 - 1

// integer reads a number of typed data: a JSON number without fraction and
// exponent and up to 2^53-1, or a string in decimal or, with 0x, hexadecimal.
func (v value) integer() (*big.Int, error) {
	digits, base := v.text, 10
	if v.kind != number && v.kind != text {
		return nil, problem("must be a number, not %s", v.kind)
	}
	if hex, found := strings.CutPrefix(v.text, "0x"); found && v.kind == text {
		digits, base = hex, 16
	}
	magnitude, negative := strings.CutPrefix(digits, "-")
	switch {
	case len(magnitude) > 78: // the digits of 2^256 in decimal
		return nil, problem("is larger than 256 bits")
	case negative && (base == 16 || magnitude == "0"), !isDigits(magnitude, base):
		return nil, problem("is not an integer in decimal or, starting with 0x, in hexadecimal")
	case base == 10 && len(magnitude) > 1 && magnitude[0] == '0':
		return nil, problem("must not have leading zeros")
	}
	parsed, _ := new(big.Int).SetString(digits, base)
	if v.kind == number && parsed.CmpAbs(big.NewInt(maxExactNumber)) > 0 {
		return nil, problem("is too large for a JSON number, which programs may round: write it as a string")
	}
	return parsed, nil
}

func isDigits(digits string, base int) bool {
	for i := range len(digits) {
		if !isHexDigit(digits[i]) || (base == 10 && digits[i] > '9') {
			return false
		}
	}
	return digits != ""
}
