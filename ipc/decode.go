package ipc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// Decode reads the parameters of a sigild_* method, an array of exactly one
// object, into the struct T. It is stricter than encoding/json, and every
// failure is an *Error with reason "invalidParams" and the path of the field:
//
//   - members must be spelled exactly as T's tags say; others are refused;
//   - no object, at any depth, may have a member twice, also in escaped form;
//   - a member whose tag has neither omitempty nor omitzero is required;
//   - null is refused, except for a pointer and inside a json.RawMessage;
//   - a string must be Unicode: half of a surrogate pair is refused.
//
// A Secret in the result is a copy that the caller wipes. When Decode fails it
// has wiped those that it made.
func Decode[T any](params json.RawMessage) (T, error) {
	var out, zero T
	args, err := DecodeArgs(params, 1)
	if err != nil {
		return zero, err
	}
	if err := decodeInto(args[0], &out); err != nil {
		wipeSecrets(reflect.ValueOf(&out).Elem())
		return zero, err
	}
	return out, nil
}

// DecodeArgs returns the n positional parameters of a method. Absent parameters
// count as an empty array. The values alias params; no object in them has a
// member twice. Another number of them is an *Error, as in Decode.
func DecodeArgs(params json.RawMessage, n int) ([]json.RawMessage, error) {
	return DecodeArgsBetween(params, n, n)
}

// DecodeArgsBetween is DecodeArgs for a method whose last parameters may be
// left out: it returns at least least and at most most of them.
func DecodeArgsBetween(params json.RawMessage, least, most int) ([]json.RawMessage, error) {
	if params == nil {
		params = json.RawMessage("[]")
	}
	if !json.Valid(params) {
		return nil, InvalidParams("", "not JSON")
	}
	params = params[skipSpace(params, 0):]
	if params[0] != '[' {
		return nil, InvalidParams("", "an array is needed, parameters by name are not taken")
	}
	var args []json.RawMessage
	_ = eachElement(params, func(_ int, value []byte) error {
		args = append(args, value)
		return nil
	})
	if len(args) < least || len(args) > most {
		return nil, InvalidParams("", fmt.Sprintf("%s parameters are needed, %d were given", between(least, most), len(args)))
	}
	for i, arg := range args {
		if err := checkUnique(arg, argPath(i, most)); err != nil {
			return nil, err
		}
	}
	return args, nil
}

// DecodeArg reads one positional parameter into T by the rules of Decode; name
// stands in the path of errors.
func DecodeArg[T any](arg json.RawMessage, name string) (T, error) {
	var out, zero T
	if !json.Valid(arg) {
		return zero, InvalidParams(name, "not JSON")
	}
	arg = bytes.Trim(arg, " \t\r\n") // a caller may hand over a text of its own, and what follows looks at its ends
	if err := checkUnique(arg, name); err != nil {
		return zero, err
	}
	if err := check(arg, reflect.TypeFor[T](), name); err != nil {
		return zero, err
	}
	if err := unmarshal(arg, &out, name); err != nil {
		wipeSecrets(reflect.ValueOf(&out).Elem())
		return zero, err
	}
	return out, nil
}

func between(least, most int) string {
	if least == most {
		return strconv.Itoa(least)
	}
	return fmt.Sprintf("%d to %d", least, most)
}

// argPath is empty for the one object of a sigild_* method: its members are
// named without a prefix.
func argPath(i, n int) string {
	if n == 1 {
		return ""
	}
	return fmt.Sprintf("[%d]", i)
}

func decodeInto(arg json.RawMessage, out any) error {
	if arg[0] != '{' {
		return InvalidParams("", "the parameter is not an object")
	}
	if err := check(arg, reflect.TypeOf(out).Elem(), ""); err != nil {
		return err
	}
	return unmarshal(arg, out, "")
}

// unmarshal translates what encoding/json finds after check: a wrong type.
func unmarshal(arg json.RawMessage, out any, path string) error {
	err := json.Unmarshal(arg, out)
	if err == nil {
		return nil
	}
	var typed *json.UnmarshalTypeError
	if errors.As(err, &typed) {
		kind, _, _ := strings.Cut(typed.Value, " ") // "number 1.5": the value stays here
		return InvalidParams(joinPath(path, typed.Field), "this "+kind+" does not fit here")
	}
	return InvalidParams(path, "a value is malformed")
}

func joinPath(path, name string) string {
	if path == "" || name == "" {
		return path + name
	}
	return path + "." + name
}

// wipeSecrets clears the secrets among the fields of the struct v.
func wipeSecrets(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			wipeSecrets(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			wipeSecrets(v.Field(i))
		}
	case reflect.Slice:
		if v.Type() == secretType {
			clear(v.Bytes())
		}
	}
}

var secretType = reflect.TypeFor[Secret]()

// A field is a member that a struct takes.
type field struct {
	kind     reflect.Type
	required bool
}

// fieldsOf returns the members that encoding/json would fill in the struct t.
func fieldsOf(t reflect.Type) map[string]field {
	fields := make(map[string]field, t.NumField())
	for _, f := range reflect.VisibleFields(t) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || name == "-" || (f.Anonymous && name == "") {
			continue
		}
		if name == "" {
			name = f.Name
		}
		optional := strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero")
		fields[name] = field{kind: f.Type, required: !optional}
	}
	return fields
}
