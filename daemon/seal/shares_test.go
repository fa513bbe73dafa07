package seal_test

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/sigild/sigild/daemon/seal"
)

type shareVectors struct {
	Shares []struct {
		Code   string
		Set    int
		Needed int
		Shares []string
	}
}

func readShares(t testing.TB) *shareVectors {
	t.Helper()
	var v shareVectors
	readVectors(t, "recovery.json", &v)
	if len(v.Shares) < 3 {
		t.Fatal("no vectors")
	}
	return &v
}

// give adds parts and returns the code.
func give[T string | []byte](parts ...T) (string, error) {
	var s seal.Shares
	defer s.Wipe()
	for _, p := range parts {
		if err := s.Add([]byte(p)); err != nil {
			return "", err
		}
	}
	code, err := s.Code()
	return string(code), err
}

func TestShareVectors(t *testing.T) {
	for _, c := range readShares(t).Shares {
		for _, parts := range [][]string{c.Shares[:c.Needed], c.Shares[len(c.Shares)-c.Needed:], c.Shares} {
			if code, err := give(parts...); err != nil || code != c.Code {
				t.Errorf("set %d gives %q, %v, want %q", c.Set, code, err, c.Code)
			}
		}
		if code, err := give(c.Shares[:c.Needed-1]...); !errors.Is(err, seal.ErrSharesFew) || code != "" {
			t.Errorf("set %d with a share too few: %q, %v", c.Set, code, err)
		}
	}
}

// Any needed shares, in any order and as people type them, give the code back.
func TestSplitRecoveryCode(t *testing.T) {
	form := regexp.MustCompile("^([" + crockford + "]{4}-){14}[" + crockford + "]{4}$")
	for _, size := range []struct{ n, needed int }{{2, 2}, {3, 2}, {5, 3}, {7, 7}, {16, 2}, {16, 16}} {
		t.Run(fmt.Sprintf("%d of %d", size.needed, size.n), func(t *testing.T) {
			code := seal.NewRecoveryCode()
			shares, err := seal.SplitRecoveryCode(code, size.n, size.needed)
			if err != nil || len(shares) != size.n {
				t.Fatalf("%d shares, %v", len(shares), err)
			}
			for i, s := range shares {
				if !form.Match(s) || !bytes.Equal(s[:3], shares[0][:3]) || s[3] != crockford[i+1] {
					t.Errorf("share %d is %s", i+1, s)
				}
			}
			for from := range shares {
				var parts []string
				for i := range size.needed {
					parts = append(parts, strings.ToLower(strings.ReplaceAll(string(shares[(from+i*(size.n-1))%size.n]), "-", " ")))
				}
				got, err := give(parts...)
				if err != nil || got != string(code) {
					t.Fatalf("from share %d: %q, %v, want %q", from+1, got, err, code)
				}
			}
		})
	}
}

