package channel_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"github.com/sigild/sigild/daemon/channel"
)

var exported = channel.Export{Installation: channel.ID{1}, Wallet: channel.ID{2}, Account: 3, Address: [20]byte{4}, Digest: [32]byte{5}}

// A key opens for its recipient and its request, and for no other.
func TestSealedKeyIsBound(t *testing.T) {
	r, err := channel.NewRecipient()
	if err != nil {
		t.Fatal(err)
	}
	key := [32]byte{31: 7}
	s, err := exported.Seal(r.Public(), &key)
	if err != nil || len(s.Enc) != channel.EncSize || len(s.Ciphertext) != 48 {
		t.Fatalf("%+v, %v", s, err)
	}
	if got, err := r.Open(&exported, s); err != nil || !bytes.Equal(got, key[:]) {
		t.Fatalf("%x, %v", got, err)
	}
	for name, change := range map[string]func(*channel.Export){
		"installation": func(e *channel.Export) { e.Installation[15]++ }, "wallet": func(e *channel.Export) { e.Wallet[0]++ },
		"account": func(e *channel.Export) { e.Account = 0 }, "address": func(e *channel.Export) { e.Address[19]++ },
		"digest": func(e *channel.Export) { e.Digest[31]++ },
	} {
		other := exported
		change(&other)
		if _, err := r.Open(&other, s); !errors.Is(err, channel.ErrExport) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	for name, other := range map[string]*channel.SealedKey{
		"enc":        {Enc: flip(s.Enc, 0), Ciphertext: s.Ciphertext},
		"ciphertext": {Enc: s.Enc, Ciphertext: flip(s.Ciphertext, 47)},
		"short enc":  {Enc: s.Enc[1:], Ciphertext: s.Ciphertext},
		"nothing":    {},
	} {
		if _, err := r.Open(&exported, other); !errors.Is(err, channel.ErrExport) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	stranger, err := channel.NewRecipient()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stranger.Open(&exported, s); !errors.Is(err, channel.ErrExport) {
		t.Errorf("another recipient: %v", err)
	}
	if got := fmt.Sprintf("%v %+v %s", r, r, slog.AnyValue(r).Resolve()); got != "redacted redacted redacted" {
		t.Errorf("a recipient prints as %s", got)
	}
}

func flip(b []byte, at int) []byte {
	out := bytes.Clone(b)
	out[at] ^= 1
	return out
}

// What nothing can be sealed to is found before anything is done.
func TestRecipientsThatAreNone(t *testing.T) {
	r, err := channel.NewRecipient()
	if err != nil {
		t.Fatal(err)
	}
	good := r.Public()
	lowOrder := append(bytes.Clone(good[:1184]), make([]byte, 32)...)
	unreduced := append(bytes.Repeat([]byte{0xff}, 1152), good[1152:]...)
	for name, key := range map[string][]byte{
		"nothing": nil, "short": good[1:], "long": append(bytes.Clone(good), 0), "X25519 only": good[1184:],
		"a point of low order": lowOrder, "coefficients beyond q": unreduced,
	} {
		if err := channel.CheckRecipient(key); !errors.Is(err, channel.ErrRecipient) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := exported.Seal(key, new([32]byte)); !errors.Is(err, channel.ErrRecipient) {
			t.Errorf("%s, sealing: %v", name, err)
		}
	}
	if err := channel.CheckRecipient(good); err != nil {
		t.Errorf("a sound one: %v", err)
	}
}
