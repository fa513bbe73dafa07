package ipc_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/sigild/sigild/ipc"
	"github.com/sigild/sigild/ipc/ipctest"
)

// stream holds values of every kind with all that could mislead a scanner.
const stream = `{"a":"}]\"\\"}[1,[2],{"b":[]}]` + "\n\t " + `"[{" 12 -3.5e+7
true false null{"\u0022":"\\\\"}[]{}[[]] "\\" {"ä€😀":"日本"} 0`

func decodeAll(t *testing.T, text string) []string {
	t.Helper()
	var out []string
	dec := json.NewDecoder(strings.NewReader(text))
	for {
		var v json.RawMessage
		switch err := dec.Decode(&v); {
		case errors.Is(err, io.EOF):
			return out
		case err != nil:
			t.Fatal(err)
		}
		out = append(out, string(v))
	}
}

func texts(values []json.RawMessage) []string {
	var out []string
	for _, v := range values {
		out = append(out, string(v))
	}
	return out
}

func TestScannerFindsTheSameValuesInPiecesOfEverySize(t *testing.T) {
	want := decodeAll(t, stream)
	for piece := 1; piece <= len(stream); piece++ {
		got := texts(ipc.Frame([]byte(stream), piece, 1000, 10, 100).Values)
		if !slices.Equal(got, want) {
			t.Fatalf("pieces of %d:\n got %q\nwant %q", piece, got, want)
		}
	}
}

func TestScannerEvents(t *testing.T) {
	long := strings.Repeat("x", 200)
	for name, test := range map[string]struct{ stream, events string }{
		"one":                   {`{}`, "value"},
		"at the size limit":     {`"` + long[:98] + `"`, "value"},
		"over the size limit":   {`"` + long[:99] + `" {}`, "tooLarge skipped value"},
		"whitespace is free":    {strings.Repeat(" ", 5000) + `{}`, "value"},
		"large container":       {`{"a":"` + long + `"}[1]`, "tooLarge skipped value"},
		"large number":          {strings.Repeat("1", 101) + " 1 ", "tooLarge skipped value"},
		"number at the limit":   {strings.Repeat("1", 100) + " 1 ", "value value"},
		"refused earlier":       {`[1,2,3,4,"` + strings.Repeat(long, 20), "batchTooLong endless"},
		"endless":               {`["` + strings.Repeat(long, 20), "tooLarge endless"},
		"at the depth limit":    {`[[[[]]]]`, "value"},
		"over the depth limit":  {`[[[[[]]]]][]`, "tooDeep skipped value"},
		"deep and large":        {`[[[[["` + long + `"]]]]][]`, "tooDeep skipped value"},
		"brackets in strings":   {`["[[[[[[\"[[[["]`, "value"},
		"at the batch limit":    {`[1,2,3]`, "value"},
		"over the batch limit":  {`[1,2,3,4]{}`, "batchTooLong skipped value"},
		"commas in an object":   {`{"a":1,"b":2,"c":3,"d":4}`, "value"},
		"commas further down":   {`[[1,2,3,4]]`, "value"},
		"wrong bracket":         {`{] {}`, "value value"},
		"not JSON but balanced": {`{x:[y}} {}`, "value value"},
		"closing first":         {`{} }`, "value garbage"},
		"comma between":         {`{},{}`, "value garbage"},
		"a word":                {`nul `, "garbage"},
		"HTTP":                  {"POST / HTTP/1.1\r\n", "garbage"},
		"byte order mark":       {"\xef\xbb\xbf{}", "garbage"},
		"zero byte":             {"\x00", "garbage"},
		"cut short":             {`{"a":`, ""},
		"number at the end":     {`12`, "value"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, piece := range []int{1, 7, 10_000} {
				got := ipc.Frame([]byte(test.stream), piece, 100, 4, 3)
				if events := strings.Join(got.Events, " "); events != test.events {
					t.Errorf("pieces of %d: got %q, want %q", piece, events, test.events)
				}
				if got.Capacity > 512 {
					t.Errorf("pieces of %d: held %d bytes", piece, got.Capacity)
				}
			}
		})
	}
}

