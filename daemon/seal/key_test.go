package seal_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/sigild/sigild/daemon/seal"
)

// gcmSeal closes a box as another program would.
func gcmSeal(t testing.TB, key, plain, ad []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	return aead.Seal(nil, nil, plain, ad)
}

// One guess is one operation of the token and then one of the TPM.
func TestDeriveKeyAsksEachDeviceOnce(t *testing.T) {
	f := newFactors()
	if _, err := seal.DeriveKey(t.Context(), []byte("402916"), seal.ID{1}, cheap(), f); err != nil {
		t.Fatal(err)
	}
	if len(f.given) != 2 {
		t.Fatalf("%d operations, want 2", len(f.given))
	}
}

// What the devices were given and what they gave is wiped when the key is there,
// and when it is not.
func TestDeriveKeyWipesWhatItHandsOut(t *testing.T) {
	for name, f := range map[string]*scriptedFactors{
		"key":        newFactors(),
		"token dead": {token: random(32), host: random(32), tokenErr: errors.New("gone")},
		"TPM dead":   {token: random(32), host: random(32), hostErr: errors.New("gone")},
	} {
		_, _ = seal.DeriveKey(t.Context(), []byte("402916"), seal.ID{1}, cheap(), f)
		if len(f.given) == 0 {
			t.Fatalf("%s: no device was asked", name)
		}
		for i, b := range append(f.given, f.results...) {
			if !bytes.Equal(b, make([]byte, len(b))) {
				t.Errorf("%s: message or result %d was left in memory", name, i)
			}
		}
	}
}

// A device that does not answer says nothing about the PIN.
func TestDeriveKeyDeviceFailure(t *testing.T) {
	gone := errors.New("device is gone")
	for name, c := range map[string]struct {
		factors *scriptedFactors
		asked   int
	}{
		"token": {&scriptedFactors{token: random(32), host: random(32), tokenErr: gone}, 1},
		"TPM":   {&scriptedFactors{token: random(32), host: random(32), hostErr: gone}, 2},
	} {
		key, err := seal.DeriveKey(t.Context(), []byte("402916"), seal.ID{1}, cheap(), c.factors)
		if !errors.Is(err, seal.ErrFactor) || !errors.Is(err, gone) || errors.Is(err, seal.ErrOpen) || key != nil {
			t.Errorf("%s: err = %v, want ErrFactor and the device's own", name, err)
		}
		if len(c.factors.given) != c.asked {
			t.Errorf("%s: %d operations, want %d", name, len(c.factors.given), c.asked)
		}
	}
}

func TestDeriveKeyPassesTheContextOn(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := seal.DeriveKey(ctx, []byte("402916"), seal.ID{1}, cheap(), contextFactors{})
	if !errors.Is(err, context.Canceled) || !errors.Is(err, seal.ErrFactor) {
		t.Fatalf("err = %v, want ErrFactor and context.Canceled", err)
	}
}

type contextFactors struct{}

func (contextFactors) Pepper(ctx context.Context, _ []byte, _ *[32]byte) error { return ctx.Err() }
func (contextFactors) Host(ctx context.Context, _ []byte, _ *[32]byte) error   { return ctx.Err() }

func TestDeriveKeyRefusesBadCosts(t *testing.T) {
	f := newFactors()
	bad := cheap()
	bad.Memory = 1 << 30
	if _, err := seal.DeriveKey(t.Context(), []byte("402916"), seal.ID{1}, bad, f); err == nil || len(f.given) != 0 {
		t.Fatalf("err = %v with %d operations, want an error before any", err, len(f.given))
	}
}

func TestWipe(t *testing.T) {
	key := seal.Key(random(32))
	key.Wipe()
	w := newWrapped(2)
	w.Wipe()
	s := seal.HostSecret{Host: random(32), TokenPIN: random(32)}
	s.Wipe()
	for name, b := range map[string][]byte{"key": key[:], "derivation": w.Derivation, "root 0": w.Roots[0],
		"root 1": w.Roots[1], "host": s.Host, "token PIN": s.TokenPIN} {
		if !bytes.Equal(b, make([]byte, len(b))) || len(b) == 0 {
			t.Errorf("%s was not wiped", name)
		}
	}
}

// No verb, no log handler and no encoder prints a secret, by value or pointer.
func TestSecretsDoNotPrint(t *testing.T) {
	canary := bytes.Repeat([]byte{0xab}, 32)
	key := seal.Key(canary)
	wrapped := seal.Wrapped{Derivation: canary, Roots: [][]byte{canary}}
	host := seal.HostSecret{Host: canary, TokenPIN: canary}
	for _, v := range []any{key, &key, wrapped, &wrapped, host, &host, struct{ K seal.Key }{key}} {
		var out bytes.Buffer
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%d", "%q", "%o"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		for _, h := range []slog.Handler{slog.NewTextHandler(&out, timeless()), slog.NewJSONHandler(&out, timeless())} {
			slog.New(h).Info("secret", "value", v)
		}
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(text)
		for _, leak := range []string{"abab", "ABAB", "171", "0xab", "253", "q6ur", "\xab"} {
			if strings.Contains(out.String(), leak) {
				t.Errorf("%T prints %q in %s", v, leak, out.String())
			}
		}
	}
}

// timeless leaves the time out, whose digits could look like a secret's.
func timeless() *slog.HandlerOptions {
	return &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}
}

func BenchmarkDeriveKey(b *testing.B) {
	a := seal.DefaultArgon2()
	a.Salt = seal.NewSalt()
	f := newFactors()
	for b.Loop() {
		if _, err := seal.DeriveKey(b.Context(), []byte("402916"), seal.ID{1}, a, f); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	s := newSealed(b)
	for b.Loop() {
		s.parse(b)
	}
}
