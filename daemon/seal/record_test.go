package seal_test

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/sigild/sigild/daemon/seal"
)

// P3: the database is useless without every factor. With the right PIN and all
// factors but one, it is the AEAD itself that refuses, not a comparison.
func TestP3EachFactorIsNeeded(t *testing.T) {
	s := newSealed(t)
	p := s.parse(t)
	a := p.Header.KDF
	other := newFactors()
	salt := a
	salt.Salt = seal.NewSalt()
	costlier := a
	costlier.Time++
	for name, key := range map[string]*seal.Key{
		"PIN":       s.key(t, []byte("402917"), p.Header.Wallet, a, s.factors),
		"token key": s.key(t, s.pin, p.Header.Wallet, a, &scriptedFactors{token: other.token, host: s.factors.host}),
		"host key":  s.key(t, s.pin, p.Header.Wallet, a, &scriptedFactors{token: s.factors.token, host: other.host}),
		"both keys": s.key(t, s.pin, p.Header.Wallet, a, other),
		"swapped":   s.key(t, s.pin, p.Header.Wallet, a, &scriptedFactors{token: s.factors.host, host: s.factors.token}),
		"wallet":    s.key(t, s.pin, seal.ID{1}, a, s.factors),
		"salt":      s.key(t, s.pin, p.Header.Wallet, salt, s.factors),
		"cost":      s.key(t, s.pin, p.Header.Wallet, costlier, s.factors),
	} {
		t.Run(name, func(t *testing.T) {
			if w, err := seal.Open(key, p.Record.Header, p.Record.Box); !errors.Is(err, seal.ErrOpen) || w != nil {
				t.Fatalf("err = %v, want ErrOpen", err)
			}
		})
	}
	if _, err := seal.Open(s.key(t, s.pin, p.Header.Wallet, a, s.factors), p.Record.Header, p.Record.Box); err != nil {
		t.Fatalf("the three true factors: %v", err)
	}
}

// P3: the header is bound to the box, byte for byte, and the box to itself.
func TestP3ChangedHeaderOrBoxDoesNotOpen(t *testing.T) {
	s := newSealed(t)
	p := s.parse(t)
	key := s.key(t, s.pin, p.Header.Wallet, p.Header.KDF, s.factors)
	for i := range p.Record.Header {
		if _, err := seal.Open(key, flipped(p.Record.Header, i, 1), p.Record.Box); !errors.Is(err, seal.ErrOpen) {
			t.Fatalf("header byte %d: err = %v, want ErrOpen", i, err)
		}
	}
	for i := range p.Record.Box {
		if _, err := seal.Open(key, p.Record.Header, flipped(p.Record.Box, i, 1)); !errors.Is(err, seal.ErrOpen) {
			t.Fatalf("box byte %d: err = %v, want ErrOpen", i, err)
		}
		if _, err := seal.Open(key, p.Record.Header, p.Record.Box[:i]); !errors.Is(err, seal.ErrOpen) {
			t.Fatalf("box of %d bytes: err = %v, want ErrOpen", i, err)
		}
	}
}

func flipped(data []byte, at int, bits byte) []byte {
	c := bytes.Clone(data)
	c[at] ^= bits
	return c
}

func TestCloseOpen(t *testing.T) {
	key := seal.Key(random(32))
	for _, w := range []*seal.Wrapped{newWrapped(1), newWrapped(256), {Derivation: []byte{}, Roots: [][]byte{}}} {
		box, err := seal.Close(&key, []byte("header"), w)
		if err != nil {
			t.Fatal(err)
		}
		again, err := seal.Open(&key, []byte("header"), box)
		if err != nil || !reflect.DeepEqual(again, w) {
			t.Fatalf("%d roots: the box gives other keys, %v", len(w.Roots), err)
		}
	}
}

