package entropy_test

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sigild/sigild/daemon/entropy"
)

// hexBytes reads a hexadecimal string of a vector file.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

type vector struct {
	Name    string
	Binding hexBytes
	Parts   []struct {
		Name         string
		Bytes        hexBytes
		AnswerDigest hexBytes
	}
	IKM, PRK, Seed, TokenFeed hexBytes
}

func (v vector) parts() []entropy.Part {
	var parts []entropy.Part
	for _, p := range v.Parts {
		parts = append(parts, entropy.Part{Name: p.Name, Bytes: p.Bytes})
	}
	return parts
}

func readVectors(t testing.TB) []vector {
	t.Helper()
	raw, err := os.ReadFile("../../testdata/vectors/entropy-mix.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Description, Origin, Inputs string
		Cases                       []vector
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&file); err != nil {
		t.Fatal(err)
	}
	if len(file.Cases) == 0 {
		t.Fatal("no vectors")
	}
	return file.Cases
}

// The vectors come from an implementation in another language.
func TestMixVectors(t *testing.T) {
	for _, v := range readVectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			seed, feed, err := entropy.Mix(v.Binding, v.parts())
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(seed, v.Seed) || !bytes.Equal(feed, v.TokenFeed) {
				t.Errorf("seed %x feed %x, want %x %x", seed, feed, v.Seed, v.TokenFeed)
			}
			for _, p := range v.Parts {
				if d := entropy.AnswerDigest(p.Name, p.Bytes); !bytes.Equal(d[:], p.AnswerDigest) {
					t.Errorf("digest of %s is %x, want %x", p.Name, d, p.AnswerDigest)
				}
			}
		})
	}
}

func randomParts(names ...string) []entropy.Part {
	var parts []entropy.Part
	for _, name := range names {
		b := make([]byte, entropy.DefaultBytes)
		_, _ = rand.Read(b)
		parts = append(parts, entropy.Part{Name: name, Bytes: b})
	}
	return parts
}

func mustMix(t testing.TB, binding []byte, parts []entropy.Part) (seed, feed []byte) {
	t.Helper()
	seed, feed, err := entropy.Mix(binding, parts)
	if err != nil {
		t.Fatal(err)
	}
	return seed, feed
}

// Every single bit of every source changes the seed and the feed, each time to
// something not seen before.
func TestMixEveryBitOfEverySourceCounts(t *testing.T) {
	parts := randomParts("kms", "token", "tpm")
	binding := []byte("wallet")
	seen := map[string]bool{}
	note := func(outputs ...[]byte) {
		for _, o := range outputs {
			if seen[string(o)] {
				t.Fatal("two inputs gave the same output")
			}
			seen[string(o)] = true
		}
	}
	note(mustMix(t, binding, parts))
	for i := range parts {
		for bit := range len(parts[i].Bytes) * 8 {
			parts[i].Bytes[bit/8] ^= 1 << (bit % 8)
			note(mustMix(t, binding, parts))
			parts[i].Bytes[bit/8] ^= 1 << (bit % 8)
		}
	}
}

func TestMixIsDeterministicAndLeavesItsInputAlone(t *testing.T) {
	parts := randomParts("tpm", "kms", "token")
	before := slices.Clone(parts)
	first, feed := mustMix(t, []byte("wallet"), parts)
	second, again := mustMix(t, []byte("wallet"), []entropy.Part{parts[2], parts[0], parts[1]})
	if !bytes.Equal(first, second) || !bytes.Equal(feed, again) {
		t.Error("equal inputs gave different outputs")
	}
	if bytes.Equal(first, feed) {
		t.Error("the token is fed with the seed")
	}
	for i := range parts {
		if parts[i].Name != before[i].Name || &parts[i].Bytes[0] != &before[i].Bytes[0] {
			t.Error("the caller's parts were reordered")
		}
	}
	other, otherFeed := mustMix(t, []byte("wallet2"), parts)
	if bytes.Equal(first, other) || bytes.Equal(feed, otherFeed) {
		t.Error("the binding does not count")
	}
}

// Bytes and names cannot move between neighbours without changing the mix.
func TestMixIsInjective(t *testing.T) {
	long := randomParts("a")[0].Bytes
	one, _ := mustMix(t, []byte("w"), []entropy.Part{{Name: "a", Bytes: long[:32]}, {Name: "b", Bytes: long[:33]}})
	two, _ := mustMix(t, []byte("w"), []entropy.Part{{Name: "a", Bytes: long[:33]}, {Name: "b", Bytes: long[:32]}})
	if bytes.Equal(one, two) {
		t.Error("a byte moved between sources unnoticed")
	}
}

func TestMixRefuses(t *testing.T) {
	good := randomParts("kms", "token")
	with := func(p entropy.Part) []entropy.Part { return append(slices.Clone(good), p) }
	some := make([]byte, 64)
	for name, c := range map[string]struct {
		binding []byte
		parts   []entropy.Part
	}{
		"no parts":         {[]byte("w"), nil},
		"no binding":       {nil, good},
		"long binding":     {make([]byte, entropy.MaxBinding+1), good},
		"31 bytes":         {[]byte("w"), with(entropy.Part{Name: "tpm", Bytes: some[:31]})},
		"no bytes":         {[]byte("w"), with(entropy.Part{Name: "tpm"})},
		"1025 bytes":       {[]byte("w"), with(entropy.Part{Name: "tpm", Bytes: make([]byte, 1025)})},
		"no name":          {[]byte("w"), with(entropy.Part{Bytes: some})},
		"upper-case name":  {[]byte("w"), with(entropy.Part{Name: "TPM", Bytes: some})},
		"name of 33 bytes": {[]byte("w"), with(entropy.Part{Name: strings.Repeat("a", 33), Bytes: some})},
		"name twice":       {[]byte("w"), with(entropy.Part{Name: "kms", Bytes: some})},
	} {
		seed, feed, err := entropy.Mix(c.binding, c.parts)
		if !errors.Is(err, entropy.ErrPart) || seed != nil || feed != nil {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// FuzzMix checks that whatever is accepted gives two different outputs of full
// length, and that nothing else gives any.
func FuzzMix(f *testing.F) {
	f.Add([]byte("wallet"), "kms", make([]byte, 64), "tpm", bytes.Repeat([]byte{1}, 32))
	f.Add([]byte{}, "", []byte{}, "", []byte{})
	f.Add([]byte("w"), "a", make([]byte, 32), "a", make([]byte, 32))
	f.Fuzz(func(t *testing.T, binding []byte, name1 string, bytes1 []byte, name2 string, bytes2 []byte) {
		parts := []entropy.Part{{Name: name1, Bytes: bytes1}, {Name: name2, Bytes: bytes2}}
		seed, feed, err := entropy.Mix(binding, parts)
		if err != nil {
			if !errors.Is(err, entropy.ErrPart) || seed != nil || feed != nil {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		if len(seed) != entropy.SeedSize || len(feed) != entropy.FeedSize || bytes.Equal(seed, feed) {
			t.Fatalf("seed of %d and feed of %d bytes", len(seed), len(feed))
		}
		swapped, _, err := entropy.Mix(binding, []entropy.Part{parts[1], parts[0]})
		if err != nil || !bytes.Equal(swapped, seed) {
			t.Fatal("the order of the parts counts")
		}
	})
}

func BenchmarkMix(b *testing.B) {
	parts := randomParts("kms", "token", "tpm")
	for b.Loop() {
		mustMix(b, []byte("wallet"), parts)
	}
}
