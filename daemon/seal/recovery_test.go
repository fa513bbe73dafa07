package seal_test

import (
	"bytes"
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/sigild/sigild/daemon/seal"
)

const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

type recoveryVectors struct {
	Codes []struct {
		Raw   hexBytes
		Code  string
		Typed []string
	}
	Hosts []struct {
		Name, Code            string
		Installation          hexBytes
		Number                uint32
		Host, TokenPIN        hexBytes
		Nonce, AssociatedData hexBytes
		Key, Plain, Blob      hexBytes
	}
}

func readRecovery(t testing.TB) *recoveryVectors {
	t.Helper()
	var v recoveryVectors
	readVectors(t, "recovery.json", &v)
	if len(v.Codes) == 0 || len(v.Hosts) == 0 {
		t.Fatal("no vectors")
	}
	return &v
}

func TestRecoveryCodeVectors(t *testing.T) {
	for _, c := range readRecovery(t).Codes {
		for _, typed := range c.Typed {
			raw, err := seal.ParseRecoveryCode([]byte(typed))
			if err != nil || !bytes.Equal(raw, c.Raw) {
				t.Errorf("%q: %x, %v, want %x", typed, raw, err, c.Raw)
			}
		}
	}
}

func TestHostVectors(t *testing.T) {
	for _, c := range readRecovery(t).Hosts {
		t.Run(c.Name, func(t *testing.T) {
			s, err := seal.OpenHost([]byte(c.Code), c.Installation.id(t), c.Number, c.Blob)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(s.Host, c.Host) || !bytes.Equal(s.TokenPIN, c.TokenPIN) {
				t.Error("the secret is not the vector's")
			}
			if !bytes.HasPrefix(c.Blob, c.Nonce) || len(c.Blob) != 12+len(c.Plain)+16 {
				t.Error("the vector's blob is not nonce, ciphertext and tag")
			}
		})
	}
}

// One wrong letter in any place is noticed. The check has 20 bits, so this
// holds for these codes, and for another code but for one letter in a million.
func TestRecoveryCodeRefusesEachSubstitution(t *testing.T) {
	for _, c := range readRecovery(t).Codes {
		for i := range c.Code {
			if c.Code[i] == '-' {
				continue
			}
			for _, letter := range []byte(crockford + "U*") {
				if letter == c.Code[i] {
					continue
				}
				typed := []byte(c.Code)
				typed[i] = letter
				if raw, err := seal.ParseRecoveryCode(typed); !errors.Is(err, seal.ErrRecoveryCode) || raw != nil {
					t.Fatalf("%s is taken for %s", typed, c.Code)
				}
			}
		}
	}
}

func TestRecoveryCodeRefusesSwapsAndGaps(t *testing.T) {
	code := readRecovery(t).Codes[2].Code
	letters := strings.ReplaceAll(code, "-", "")
	for i := 1; i < len(letters); i++ {
		swapped := letters[:i-1] + letters[i:i+1] + letters[i-1:i] + letters[i+1:]
		if swapped == letters {
			continue
		}
		if _, err := seal.ParseRecoveryCode([]byte(swapped)); !errors.Is(err, seal.ErrRecoveryCode) {
			t.Errorf("%s is taken for %s", swapped, letters)
		}
	}
	for _, typed := range []string{"", "-", code[:len(code)-1], code[5:], code + "0", code + "-0000",
		strings.Replace(code, "-", "ſ", 1), "\xff" + code, strings.Replace(code, "-", ".", 1)} {
		if _, err := seal.ParseRecoveryCode([]byte(typed)); !errors.Is(err, seal.ErrRecoveryCode) {
			t.Errorf("%q: err = %v, want ErrRecoveryCode", typed, err)
		}
	}
}

func TestNewRecoveryCode(t *testing.T) {
	form := regexp.MustCompile("^([" + crockford + "]{4}-){8}[" + crockford + "]{4}$")
	seen := map[string]bool{}
	for range 200 {
		code := seal.NewRecoveryCode()
		if !form.Match(code) || seen[string(code)] {
			t.Fatalf("%s has another form or came twice", code)
		}
		seen[string(code)] = true
		raw, err := seal.ParseRecoveryCode(code)
		if err != nil || len(raw) != 20 {
			t.Fatalf("%s does not parse: %v", code, err)
		}
	}
}

func TestSealHost(t *testing.T) {
	code, installation := seal.NewRecoveryCode(), seal.ID(random(16))
	for _, want := range []seal.HostSecret{
		{Host: random(32), TokenPIN: random(48)},
		{Host: random(32)},
	} {
		blob, err := seal.SealHost(code, installation, 7, &want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := seal.OpenHost(code, installation, 7, blob)
		if err != nil || !bytes.Equal(got.Host, want.Host) || !bytes.Equal(got.TokenPIN, want.TokenPIN) {
			t.Fatalf("the blob gives another secret: %v", err)
		}
	}
}

func TestOpenHostRefuses(t *testing.T) {
	v := readRecovery(t).Hosts[0]
	other := seal.NewRecoveryCode()
	for name, c := range map[string]struct {
		code         []byte
		installation seal.ID
		number       uint32
		blob         []byte
		want         error
	}{
		"another code":         {other, v.Installation.id(t), v.Number, v.Blob, seal.ErrOpen},
		"another installation": {[]byte(v.Code), seal.ID{1}, v.Number, v.Blob, seal.ErrOpen},
		"another number":       {[]byte(v.Code), v.Installation.id(t), v.Number + 1, v.Blob, seal.ErrOpen},
		"an empty blob":        {[]byte(v.Code), v.Installation.id(t), v.Number, nil, seal.ErrOpen},
		"half a nonce":         {[]byte(v.Code), v.Installation.id(t), v.Number, v.Blob[:6], seal.ErrOpen},
		"a mistyped code":      {[]byte(v.Code[1:]), v.Installation.id(t), v.Number, v.Blob, seal.ErrRecoveryCode},
		"other plaintext": {[]byte(v.Code), v.Installation.id(t), v.Number,
			gcmSeal(t, v.Key, []byte("canary"), v.AssociatedData), seal.ErrFormat},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := seal.OpenHost(c.code, c.installation, c.number, c.blob)
			if !errors.Is(err, c.want) || s != nil || strings.Contains(err.Error(), "canary") {
				t.Fatalf("err = %v, want %v", err, c.want)
			}
		})
	}
	for i := range v.Blob {
		if _, err := seal.OpenHost([]byte(v.Code), v.Installation.id(t), v.Number, flipped(v.Blob, i, 1)); !errors.Is(err, seal.ErrOpen) {
			t.Fatalf("byte %d: err = %v, want ErrOpen", i, err)
		}
	}
	if _, err := seal.SealHost([]byte("no code"), seal.ID{}, 1, &seal.HostSecret{}); !errors.Is(err, seal.ErrRecoveryCode) {
		t.Fatalf("SealHost: err = %v, want ErrRecoveryCode", err)
	}
}
