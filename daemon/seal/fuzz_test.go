package seal_test

import (
	"bytes"
	"context"
	"encoding/base32"
	"errors"
	"strings"
	"testing"

	"github.com/sigild/sigild/daemon/seal"
)

// FuzzParse looks behind the MAC: it gives each record the MAC that it asks
// for, its last 32 bytes.
func FuzzParse(f *testing.F) {
	records := readRecords(f)
	for _, v := range records {
		f.Add([]byte(v.Stored))
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		agrees := func(context.Context, []byte) (sum [32]byte, err error) {
			copy(sum[:], data[max(0, len(data)-seal.MACSize):])
			return sum, nil
		}
		for _, v := range records {
			p, err := seal.Parse(t.Context(), data, v.Header.Installation.id(t), v.Header.Wallet.id(t), agrees)
			if err != nil {
				if !errors.Is(err, seal.ErrCorrupt) {
					t.Fatalf("err = %v, want ErrCorrupt", err)
				}
				continue
			}
			checkParsed(t, p, data, agrees)
		}
	})
}

// checkParsed encodes each part again and wants the same bytes.
func checkParsed(t *testing.T, p *seal.Parsed, data []byte, mac seal.MAC) {
	t.Helper()
	header, err := p.Header.Encode()
	if err != nil || !bytes.Equal(header, p.Record.Header) {
		t.Fatalf("header %x encodes as %x, %v", p.Record.Header, header, err)
	}
	state, err := seal.EncodeState(p.State)
	if err != nil || !bytes.Equal(state, p.Record.State) {
		t.Fatalf("state %x encodes as %x, %v", p.Record.State, state, err)
	}
	r := seal.Record{Header: header, Box: p.Record.Box, State: state}
	if again, err := r.Encode(t.Context(), mac); err != nil || !bytes.Equal(again, data) {
		t.Fatalf("record %x encodes as %x, %v", data, again, err)
	}
}

func FuzzDecodeHeader(f *testing.F) {
	for _, v := range readRecords(f) {
		f.Add([]byte(v.HeaderBytes))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := seal.DecodeHeader(data)
		if err != nil {
			if !errors.Is(err, seal.ErrFormat) {
				t.Fatalf("err = %v, want ErrFormat", err)
			}
			return
		}
		if again, err := h.Encode(); err != nil || !bytes.Equal(again, data) {
			t.Fatalf("%x encodes as %x, %v", data, again, err)
		}
	})
}

// FuzzRecoveryCode wants that what is taken for a code is its 20 bytes in
// Crockford's base 32, as people type it.
func FuzzRecoveryCode(f *testing.F) {
	for _, c := range readRecovery(f).Codes {
		for _, typed := range c.Typed {
			f.Add([]byte(typed))
		}
	}
	encoding := base32.NewEncoding(crockford).WithPadding(base32.NoPadding)
	plain := strings.NewReplacer("-", "", " ", "", "\t", "", "\r", "", "\n", "", "O", "0", "I", "1", "L", "1")
	f.Fuzz(func(t *testing.T, code []byte) {
		before := bytes.Clone(code)
		raw, err := seal.ParseRecoveryCode(code)
		if !bytes.Equal(code, before) {
			t.Fatal("the caller's code was changed")
		}
		if err != nil {
			if !errors.Is(err, seal.ErrRecoveryCode) || raw != nil {
				t.Fatalf("%x, %v, want ErrRecoveryCode alone", raw, err)
			}
			return
		}
		text := plain.Replace(strings.ToUpper(string(code)))
		if len(text) != 36 || encoding.EncodeToString(raw) != text[:32] {
			t.Fatalf("%q is taken for %x", code, raw)
		}
	})
}
