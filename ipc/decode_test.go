package ipc_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/sigild/sigild/ipc"
)

type inner struct {
	Value string   `json:"value"`
	List  []inner  `json:"list,omitempty"`
	Time  ipc.Time `json:"time,omitzero"`
}

type sample struct {
	Name   string          `json:"name"`
	Count  *uint32         `json:"count,omitempty"`
	PIN    ipc.Secret      `json:"pin,omitempty"`
	ID     ipc.Hex         `json:"id,omitempty"`
	Inner  inner           `json:"inner,omitzero"`
	Raw    json.RawMessage `json:"raw,omitempty"`
	hidden string
}

func TestDecode(t *testing.T) {
	got, err := ipc.Decode[sample](json.RawMessage(` [ { "name" : "n" , "count":7,"pin":"1\u00312\"", "id":"0x00fF",
		"inner":{"value":"v","list":[{"value":"w"}],"time":"2026-01-02T03:04:05Z"},"raw":{"to":null}} ] `))
	if err != nil {
		t.Fatal(err)
	}
	if got.Name != "n" || *got.Count != 7 || string(got.PIN) != `112"` || got.ID.String() != "0x00ff" ||
		got.Inner.List[0].Value != "w" || got.Inner.Time.Year() != 2026 || string(got.Raw) != `{"to":null}` || got.hidden != "" {
		t.Fatalf("got %+v", got)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for name, test := range map[string]struct{ params, field string }{
		"no parameters":            {``, ""},
		"empty array":              {`[]`, ""},
		"by name":                  {`{"name":"n"}`, ""},
		"two objects":              {`[{"name":"n"},{}]`, ""},
		"not an object":            {`["n"]`, ""},
		"null":                     {`[null]`, ""},
		"a nested array":           {`[[{"name":"n"}]]`, ""},
		"not JSON":                 {`[{]`, ""},
		"unknown":                  {`[{"name":"n","colour":1}]`, "colour"},
		"other case":               {`[{"NAME":"n"}]`, "NAME"},
		"unexported":               {`[{"name":"n","hidden":"x"}]`, "hidden"},
		"unknown further down":     {`[{"name":"n","inner":{"value":"v","list":[{"value":"w"},{"x":1}]}}]`, "inner.list[1].x"},
		"missing":                  {`[{"count":1}]`, "name"},
		"missing further down":     {`[{"name":"n","inner":{}}]`, "inner.value"},
		"twice":                    {`[{"name":"n","name":"m"}]`, "name"},
		"twice, escaped":           {`[{"name":"n","n\u0061me":"m"}]`, "name"},
		"twice in raw":             {`[{"name":"n","raw":{"a":[{"b":1,"b":2}]}}]`, "raw.a[0].b"},
		"null string":              {`[{"name":null}]`, "name"},
		"null secret":              {`[{"name":"n","pin":null}]`, "pin"},
		"null raw":                 {`[{"name":"n","raw":null}]`, "raw"},
		"number for a string":      {`[{"name":1}]`, "name"},
		"string for a number":      {`[{"name":"n","count":"1"}]`, "count"},
		"negative":                 {`[{"name":"n","count":-1}]`, "count"},
		"fraction":                 {`[{"name":"n","count":1.5}]`, "count"},
		"too great":                {`[{"name":"n","count":4294967296}]`, "count"},
		"array for an object":      {`[{"name":"n","inner":[]}]`, "inner"},
		"object for a list":        {`[{"name":"n","inner":{"value":"v","list":{}}}]`, "inner.list"},
		"number for a secret":      {`[{"name":"n","pin":123456}]`, "pin"},
		"hex without prefix":       {`[{"name":"n","id":"00"}]`, "id"},
		"odd hex":                  {`[{"name":"n","id":"0x0"}]`, "id"},
		"number for hex":           {`[{"name":"n","id":1}]`, "id"},
		"time with an offset":      {`[{"name":"n","inner":{"value":"v","time":"2026-01-02T03:04:05+01:00"}}]`, "inner.time"},
		"half a surrogate pair":    {`[{"name":"\ud800"}]`, "name"},
		"half, in a secret":        {`[{"name":"n","pin":"\udc00"}]`, "pin"},
		"half, in a member's name": {`[{"name":"n","raw":{"\ud800":1}}]`, "raw"},
	} {
		_, err := ipc.Decode[sample](json.RawMessage(test.params))
		var e *ipc.Error
		if !errors.As(err, &e) || e.Reason != ipc.ReasonInvalidParams || e.Code != ipc.CodeInvalidParams || e.Field != test.field {
			t.Errorf("%s: got %+v, want field %q", name, err, test.field)
		}
	}
}

func TestDecodeErrorsDoNotRepeatValues(t *testing.T) {
	const pin = "493817"
	for _, params := range []string{
		`[{"name":"n","pin":493817}]`, `[{"name":"n","count":"493817"}]`, `[{"name":"n","id":"493817"}]`,
		`[{"name":"n","pin":["493817"]}]`, `[{"name":"n","inner":"493817"}]`, `["493817"]`, `[{"name":493817}]`,
		`[{"name":"n","count":493817493817}]`,
	} {
		_, err := ipc.Decode[sample](json.RawMessage(params))
		if err == nil || strings.Contains(err.Error(), pin) {
			t.Errorf("%s: got %v", params, err)
		}
	}
}

func TestDecodeBoundsTheFieldThatItNames(t *testing.T) {
	_, err := ipc.Decode[sample](json.RawMessage(`[{"` + strings.Repeat("x", 100_000) + `":1}]`))
	var e *ipc.Error
	if !errors.As(err, &e) || len(e.Field) > 100 {
		t.Fatalf("got a field of %d bytes", len(e.Field))
	}
	_, err = ipc.Decode[sample](json.RawMessage(`[{"a\u000ab\u001b[31m":1}]`))
	if !errors.As(err, &e) || strings.ContainsAny(e.Field, "\n\x1b") {
		t.Fatalf("got %q", e.Field)
	}
}

func TestDecodeManyMembersTwice(t *testing.T) {
	var b strings.Builder
	b.WriteString(`[{"name":"n","raw":{`)
	for i := range 50_000 {
		b.WriteString(`"k` + strings.Repeat("x", i%3) + string(rune('a'+i%26)) + json.Number(strings.Repeat("1", i%5)).String() + `":1,`)
	}
	b.WriteString(`"last":1}}]`)
	if _, err := ipc.Decode[sample](json.RawMessage(b.String())); err == nil {
		t.Fatal("members given twice were taken")
	}
}

func TestDecodeArgs(t *testing.T) {
	args, err := ipc.DecodeArgs(json.RawMessage(` [ "0x01" , {"a":[1, 2]}, null ] `), 3)
	if err != nil || string(args[0]) != `"0x01"` || string(args[1]) != `{"a":[1, 2]}` || string(args[2]) != `null` {
		t.Fatalf("got %q, %v", args, err)
	}
	if args, err = ipc.DecodeArgs(nil, 0); err != nil || len(args) != 0 {
		t.Fatalf("got %q, %v", args, err)
	}
	if args, err = ipc.DecodeArgsBetween(json.RawMessage(`[1,2]`), 1, 3); err != nil || len(args) != 2 {
		t.Fatalf("got %q, %v", args, err)
	}
	for _, params := range []string{`[]`, `[1,2,3,4]`} {
		if _, err := ipc.DecodeArgsBetween(json.RawMessage(params), 1, 3); ipc.ReasonOf(err) != ipc.ReasonInvalidParams {
			t.Errorf("%s: got %v", params, err)
		}
	}
	for _, test := range []struct {
		params, field string
		n             int
	}{
		{`[1]`, "", 2}, {`[1,2,3]`, "", 2}, {`{}`, "", 0}, {`[1`, "", 1}, {``, "", 0}, {`1`, "", 1},
		{`[1,{"a":1,"a":2}]`, "[1].a", 2}, {`[1,["\ud800"]]`, "[1][0]", 2},
	} {
		_, err := ipc.DecodeArgs(json.RawMessage(test.params), test.n)
		var e *ipc.Error
		if !errors.As(err, &e) || e.Field != test.field {
			t.Errorf("%s: got %v, want field %q", test.params, err, test.field)
		}
	}
}

func TestDecodeArg(t *testing.T) {
	id, err := ipc.DecodeArg[ipc.Hex](json.RawMessage(`"0xab"`), "address")
	if err != nil || id.String() != "0xab" {
		t.Fatalf("got %v, %v", id, err)
	}
	for _, arg := range []string{`"ab"`, `null`, `1`, `{`, ``} {
		_, err := ipc.DecodeArg[ipc.Hex](json.RawMessage(arg), "address")
		var e *ipc.Error
		if !errors.As(err, &e) || e.Field != "address" {
			t.Errorf("%s: got %v", arg, err)
		}
	}
	_, err = ipc.DecodeArg[sample](json.RawMessage(`{"name":"n","inner":{"value":1}}`), "tx")
	var e *ipc.Error
	if !errors.As(err, &e) || e.Field != "tx.inner.value" {
		t.Errorf("got %v", err)
	}
}

// A text with space around it is read as strictly as one without.
func TestDecodeArgWithSpace(t *testing.T) {
	for text, field := range map[string]string{
		" {\"a\":1,\"a\":2}": "text.a", "\n[{\"a\":{\"b\":1,\"b\":2}}]": "text[0].a.b", "\t\"\\ud800\"": "text",
		"\r\n{\"a\":[ {\"b\":1,\"b\":2}]}\n":              "text.a[0].b",
		strings.Repeat("[", 65) + strings.Repeat("]", 65): "",
	} {
		_, err := ipc.DecodeArg[json.RawMessage](json.RawMessage(text), "text")
		var e *ipc.Error
		if !errors.As(err, &e) || e.Reason != ipc.ReasonInvalidParams || e.Field != field {
			t.Errorf("%q: got %v, want field %q", text, err, field)
		}
	}
	for _, null := range []string{" null", "null ", "\tnull\n"} {
		if _, err := ipc.DecodeArg[string](json.RawMessage(null), "text"); err == nil {
			t.Errorf("%q was taken", null)
		}
	}
	if text, err := ipc.DecodeArg[string](json.RawMessage(" \"a\"\n"), "text"); err != nil || text != "a" {
		t.Errorf("got %q, %v", text, err)
	}
	if _, err := ipc.DecodeArg[json.RawMessage](json.RawMessage(strings.Repeat("[", 64)+strings.Repeat("]", 64)), "text"); err != nil {
		t.Errorf("64 levels: %v", err)
	}
}

// FuzzDecode looks for what Decode takes and encoding/json does not, or reads
// otherwise, and for panics.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`[{"name":"n","count":7,"pin":"1\u00312","id":"0x00","inner":{"value":"v","list":[{"value":"w"}]},"raw":[]}]`,
		`[{"name":"n","n\u0061me":"m"}]`, `[{"name":"\ud83d\ude00"}]`, `[{}]`, `[]`, ``, `[{"raw":"\ud800","name":""}]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := ipc.Decode[sample](data)
		if err != nil {
			if ipc.ReasonOf(err) != ipc.ReasonInvalidParams {
				t.Fatalf("got %v", err)
			}
			return
		}
		var want []struct {
			Name  *string         `json:"name"`
			PIN   *string         `json:"pin"`
			Raw   json.RawMessage `json:"raw"`
			Count *uint32         `json:"count"`
		}
		if err := json.Unmarshal(data, &want); err != nil || len(want) != 1 || want[0].Name == nil {
			t.Fatalf("took %q, which encoding/json reads as %+v, %v", data, want, err)
		}
		if *want[0].Name != got.Name || string(want[0].Raw) != string(got.Raw) {
			t.Fatalf("got %+v, want %+v", got, want[0])
		}
		if (want[0].PIN == nil) != (got.PIN == nil) || (want[0].PIN != nil && *want[0].PIN != string(got.PIN)) {
			t.Fatal("the secret differs")
		}
	})
}
