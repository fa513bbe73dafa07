package policy_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/sigild/sigild/daemon/policy"
)

// text is a short CBOR text string in hexadecimal.
func text(s string) string { return fmt.Sprintf("%02x%x", 0x60+len(s), s) }

// TestEncoding pins the stored bytes: wallets on disk have them.
func TestEncoding(t *testing.T) {
	word := func(last string) string { return "5820" + strings.Repeat("00", 31) + last }
	for _, c := range []struct {
		name   string
		policy policy.Policy
		want   string
	}{
		{"zero", policy.Policy{}, "a10101"},
		{
			"default", policy.Default(),
			"a70101" + "0283" + text("message") + text("transaction") + text("typedData") + "04f506f508f50af50cf5",
		},
		{
			"strict", strict(),
			"a70101" + "0281" + text("transaction") + "0381" + text("eip155:1") +
				"0582" + "782a" + hex.EncodeToString([]byte(alice)) + "782a" + hex.EncodeToString([]byte(token)) +
				"078144a9059cbb" + "09" + word("64") + "0b" + word("79"),
		},
		{"zero limit", policy.Policy{MaxValue: new(big.Int), ContractCreation: true}, "a30101" + "09" + word("00") + "0df5"},
	} {
		got, err := c.policy.Encode()
		if err != nil || hex.EncodeToString(got) != c.want {
			t.Errorf("%s: %x, want %s (%v)", c.name, got, c.want, err)
		}
		back, err := policy.Decode(got)
		if err != nil || normal(back) != normal(c.policy) {
			t.Errorf("%s: decoded %+v (%v)", c.name, back, err)
		}
	}
}

// normal makes policies comparable: an empty number has two forms in memory.
func normal(p policy.Policy) string {
	return fmt.Sprint(p.Operations, p.Chains, p.AnyChain, p.Recipients, p.AnyRecipient, p.Selectors, p.AnySelector,
		p.MaxValue, p.AnyValue, p.MaxCost, p.AnyCost, p.ContractCreation)
}

// TestEncodingIsCanonical holds that the order in memory does not matter, and
// that encoding does not change it.
func TestEncodingIsCanonical(t *testing.T) {
	p := wide()
	p.AnyChain, p.Chains = false, []string{"eip155:10", "eip155:1"}
	p.AnySelector, p.Selectors = false, [][4]byte{{2}, {1}}
	q := wide()
	q.AnyChain, q.Chains = false, []string{"eip155:1", "eip155:10"}
	q.AnySelector, q.Selectors = false, [][4]byte{{1}, {2}}
	slices.Reverse(q.Operations)
	before := normal(p)
	a, errA := p.Encode()
	b, errB := q.Encode()
	if errA != nil || errB != nil || !bytes.Equal(a, b) {
		t.Errorf("%x and %x (%v, %v)", a, b, errA, errB)
	}
	if normal(p) != before {
		t.Error("Encode sorts the caller's lists")
	}
}

func TestDecodeRefusals(t *testing.T) {
	good, err := strict().Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, encoded string
		want          error
	}{
		{"nothing", "", policy.ErrEncoding},
		{"not a map", "01", policy.ErrEncoding},
		{"empty map", "a0", policy.ErrEncoding},
		{"no version", "a104f5", policy.ErrEncoding},
		{"version 0", "a10100", policy.ErrEncoding},
		{"version 2", "a10102", policy.ErrVersion},
		{"version 2 with a new key", "a2010218630a", policy.ErrVersion},
		{"negative version", "a10120", policy.ErrEncoding},
		{"unknown key", "a201010ef5", policy.ErrEncoding},
		{"text key", "a20101616104", policy.ErrEncoding},
		{"key twice", "a3010104f504f5", policy.ErrEncoding},
		{"keys out of order", "a204f50101", policy.ErrEncoding},
		{"false written out", "a2010104f4", policy.ErrEncoding},
		{"null written out", "a2010104f6", policy.ErrEncoding},
		{"empty list written out", "a201010280", policy.ErrEncoding},
		{"longer integer", "a1011801", policy.ErrEncoding},
		{"longer key", "a1180101", policy.ErrEncoding},
		{"indefinite map", "bf0101ff", policy.ErrEncoding},
		{"tagged", "d9d9f7a10101", policy.ErrEncoding},
		{"something behind", "a1010100", policy.ErrEncoding},
		{"list out of order", "a201010382" + text("eip155:2") + text("eip155:1"), policy.ErrEncoding},
		{"short word", "a20101094164", policy.ErrEncoding},
		{"short selector", "a20101078143a9059c", policy.ErrEncoding},
		{"selector as a list", "a2010107818401020304", policy.ErrEncoding},
		{"number for true", "a201010401", policy.ErrEncoding},
		{"unknown operation", "a201010281647369676e", policy.ErrInvalid},
		{"cut off", hex.EncodeToString(good[:len(good)-1]), policy.ErrEncoding},
		{"too long", strings.Repeat("00", policy.MaxEncoded+1), policy.ErrEncoding},
	} {
		encoded, err := hex.DecodeString(c.encoded)
		if err != nil {
			t.Fatal(err)
		}
		p, err := policy.Decode(encoded)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if p.Decide(transfer()).Allowed() {
			t.Errorf("%s: the policy returned with the error allows", c.name)
		}
	}
}

// TestLargestPolicy shows that every valid policy can be read back.
func TestLargestPolicy(t *testing.T) {
	p := policy.Policy{
		Operations: []policy.Operation{
			policy.Transaction, policy.Message, policy.TypedData, policy.Authorization, policy.UserOperation,
		},
		MaxValue: new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 256), big.NewInt(1)),
		MaxCost:  big.NewInt(1),
	}
	for i := range policy.MaxRecipients {
		p.Recipients = append(p.Recipients, fmt.Sprintf("%0128d", i))
		p.Selectors = append(p.Selectors, [4]byte{byte(i), 1})
	}
	for i := range policy.MaxChains {
		p.Chains = append(p.Chains, fmt.Sprintf("abcdefgh:%032d", i))
	}
	encoded, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := policy.Decode(encoded); err != nil {
		t.Errorf("%d bytes: %v", len(encoded), err)
	}
}

// FuzzDecode: what is read is encoded to the same bytes, and is valid.
func FuzzDecode(f *testing.F) {
	for _, p := range []policy.Policy{{}, policy.Default(), strict(), wide()} {
		encoded, err := p.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(encoded)
	}
	f.Fuzz(func(t *testing.T, encoded []byte) {
		p, err := policy.Decode(encoded)
		if err != nil {
			return
		}
		if p.Validate() != nil {
			t.Error("an invalid policy was read")
		}
		again, err := p.Encode()
		if err != nil || !bytes.Equal(again, encoded) {
			t.Errorf("%x became %x (%v)", encoded, again, err)
		}
		for _, facts := range everything() {
			d := p.Decide(facts)
			if d.Allowed() && !slices.Contains(p.Operations, facts.Operation) {
				t.Errorf("%s was allowed", facts.Operation)
			}
		}
	})
}