// Two splits of a code have other values and, but for chance, another set.
func TestSplitsDiffer(t *testing.T) {
	code := seal.NewRecoveryCode()
	seen := map[string]bool{}
	for range 20 {
		shares, err := seal.SplitRecoveryCode(code, 3, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range shares {
			if value := string(s[6:]); seen[value] {
				t.Fatalf("the value %s came twice", value)
			}
			seen[string(s[6:])] = true
		}
	}
}

func TestSplitRecoveryCodeRefuses(t *testing.T) {
	code := seal.NewRecoveryCode()
	for _, size := range []struct{ n, needed int }{{1, 1}, {2, 1}, {0, 0}, {2, 3}, {17, 2}, {-1, -1}} {
		if shares, err := seal.SplitRecoveryCode(code, size.n, size.needed); err == nil || shares != nil {
			t.Errorf("%d of %d shares were made", size.needed, size.n)
		}
	}
	if _, err := seal.SplitRecoveryCode(code[1:], 3, 2); !errors.Is(err, seal.ErrRecoveryCode) {
		t.Errorf("half a code: %v", err)
	}
}

// The whole code goes through the same door.
func TestSharesTakeTheCode(t *testing.T) {
	code := seal.NewRecoveryCode()
	if got, err := give(strings.ToLower(string(code))); err != nil || got != string(code) {
		t.Errorf("%q, %v, want %q", got, err, code)
	}
	if _, err := give(code[:len(code)-1]); !errors.Is(err, seal.ErrRecoveryCode) {
		t.Errorf("a code without its last letter: %v", err)
	}
	if _, err := give[string](); !errors.Is(err, seal.ErrSharesFew) {
		t.Errorf("nothing: %v", err)
	}
}

// A refused share costs none of those that were given.
func TestSharesRefuse(t *testing.T) {
	code := seal.NewRecoveryCode()
	shares, err := seal.SplitRecoveryCode(code, 5, 3)
	if err != nil {
		t.Fatal(err)
	}
	foreign := otherSet(t, code, shares[0])
	var s seal.Shares
	defer s.Wipe()
	for i, add := range []struct {
		text []byte
		want error
		says string
	}{
		{shares[1], nil, ""},
		{shares[1], seal.ErrShareRepeated, "share 2"},
		{foreign[2], seal.ErrShareForeign, string(foreign[2][:3])},
		{shares[2][:70], seal.ErrShare, "each group"},
		{code, seal.ErrShare, "each group"},
		{nil, seal.ErrShare, "each group"},
		{shares[4], nil, ""},
		{shares[4], seal.ErrShareRepeated, "share 5"},
		{shares[0], nil, ""},
	} {
		err := s.Add(add.text)
		if !errors.Is(err, add.want) || err != nil && !strings.Contains(err.Error(), add.says) {
			t.Fatalf("part %d: %v, want %v", i, err, add.want)
		}
		if err != nil && len(add.text) > 8 && strings.Contains(err.Error(), string(add.text[5:])) {
			t.Errorf("the error repeats the share: %v", err)
		}
	}
	if got, err := s.Code(); err != nil || string(got) != string(code) {
		t.Fatalf("%q, %v, want %q", got, err, code)
	}
}

// otherSet splits the code anew until the set has another name.
func otherSet(t *testing.T, code, share []byte) [][]byte {
	t.Helper()
	for {
		shares, err := seal.SplitRecoveryCode(code, 5, 3)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(shares[0][:3], share[:3]) {
			return shares
		}
	}
}

// Two sets of one name, which chance gives once in 32768, are noticed when the
// values do not fit.
func TestSharesOfTwoSetsWithOneName(t *testing.T) {
	code := seal.NewRecoveryCode()
	first, err := seal.SplitRecoveryCode(code, 3, 2)
	if err != nil {
		t.Fatal(err)
	}
	for range 1 << 20 {
		second, err := seal.SplitRecoveryCode(code, 3, 2)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first[0][:3], second[0][:3]) {
			continue
		}
		if got, err := give(first[0], second[1]); !errors.Is(err, seal.ErrShares) || got != "" {
			t.Fatalf("got %q, %v", got, err)
		}
		return
	}
	t.Fatal("no two sets had one name")
}

// One wrong letter in any place is noticed, as in a code.
func TestShareRefusesEachSubstitution(t *testing.T) {
	for _, c := range readShares(t).Shares {
		for i, was := range []byte(c.Shares[0]) {
			for _, letter := range []byte(crockford + "U*") {
				typed := []byte(c.Shares[0])
				typed[i] = letter
				if was == '-' || letter == was {
					continue
				}
				if _, err := give(typed); !errors.Is(err, seal.ErrShare) {
					t.Fatalf("%s is taken for %s: %v", typed, c.Shares[0], err)
				}
			}
		}
	}
}

func FuzzShares(f *testing.F) {
	for _, c := range readShares(f).Shares {
		f.Add([]byte(c.Shares[0]), []byte(c.Shares[1]))
		f.Add([]byte(c.Code), []byte(c.Shares[0]))
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		var s seal.Shares
		defer s.Wipe()
		for _, part := range [][]byte{a, b} {
			if err := s.Add(part); err != nil {
				return
			}
		}
		if code, err := s.Code(); err == nil {
			if _, err := seal.ParseRecoveryCode(code); err != nil {
				t.Fatalf("%q is no code", code)
			}
		}
	})
}
