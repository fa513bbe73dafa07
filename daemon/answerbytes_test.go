package daemon

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/sigild/sigild/daemon/policy"
	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/wallet"
)

// longest is a policy with all its lists full.
func longest(recipient string) policy.Policy {
	most := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 256), big.NewInt(1))
	p := policy.Policy{Operations: []policy.Operation{policy.Message, policy.Transaction, policy.TypedData},
		MaxValue: most, MaxCost: most, ContractCreation: true}
	for n := range policy.MaxRecipients {
		p.Recipients = append(p.Recipients, fmt.Sprintf("%03d%s", n, recipient))
		p.Selectors = append(p.Selectors, [4]byte{'a', 'a', 'a', byte(n)})
	}
	for n := range policy.MaxChains {
		p.Chains = append(p.Chains, fmt.Sprint("eip155:", n+1))
	}
	return p
}

// sample is a wallet with n accounts, all whose texts are long or are not there.
func sample(t *testing.T, n int, rules policy.Policy, text string) *wallet.Info {
	t.Helper()
	encoded, err := rules.Encode()
	if err != nil {
		t.Fatal(err)
	}
	key, err := crypto.ToECDSA(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	h := &seal.Header{Created: 1 << 32, Owner: text, Policy: encoded, Exportable: true}
	s := &seal.State{Label: text, ExternalID: text, FrozenBy: "freezeAll", Frozen: 1 << 32, Deleted: 1 << 32, PINSet: 1 << 32}
	for range 3 {
		h.Sources = append(h.Sources, seal.Source{Name: "kms", Count: math.MaxUint32, RequestID: text, Region: text,
			Manufacturer: text, Model: text, Version: text, Time: 1 << 32})
		h.Dropped, s.Tags = append(h.Dropped, text), append(s.Tags, text)
	}
	for n := range n {
		h.Accounts = append(h.Accounts, seal.Account{Index: uint32(n), Curve: seal.Secp256k1,
			Public: crypto.CompressPubkey(&key.PublicKey), Address: make([]byte, 20), Custody: seal.CustodySoftwareToken})
		s.AccountLabels, s.Exported = append(s.AccountLabels, text), append(s.Exported, 1<<32)
	}
	return &wallet.Info{Header: h, State: s, Attempts: wallet.Attempts{Left: math.MaxUint32}}
}

// The bound of a page holds for what is sent: no wallet takes more of an answer than
// it was counted for. It also does not take a small part of that only, or pages
// would be far shorter than they may be.
func TestAnswerBytesAreEnough(t *testing.T) {
	for name, i := range map[string]*wallet.Info{
		"small":        sample(t, 1, policy.Default(), ""),
		"accounts":     sample(t, wallet.MaxAccounts, policy.Default(), ""),
		"labels":       sample(t, wallet.MaxAccounts, policy.Default(), strings.Repeat("x", 256)),
		"escapes":      sample(t, wallet.MaxAccounts, policy.Default(), strings.Repeat("<", 256)),
		"separators":   sample(t, wallet.MaxAccounts, policy.Default(), strings.Repeat("\u2028", 85)),
		"recipients":   sample(t, 1, longest(strings.Repeat("r", 125)), "a"),
		"escaped ones": sample(t, 1, longest(strings.Repeat("&", 125)), "a"),
		"short ones":   sample(t, 1, longest(""), "a"),
	} {
		shown, err := walletInfo(i)
		if err != nil {
			t.Fatal(err)
		}
		relay := uint32(math.MaxUint32)
		shown.Relay = &relay
		text, err := json.Marshal(shown)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d bytes, counted %d", name, len(text), i.AnswerBytes())
		if n := i.AnswerBytes(); n < len(text) || n > 2*len(text) {
			t.Errorf("%s: %d bytes, counted for %d", name, len(text), n)
		}
	}
}