func TestCloseNeverRepeatsANonce(t *testing.T) {
	key, w := seal.Key(random(32)), newWrapped(1)
	seen := map[string]bool{}
	for range 1000 {
		box, err := seal.Close(&key, nil, w)
		if err != nil {
			t.Fatal(err)
		}
		if seen[string(box[:12])] {
			t.Fatal("a nonce came twice")
		}
		seen[string(box[:12])] = true
	}
}

// Whatever bit of a stored record changes is found before anything is charged.
func TestParseFindsEveryChangedBit(t *testing.T) {
	for _, v := range readRecords(t) {
		installation, wallet, mac := v.Header.Installation.id(t), v.Header.Wallet.id(t), hmacSHA256(v.RecordKey)
		refuse := func(what string, at int, data []byte) {
			if _, err := seal.Parse(t.Context(), data, installation, wallet, mac); !errors.Is(err, seal.ErrCorrupt) {
				t.Fatalf("%s: %s %d: err = %v, want ErrCorrupt", v.Name, what, at, err)
			}
		}
		for i := range v.Stored {
			for bit := range 8 {
				refuse("changed byte", i, flipped(v.Stored, i, 1<<bit))
			}
			refuse("cut at", i, v.Stored[:i])
		}
		refuse("longer by", 1, append(bytes.Clone(v.Stored), 0))
	}
}

func TestParseRefusesAnotherWalletsRecord(t *testing.T) {
	s := newSealed(t)
	for name, ids := range map[string][2]seal.ID{
		"wallet":       {s.header.Installation, {1}},
		"installation": {{1}, s.header.Wallet},
	} {
		if _, err := seal.Parse(t.Context(), s.stored, ids[0], ids[1], s.mac()); !errors.Is(err, seal.ErrCorrupt) {
			t.Errorf("another %s: err = %v, want ErrCorrupt", name, err)
		}
	}
	if _, err := seal.Parse(t.Context(), s.stored, s.header.Installation, s.header.Wallet, hmacSHA256(random(32))); !errors.Is(err, seal.ErrCorrupt) {
		t.Errorf("another record key: err = %v, want ErrCorrupt", err)
	}
}

// A part of one record does not fit another's MAC.
func TestParseRefusesSplicedParts(t *testing.T) {
	a, b := newSealed(t), newSealed(t)
	from, to := b.parse(t).Record, a.parse(t).Record
	for name, splice := range map[string]func(*seal.Record){
		"header": func(r *seal.Record) { r.Header = from.Header },
		"box":    func(r *seal.Record) { r.Box = from.Box },
		"state":  func(r *seal.Record) { r.State = append(bytes.Clone(r.State), 0) },
	} {
		r := to
		splice(&r)
		data, err := r.Encode(t.Context(), func(context.Context, []byte) ([32]byte, error) { return [32]byte(to.MAC), nil })
		if err != nil {
			t.Fatal(err)
		}
		if _, err := seal.Parse(t.Context(), data, a.header.Installation, a.header.Wallet, a.mac()); !errors.Is(err, seal.ErrCorrupt) {
			t.Errorf("%s: err = %v, want ErrCorrupt", name, err)
		}
	}
}

// A token that does not answer is not a corrupt record.
func TestParseGivesTheTokensError(t *testing.T) {
	s, gone := newSealed(t), errors.New("token is gone")
	fails := func(context.Context, []byte) ([32]byte, error) { return [32]byte{}, gone }
	_, err := seal.Parse(t.Context(), s.stored, s.header.Installation, s.header.Wallet, fails)
	if !errors.Is(err, gone) || errors.Is(err, seal.ErrCorrupt) {
		t.Fatalf("err = %v, want the token's", err)
	}
	r := seal.Record{Header: []byte{1}}
	if data, err := r.Encode(t.Context(), fails); !errors.Is(err, gone) || data != nil {
		t.Fatalf("Encode: %x, %v, want the token's error", data, err)
	}
}

