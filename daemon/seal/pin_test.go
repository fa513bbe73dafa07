package seal_test

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/sigild/sigild/daemon/seal"
)

func TestPINRules(t *testing.T) {
	for _, c := range []struct {
		pin  string
		want error // of CheckNew; ErrPINSyntax is CheckSyntax's too
	}{
		{"402916", nil},
		{"40291683", nil},
		{"blue window 7 lamps", nil},
		{" !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", nil},
		{strings.Repeat("q7", 31) + "xy", nil}, // 64 bytes
		{"", seal.ErrPINSyntax},
		{"40291", seal.ErrPINSyntax},
		{strings.Repeat("q7", 32) + "x", seal.ErrPINSyntax}, // 65 bytes
		{"40291\x00", seal.ErrPINSyntax},
		{"40291\n", seal.ErrPINSyntax},
		{"40291\x7f", seal.ErrPINSyntax},
		{"40291\x80", seal.ErrPINSyntax},
		{"pässword", seal.ErrPINSyntax},
		{"٤٠٢٩١٦", seal.ErrPINSyntax}, // digits of another script
		{"000000", seal.ErrPINWeak},
		{"zzzzzzzz", seal.ErrPINWeak},
		{"123456", seal.ErrPINWeak},
		{"345678", seal.ErrPINWeak},
		{"987654", seal.ErrPINWeak},
		{"890123", seal.ErrPINWeak},
		{"210987", seal.ErrPINWeak},
		{"abcdef", seal.ErrPINWeak},
		{"fedcba", seal.ErrPINWeak},
		{"12345678901234567890", seal.ErrPINWeak},
		{"121212", seal.ErrPINWeak},
		{"123123", seal.ErrPINWeak},
		{"40294029", seal.ErrPINWeak},
		{"402916402916", seal.ErrPINWeak},
		{"123321", seal.ErrPINWeak},
		{"password", seal.ErrPINWeak},
		{"PassWord", seal.ErrPINWeak},
		{"qwerty", seal.ErrPINWeak},
		{"40291640291", nil}, // the last block is cut short
		{"passwordx", nil},
	} {
		if err := seal.CheckNew([]byte(c.pin)); !errors.Is(err, c.want) {
			t.Errorf("CheckNew(%q) = %v, want %v", c.pin, err, c.want)
		}
		syntax := c.want
		if errors.Is(c.want, seal.ErrPINWeak) {
			syntax = nil // a wallet may have got it under older rules
		}
		if err := seal.CheckSyntax([]byte(c.pin)); !errors.Is(err, syntax) {
			t.Errorf("CheckSyntax(%q) = %v, want %v", c.pin, err, syntax)
		}
	}
}

// Every listed PIN is one that could be set and is refused, in any case.
func TestCommonPINsAreRefused(t *testing.T) {
	data, err := os.ReadFile("common.txt")
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Fields(data)
	if len(lines) < 100 {
		t.Fatalf("%d common PINs, want at least 100", len(lines))
	}
	seen := map[string]bool{}
	for _, line := range lines {
		if seen[string(line)] || seal.CheckSyntax(line) != nil {
			t.Errorf("%q is listed twice or cannot be a PIN", line)
		}
		seen[string(line)] = true
		for _, pin := range [][]byte{line, bytes.ToUpper(line)} {
			if err := seal.CheckNew(pin); !errors.Is(err, seal.ErrPINWeak) {
				t.Errorf("%q: err = %v, want ErrPINWeak", pin, err)
			}
		}
	}
}

// An error about a PIN does not hold the PIN.
func TestPINErrorsDoNotQuoteThePIN(t *testing.T) {
	for _, pin := range []string{"98765", "987654", "40294029", "password1"} {
		if err := seal.CheckNew([]byte(pin)); err == nil || strings.Contains(err.Error(), pin) {
			t.Errorf("err = %v for %q", err, pin)
		}
	}
}

func TestStretchRefuses(t *testing.T) {
	for name, change := range map[string]func(*seal.Argon2){
		"no pass":              func(a *seal.Argon2) { a.Time = 0 },
		"17 passes":            func(a *seal.Argon2) { a.Time = 17 },
		"a KiB below":          func(a *seal.Argon2) { a.Memory = 8*1024 - 1 },
		"a KiB above":          func(a *seal.Argon2) { a.Memory = 256*1024 + 1 },
		"RFC 9106's 32 KiB":    func(a *seal.Argon2) { a.Time, a.Memory, a.Threads = 3, 32, 4 },
		"no lane":              func(a *seal.Argon2) { a.Threads = 0 },
		"five lanes":           func(a *seal.Argon2) { a.Threads = 5 },
		"no salt":              func(a *seal.Argon2) { a.Salt = nil },
		"a salt of 15 bytes":   func(a *seal.Argon2) { a.Salt = a.Salt[:15] },
		"a salt of 17 bytes":   func(a *seal.Argon2) { a.Salt = append(a.Salt, 0) },
		"nothing (zero value)": func(a *seal.Argon2) { *a = seal.Argon2{} },
	} {
		a := cheap()
		change(&a)
		if out, err := seal.Stretch([]byte("402916"), a); err == nil || out != nil {
			t.Errorf("%s: stretched", name)
		}
	}
}

func TestNewSaltIsFresh(t *testing.T) {
	a, b := seal.NewSalt(), seal.NewSalt()
	if len(a) != 16 || bytes.Equal(a, b) {
		t.Fatalf("salts %x and %x", a, b)
	}
}

func TestDefaultCostIsAccepted(t *testing.T) {
	a := seal.DefaultArgon2()
	if err := a.Check(); err != nil || a.Memory < 19*1024 {
		t.Fatalf("%+v: %v", a, err)
	}
}
