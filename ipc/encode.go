package ipc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// ErrParams is returned by Client.Call for parameters that cannot be sent.
var ErrParams = errors.New("ipc: parameters cannot be sent")

// An encoder writes parameters. seal turns the public members of a struct and
// its secrets into one object; nil writes the secrets as they are.
type encoder struct {
	seal func(public []byte, secrets []namedSecret) ([]byte, error)
}

// encodeParams writes secrets as they are.
func encodeParams(params any) ([]byte, error) { return encoder{}.params(params) }

// params returns the params member of a request: nil as an empty array,
// a slice or array by position, anything else as an array of that one value.
// The secrets among them stand in the result and nowhere else: encoding/json,
// whose buffers are pooled, does not see them. The caller wipes the result.
func (e encoder) params(params any) ([]byte, error) {
	v := reflect.ValueOf(params)
	switch {
	case !v.IsValid():
		return []byte("[]"), nil
	case v.Type() == rawType && len(v.Bytes()) > 0 && v.Bytes()[0] == '[':
		return append([]byte(nil), v.Bytes()...), nil
	case v.Type() == rawType:
		return e.list([]reflect.Value{v})
	case v.Kind() == reflect.Slice || v.Kind() == reflect.Array:
		items := make([]reflect.Value, v.Len())
		for i := range items {
			items[i] = v.Index(i)
		}
		return e.list(items)
	}
	return e.list([]reflect.Value{v})
}

func (e encoder) list(items []reflect.Value) ([]byte, error) {
	parts := make([][]byte, len(items))
	defer func() {
		for _, p := range parts {
			clear(p)
		}
	}()
	size := 2
	for i, item := range items {
		part, err := e.value(item)
		if err != nil {
			return nil, err
		}
		parts[i] = part
		size += len(part) + 1
	}
	out := append(make([]byte, 0, size), '[')
	for i, part := range parts {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, part...)
	}
	return append(out, ']'), nil
}

// value encodes one parameter: a Secret, a struct with fields of that
// type, or anything without.
func (e encoder) value(v reflect.Value) ([]byte, error) {
	for v.Kind() == reflect.Interface || v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return []byte("null"), nil
		}
		v = v.Elem()
	}
	if v.Type() == secretType {
		if e.seal != nil {
			return nil, fmt.Errorf("%w: only a field of the parameters' struct can be sealed", ErrParams)
		}
		s := Secret(v.Bytes())
		return s.AppendJSON(make([]byte, 0, s.JSONLen()))
	}
	if v.Kind() == reflect.Struct {
		return e.object(v)
	}
	out, err := marshalPublic(v)
	if err != nil {
		return nil, err
	}
	return out, refuseRedacted(out)
}

// object marshals a copy of v without its secrets and adds these after.
func (e encoder) object(v reflect.Value) ([]byte, error) {
	public := reflect.New(v.Type()).Elem()
	public.Set(v)
	var secrets []namedSecret
	size, given := 0, false
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Type != secretType || !f.IsExported() {
			continue
		}
		s := namedSecret{name: memberName(f), value: Secret(v.Field(i).Bytes())}
		if name, only := f.Tag.Lookup("sealed"); only {
			if s.name = name; s.value != nil && e.seal == nil {
				return nil, ErrNoIdentity
			}
		}
		public.Field(i).SetZero()
		secrets = append(secrets, s)
		size += len(s.name) + s.value.JSONLen() + 4
		given = given || s.value != nil
	}
	body, err := marshalPublic(public)
	if err != nil {
		return nil, err
	}
	if len(secrets) == 0 {
		return body, refuseRedacted(body)
	}
	if e.seal != nil && given {
		return e.seal(body, secrets)
	}
	return appendSecrets(body, secrets, size)
}

type namedSecret struct {
	name  string
	value Secret
}

func memberName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	if name == "" {
		return f.Name
	}
	return name
}

// appendSecrets puts the secrets that are set into the object body. A required
// one that is empty was marshalled as the word "redacted" and is taken out.
func appendSecrets(body []byte, secrets []namedSecret, size int) ([]byte, error) {
	hidden := make(map[string]bool, len(secrets))
	for _, s := range secrets {
		hidden[s.name] = true
	}
	out := append(make([]byte, 0, len(body)+size), '{')
	_ = eachMember(body, func(key, value []byte) error {
		if !hidden[string(key[1:len(key)-1])] {
			out = append(append(append(append(out, key...), ':'), value...), ',')
		}
		return nil
	})
	err := refuseRedacted(out)
	if err != nil {
		return nil, err
	}
	for _, s := range secrets {
		if s.value == nil {
			continue
		}
		out = append(append(append(out, '"'), s.name...), '"', ':')
		if out, err = s.value.AppendJSON(out); err != nil {
			clear(out)
			return nil, fmt.Errorf("%w: %s is not UTF-8", ErrParams, s.name)
		}
		out = append(out, ',')
	}
	if out[len(out)-1] == ',' {
		out = out[:len(out)-1]
	}
	return append(out, '}'), nil
}

// marshalPublic marshals v. A secret that json.Marshal came across is printed
// as redacted, and must not be sent as if that were the PIN.
func marshalPublic(v reflect.Value) ([]byte, error) {
	out, err := json.Marshal(v.Interface())
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrParams, err)
	}
	return out, nil
}

func refuseRedacted(b []byte) error {
	if bytes.Contains(b, []byte(redacted)) {
		return fmt.Errorf("%w: a secret must be a field of the parameters' struct itself", ErrParams)
	}
	return nil
}