func TestHeaderRefuses(t *testing.T) {
	for name, change := range map[string]func(*seal.Header){
		"newer format":           func(h *seal.Header) { h.Format = seal.Format + 1 },
		"no format":              func(h *seal.Header) { h.Format = 0 },
		"short salt":             func(h *seal.Header) { h.KDF.Salt = h.KDF.Salt[:15] },
		"no salt":                func(h *seal.Header) { h.KDF.Salt = nil },
		"cost of nothing":        func(h *seal.Header) { h.KDF.Time = 0 },
		"cost of a bomb":         func(h *seal.Header) { h.KDF.Memory = 1 << 31 },
		"no lane":                func(h *seal.Header) { h.KDF.Threads = 0 },
		"no account":             func(h *seal.Header) { h.Accounts = nil },
		"gap in accounts":        func(h *seal.Header) { h.Accounts = append(h.Accounts, newAccount(2)) },
		"account twice":          func(h *seal.Header) { h.Accounts = append(h.Accounts, newAccount(0)) },
		"unknown curve":          func(h *seal.Header) { h.Accounts[0].Curve = "p256" },
		"no curve":               func(h *seal.Header) { h.Accounts[0].Curve = "" },
		"long public key":        func(h *seal.Header) { h.Accounts[0].Public = random(65) },
		"short root":             func(h *seal.Header) { h.Accounts[0].Root = random(32) },
		"no address":             func(h *seal.Header) { h.Accounts[0].Address = nil },
		"unknown custody":        func(h *seal.Header) { h.Accounts[0].Custody = "cloud" },
		"unstated custody":       func(h *seal.Header) { h.Accounts[0].Custody = "" },
		"imported, with a tweak": func(h *seal.Header) { h.Accounts[0].Custody = seal.CustodyImport },
		"imported, not the first": func(h *seal.Header) {
			h.Accounts = append(h.Accounts, h.Accounts[0])
			h.Accounts[1].Index, h.Accounts[1].Root, h.Accounts[1].Custody = 1, h.Accounts[1].Public, seal.CustodyImport
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHeader()
			change(h)
			if data, err := h.Encode(); err == nil {
				t.Fatalf("encoded as %x", data)
			}
		})
	}
}

// DecodeHeader takes one encoding only: whatever else a CBOR decoder would
// forgive is refused.
func TestDecodeHeaderRefuses(t *testing.T) {
	good := readRecords(t)[0].HeaderBytes
	if _, err := seal.DecodeHeader(good); err != nil {
		t.Fatal(err)
	}
	rest := good[1:] // after the head of a map of 15
	for name, data := range map[string][]byte{
		"nothing":              nil,
		"not CBOR":             []byte("{}"),
		"an array":             {0x80},
		"an empty map":         {0xa0},
		"a longer head":        slices.Concat([]byte{0xb8, 15}, rest),
		"indefinite length":    slices.Concat([]byte{0xbf}, rest, []byte{0xff}),
		"an unknown key":       slices.Concat([]byte{0xb0}, rest, []byte{0x10, 0x00}),
		"a key twice":          slices.Concat([]byte{0xb0, 0x01, 0x01}, rest),
		"a tag":                slices.Concat([]byte{0xc1}, good),
		"a byte behind":        slices.Concat(good, []byte{0}),
		"a long format number": slices.Concat([]byte{0xaf, 0x01, 0x18, 0x01}, rest[2:]),
		"keys out of order":    slices.Concat([]byte{0xaf}, rest[2:], rest[:2]),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := seal.DecodeHeader(data); !errors.Is(err, seal.ErrFormat) {
				t.Fatalf("err = %v, want ErrFormat", err)
			}
		})
	}
}

// A box that was closed by another program may open and still not be wrapped
// keys; the error tells nothing of the plaintext.
func TestOpenRefusesOtherPlaintext(t *testing.T) {
	key := seal.Key(random(32))
	box := gcmSeal(t, key[:], []byte("canary-plaintext"), []byte("header"))
	w, err := seal.Open(&key, []byte("header"), box)
	if !errors.Is(err, seal.ErrFormat) || w != nil || strings.Contains(err.Error(), "canary") {
		t.Fatalf("err = %v, want a bare ErrFormat", err)
	}
}