// FuzzScanner compares with encoding/json on what that accepts, and looks at
// the memory on everything.
func FuzzScanner(f *testing.F) {
	f.Add([]byte(stream), uint8(3))
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"method":"a","params":[{"pin":"1\u00312"}]}`), uint8(1))
	f.Add([]byte(`[[[[[[[[[[[[[[[[[[[]`), uint8(2))
	f.Add([]byte(`"\"`), uint8(1))
	f.Add([]byte(`{"params":[[[[["xxxxxxxxxxxxxxxx"]]]]],"id":7}`), uint8(3))
	f.Add([]byte(`{"x":"\",\"id\":7,xxxxxxxxxxxxxxxxxxxxxx","id":"a"}`), uint8(3))
	f.Add([]byte(`01 1-2`), uint8(9))
	f.Add([]byte("{}\x00[]"), uint8(9))
	f.Fuzz(func(t *testing.T, data []byte, piece uint8) {
		small := ipc.Frame(data, int(piece)+1, 16, 3, 2)
		if small.Capacity > 512 {
			t.Fatalf("held %d bytes of %d", small.Capacity, len(data))
		}
		if ids := topLevelIDs(data); len(small.IDs) > 0 && small.IDs[0] != "" && ids != nil && !slices.Contains(ids, small.IDs[0]) {
			t.Fatalf("found the id %q, want one of %q", small.IDs[0], ids)
		}
		got := ipc.Frame(data, int(piece)+1, len(data)+1, len(data)+1, len(data)+1)
		if got.Capacity > max(512, 2*len(data)) {
			t.Fatalf("held %d bytes of %d", got.Capacity, len(data))
		}
		for i, want := range validValues(data) {
			if i >= len(got.Values) || !bytes.Equal(got.Values[i], want) {
				t.Fatalf("value %d: got %q, want %q", i, got.Values, want)
			}
		}
	})
}

// topLevelIDs are the ids of data when that is one JSON object, each as often as
// it is given; nil for anything else.
func topLevelIDs(data []byte) (ids []string) {
	dec := json.NewDecoder(bytes.NewReader(data))
	if token, err := dec.Token(); !json.Valid(data) || err != nil || token != json.Delim('{') {
		return nil
	}
	ids = []string{}
	for dec.More() {
		name, err := dec.Token()
		var value json.RawMessage
		if err != nil || dec.Decode(&value) != nil {
			return nil
		}
		if name == "id" {
			ids = append(ids, string(value))
		}
	}
	return ids
}

// validValues returns what json.Decoder reads from data before the first error,
// or before a number to which another one sticks, which it reads as two.
func validValues(data []byte) []json.RawMessage {
	var out []json.RawMessage
	dec := json.NewDecoder(bytes.NewReader(data))
	for {
		var v json.RawMessage
		if dec.Decode(&v) != nil {
			return out
		}
		next := dec.InputOffset()
		if strings.ContainsRune("-0123456789", rune(v[0])) && next < int64(len(data)) &&
			strings.ContainsRune("+-.0123456789eE", rune(data[next])) {
			return out
		}
		out = append(out, v)
	}
}

func TestServerReadsRequestsSplitAtEveryByte(t *testing.T) {
	_, path := ipctest.Serve(t, ipc.Options{Allow: everybody, Methods: methods()})
	c := talk(t, path)
	request := `{"jsonrpc":"2.0","id":1,"method":"test_echo","params":["\"}😀",{"a":[]}]}`
	for i := 1; i < len(request); i++ {
		inPieces(t, c.UnixConn, request[:i], request[i:])
		c.wantResult(1, `["\"}😀",{"a":[]}]`)
	}
}

func TestServerReadsManyRequestsFromOneWrite(t *testing.T) {
	_, path := ipctest.Serve(t, ipc.Options{Allow: everybody, Methods: methods()})
	c := talk(t, path)
	var all strings.Builder
	separators := []string{"", "\n", " \t\r\n"}
	const n = 200
	for i := range n {
		fmt.Fprintf(&all, `{"jsonrpc":"2.0","id":%d,"method":"test_echo","params":[%d]}%s`, i, i, separators[i%3])
	}
	c.send(all.String())
	seen := make(map[any]bool)
	for range n {
		a := c.receive()
		if a.Error != nil || string(a.Result) != fmt.Sprintf("[%v]", a.ID) {
			t.Fatalf("got %+v", a)
		}
		seen[a.ID] = true
	}
	if len(seen) != n {
		t.Fatalf("%d different answers, want %d", len(seen), n)
	}
}

func TestInvalidUTF8IsAParseErrorAndTheStreamGoesOn(t *testing.T) {
	_, path := ipctest.Serve(t, ipc.Options{Allow: everybody, Methods: methods()})
	c := talk(t, path)
	for _, bad := range []string{"\xff", "\xc0\x80", "\xed\xa0\x80", "\xf0\x9f\x98"} {
		c.send(`{"jsonrpc":"2.0","id":1,"method":"test_echo","params":["` + bad + `"]}`)
		c.wantReason(nil, ipc.ReasonParse)
		c.send(`{"jsonrpc":"2.0","id":2,"method":"test_echo","params":[]}`)
		c.wantResult(2, `[]`)
	}
}

// FuzzParseMessage compares the requests that are taken with what encoding/json
// reads. Its input is what the scanner hands over: one value without space
// around.
func FuzzParseMessage(f *testing.F) {
	f.Add([]byte(`{"jsonrpc":"2.0","id":"a","method":"m","params":[{"a":"}"}]}`))
	f.Add([]byte(`[{"jsonrpc":"2.0","id":-1.5e3,"method":"\u006d"},{"id":1,"id":2},1,"x",[],null]`))
	f.Add([]byte(`{"jsonrpc":"2.0","method":"note"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if trimmed := bytes.Trim(data, " \t\r\n"); len(trimmed) == 0 || len(trimmed) != len(data) {
			return
		}
		calls, refused := ipc.ParseMessage(data)
		if refused != nil {
			return
		}
		for _, call := range calls {
			if call.ID != "" && !json.Valid([]byte(call.ID)) {
				t.Fatalf("id %q", call.ID)
			}
			if call.Err != nil {
				continue
			}
			if call.ID == "" || call.Method == "" || (call.Params != nil && !json.Valid(call.Params)) {
				t.Fatalf("took %+v of %q", call, data)
			}
		}
		if len(calls) == 1 && calls[0].Err == nil && data[0] == '{' {
			var want struct {
				Method string
				Params json.RawMessage
			}
			err := json.Unmarshal(data, &want)
			got := calls[0]
			if err != nil || want.Method != got.Method || (got.Params != nil && !bytes.Equal(want.Params, got.Params)) {
				t.Fatalf("got %+v, want %+v, %v", got, want, err)
			}
		}
	})
}
