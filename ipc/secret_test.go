package ipc_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/sigild/sigild/ipc"
)

func TestSecretIsNeverPrinted(t *testing.T) {
	const pin = "493817"
	hexPIN, decimal := fmt.Sprintf("%x", pin), "[52 57"
	holder := struct {
		PIN   ipc.Secret `json:"pin"`
		Other *ipc.Secret
	}{PIN: ipc.Secret(pin)}
	holder.Other = &holder.PIN
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b", "%c", "%U", "%t"} {
		fmt.Fprintf(&out, verb+"\n", holder.PIN)
		fmt.Fprintf(&out, verb+"\n", holder)
	}
	out.WriteString(holder.PIN.String() + holder.PIN.GoString())
	slog.New(slog.NewTextHandler(&out, nil)).Info("m", "pin", holder.PIN, "holder", holder)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "pin", holder.PIN, "holder", holder)
	if err := json.NewEncoder(&out).Encode(holder); err != nil {
		t.Fatal(err)
	}
	for _, leak := range []string{pin, hexPIN, strings.ToUpper(hexPIN), decimal, "NDkzODE3"} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("%q is in\n%s", leak, out.String())
		}
	}
}

func TestSecretRoundTrip(t *testing.T) {
	for _, text := range []string{"", "123456", `a"b\c/d`, "\x00\x1f\n\t\x7f", "ä€😀", "<&>"} {
		s := ipc.Secret(text)
		wire, err := s.AppendJSON([]byte("x"))
		if err != nil || len(wire)-1 > s.JSONLen() {
			t.Fatalf("%q: %v, %d bytes of %d", text, err, len(wire)-1, s.JSONLen())
		}
		var std string
		if err := json.Unmarshal(wire[1:], &std); err != nil || std != text {
			t.Errorf("%q: encoding/json reads %q, %v", text, std, err)
		}
		var back ipc.Secret
		if err := back.UnmarshalJSON(wire[1:]); err != nil || !bytes.Equal(back, s) {
			t.Errorf("%q: got %d bytes, %v", text, len(back), err)
		}
	}
	if _, err := ipc.Secret("\xff").AppendJSON(nil); !errors.Is(err, ipc.ErrEncoding) {
		t.Errorf("got %v", err)
	}
}

func TestSecretRefuses(t *testing.T) {
	for _, wire := range []string{``, `"`, `null`, `1`, `"a`, `a"`, `"\ud800"`, `"\ud800\u0041"`, `"\udc00"`, `"\x"`, `"\u12"`, `"\u12g4"`, `"\"`, "\"\n\"", `"a"b"`, "\"\xff\""} {
		var s ipc.Secret
		if err := s.UnmarshalJSON([]byte(wire)); !errors.Is(err, ipc.ErrEncoding) || s != nil {
			t.Errorf("%q: got %v", wire, err)
		}
	}
}

func TestSecretWipe(t *testing.T) {
	s := ipc.Secret("493817")
	s.Wipe()
	if !bytes.Equal(s, make([]byte, 6)) {
		t.Fatal("not wiped")
	}
}

func FuzzSecret(f *testing.F) {
	for _, seed := range []string{`"123456"`, `"\u0031\n\ud83d\ude00"`, `"\ud800"`, `"\\\""`, `1`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		var s ipc.Secret
		if s.UnmarshalJSON(wire) != nil {
			return
		}
		var want string
		if err := json.Unmarshal(wire, &want); err != nil || want != string(s) {
			t.Fatalf("took %q, which encoding/json reads as %q, %v", wire, want, err)
		}
		again, err := s.AppendJSON(nil)
		if err != nil {
			t.Fatal(err)
		}
		var back ipc.Secret
		if err := back.UnmarshalJSON(again); err != nil || !bytes.Equal(back, s) {
			t.Fatalf("%q does not come back: %v", wire, err)
		}
	})
}

func TestEncodeParams(t *testing.T) {
	type nested struct {
		In struct{ PIN ipc.Secret }
	}
	pin := ipc.Secret(`12"34`)
	for name, test := range map[string]struct {
		params any
		want   string
	}{
		"none":               {nil, `[]`},
		"a struct":           {ipc.CreateWalletParams{RequestID: "r", Owner: "o", PIN: pin}, `[{"requestId":"r","owner":"o","pin":"12\"34"}]`},
		"a pointer":          {&ipc.CreateWalletParams{RequestID: "r", Owner: "o", PIN: pin}, `[{"requestId":"r","owner":"o","pin":"12\"34"}]`},
		"without its secret": {ipc.CreateWalletParams{RequestID: "r", Owner: "o"}, `[{"requestId":"r","owner":"o"}]`},
		"a required secret":  {ipc.DeriveAccountParams{RequestID: "r", PIN: pin}, `[{"requestId":"r","walletId":"0x","pin":"12\"34"}]`},
		"required, missing":  {ipc.DeriveAccountParams{RequestID: "r"}, `[{"requestId":"r","walletId":"0x"}]`},
		"only a secret":      {struct{ PIN ipc.Secret }{pin}, `[{"PIN":"12\"34"}]`},
		"by position":        {[]any{"a", 1, pin, struct{ PIN ipc.Secret }{pin}, nil}, `["a",1,"12\"34",{"PIN":"12\"34"},null]`},
		"a map":              {map[string]int{"a": 1}, `[{"a":1}]`},
		"raw":                {json.RawMessage(`{"a":1}`), `[{"a":1}]`},
		"raw array":          {json.RawMessage(`[1,2]`), `[1,2]`},
	} {
		if got, err := ipc.EncodeParams(test.params); err != nil || string(got) != test.want {
			t.Errorf("%s: got %s, %v, want %s", name, got, err, test.want)
		}
	}
	deep := nested{}
	deep.In.PIN = pin
	for name, params := range map[string]any{
		"below":         deep,
		"in a map":      map[string]any{"pin": pin},
		"in a list":     struct{ PINs []ipc.Secret }{[]ipc.Secret{pin}},
		"with a secret": struct{ A, B any }{pin, 1},
		"not UTF-8":     struct{ PIN ipc.Secret }{ipc.Secret("\xff")},
		"unmarshalable": make(chan int),
	} {
		if got, err := ipc.EncodeParams(params); !errors.Is(err, ipc.ErrParams) {
			t.Errorf("%s: got %s, %v", name, got, err)
		}
	}
}

func TestTimeIsUTCAndWholeSeconds(t *testing.T) {
	at := ipc.At(time.Date(2026, 1, 2, 3, 4, 5, 678, time.FixedZone("", 3600)))
	wire, err := json.Marshal(at)
	if err != nil || string(wire) != `"2026-01-02T02:04:05Z"` {
		t.Fatalf("got %s, %v", wire, err)
	}
	var back ipc.Time
	if err := json.Unmarshal(wire, &back); err != nil || !back.Equal(at.Time) {
		t.Fatalf("got %v, %v", back, err)
	}
}

func TestErrorRoundTrip(t *testing.T) {
	left, after := 2, 1.5
	locked := ipc.At(time.Unix(1_700_000_000, 0))
	e := &ipc.Error{Code: 1, Reason: "wrongPin", Message: "m", AttemptsLeft: &left, RetryAfter: &after, LockedUntil: &locked, Field: "f"}
	wire, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	var back ipc.Error
	if err := json.Unmarshal(wire, &back); err != nil || !errors.Is(&back, &ipc.Error{Reason: "wrongPin"}) ||
		*back.AttemptsLeft != 2 || *back.RetryAfter != 1.5 || !back.LockedUntil.Equal(locked.Time) || back.Charged != nil {
		t.Fatalf("got %+v, %v", back, err)
	}
	if errors.Is(&back, &ipc.Error{}) || errors.Is(&back, &ipc.Error{Reason: "other"}) {
		t.Error("another reason matches")
	}
	if err := json.Unmarshal([]byte(`{"code":-32000,"message":"m","data":"0x08c379a0"}`), &back); err != nil || back.Reason != "" || back.Message != "m" {
		t.Errorf("another server's error: got %+v, %v", back, err)
	}
	if got := e.Error(); got != "m (wrongPin, field f)" {
		t.Errorf("got %q", got)
	}
}
