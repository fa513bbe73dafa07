package policy_test

import (
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/sigild/sigild/daemon/policy"
)

const (
	alice = "0x00000000000000000000000000000000000a11ce"
	token = "0x00000000000000000000000000000000000c0135"
	payer = "0x0000000000000000000000000000000000fa9e60"
)

func transfer() policy.Facts {
	return policy.Facts{
		Operation: policy.Transaction, Chain: "eip155:1", Recipient: alice,
		Value: big.NewInt(100), MaxCost: big.NewInt(121),
	}
}

func call() policy.Facts {
	f := transfer()
	f.Sender, f.Recipient, f.Value, f.MaxCost = payer, token, new(big.Int), big.NewInt(21)
	f.Selector, f.DataLength = []byte{0xa9, 0x05, 0x9c, 0xbb}, 68
	return f
}

func creation() policy.Facts {
	f := transfer()
	f.Recipient, f.ContractCreation, f.DataLength = "", true, 5000
	return f
}

func message() policy.Facts { return policy.Facts{Operation: policy.Message, AllChains: true} }

func typedData() policy.Facts {
	return policy.Facts{Operation: policy.TypedData, Chain: "eip155:1", Recipient: token}
}

func authorization() policy.Facts {
	return policy.Facts{Operation: policy.Authorization, Chain: "eip155:1", Recipient: token}
}

func userOperation() policy.Facts {
	return policy.Facts{
		Operation: policy.UserOperation, Chain: "eip155:1", Recipient: token, MaxCost: big.NewInt(21),
		Selector: []byte{0xb6, 0x1d, 0x27, 0xf6}, DataLength: 100,
	}
}

func validatorData() policy.Facts {
	return policy.Facts{Operation: policy.ValidatorData, AllChains: true, Recipient: token, DataLength: 100}
}

func cliqueHeader() policy.Facts {
	return policy.Facts{Operation: policy.CliqueHeader, AllChains: true, DataLength: 500}
}

func rawDigest() policy.Facts { return policy.Facts{Operation: policy.RawDigest} }

func everything() []policy.Facts {
	return []policy.Facts{transfer(), call(), creation(), message(), typedData(), authorization(), userOperation(), rawDigest(),
		validatorData(), cliqueHeader()}
}

// strict allows transfers of 100 to alice on one chain, and one call of token.
func strict() policy.Policy {
	return policy.Policy{
		Operations: []policy.Operation{policy.Transaction},
		Chains:     []string{"eip155:1"},
		Recipients: []string{alice, token},
		Selectors:  [][4]byte{{0xa9, 0x05, 0x9c, 0xbb}},
		MaxValue:   big.NewInt(100),
		MaxCost:    big.NewInt(121),
	}
}

// wide allows everything that can be told apart from a raw digest.
func wide() policy.Policy {
	p := policy.Default()
	p.Operations = append(p.Operations, policy.Authorization, policy.UserOperation, policy.ValidatorData, policy.CliqueHeader)
	p.ContractCreation = true
	return p
}

func with[T any](v T, change func(*T)) T {
	change(&v)
	return v
}

// TestZeroValuesAllowNothing holds the promise that the zero value of every
// decision is no.
func TestZeroValuesAllowNothing(t *testing.T) {
	var decision policy.Decision
	if decision.Allowed() || decision.Verdict != policy.Unknown || decision.String() != "UNKNOWN: no decision" {
		t.Errorf("zero decision: %s", decision)
	}
	var zero policy.Policy
	for _, facts := range everything() {
		if got := zero.Decide(facts); got.Verdict != policy.Deny || got.Rule != policy.RuleOperation {
			t.Errorf("the zero policy says %s to %s", got, facts.Operation)
		}
		// Also with only the operation named, no other right is implied.
		named := policy.Policy{Operations: []policy.Operation{facts.Operation}}
		allowed := facts.Operation == policy.Message || facts.Operation == policy.CliqueHeader
		if got := named.Decide(facts); got.Allowed() != allowed {
			t.Errorf("a policy with nothing but %s says %s", facts.Operation, got)
		}
	}
	if got := wide().Decide(policy.Facts{}); got.Verdict != policy.Unknown || got.Rule != policy.RuleFacts {
		t.Errorf("zero facts: %s", got)
	}
	for _, verdict := range []policy.Verdict{0, policy.Deny, 3, 255} {
		if d := (policy.Decision{Verdict: verdict}); d.Allowed() {
			t.Errorf("verdict %d allows", verdict)
		}
	}
}

func TestDefault(t *testing.T) {
	p := policy.Default()
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		facts policy.Facts
		want  policy.Verdict
		rule  policy.Rule
	}{
		{transfer(), policy.Allow, ""},
		{call(), policy.Allow, ""},
		{message(), policy.Allow, ""},
		{typedData(), policy.Allow, ""},
		{creation(), policy.Deny, policy.RuleContractCreation},
		{authorization(), policy.Deny, policy.RuleOperation},
		{userOperation(), policy.Deny, policy.RuleOperation},
		{rawDigest(), policy.Deny, policy.RuleOperation},
		{validatorData(), policy.Deny, policy.RuleOperation},
		{cliqueHeader(), policy.Deny, policy.RuleOperation},
	} {
		if got := p.Decide(c.facts); got.Verdict != c.want || got.Rule != c.rule {
			t.Errorf("%s: %s by %q", c.facts.Operation, got, got.Rule)
		}
	}
}

func TestDecide(t *testing.T) {
	type facts = policy.Facts
	type rules = policy.Policy
	forValidator := policy.Policy{Operations: []policy.Operation{policy.ValidatorData}, AnyChain: true, Recipients: []string{token}}
	for _, c := range []struct {
		name   string
		policy policy.Policy
		facts  policy.Facts
		want   policy.Verdict
		rule   policy.Rule
	}{
		{"transfer", strict(), transfer(), policy.Allow, ""},
		{"call", strict(), call(), policy.Allow, ""},
		{"recipient in upper case", strict(), with(transfer(), func(f *facts) { f.Recipient = "0X" + strings.ToUpper(alice[2:]) }), policy.Allow, ""},
		{"other operation", strict(), typedData(), policy.Deny, policy.RuleOperation},
		{"other chain", strict(), with(transfer(), func(f *facts) { f.Chain = "eip155:10" }), policy.Deny, policy.RuleChain},
		{"chain by prefix", strict(), with(transfer(), func(f *facts) { f.Chain = "eip155:11" }), policy.Deny, policy.RuleChain},
		{"other recipient", strict(), with(transfer(), func(f *facts) { f.Recipient = token[:41] + "6" }), policy.Deny, policy.RuleRecipient},
		{"other selector", strict(), with(call(), func(f *facts) { f.Selector = []byte{0x09, 0x5e, 0xa7, 0xb3} }), policy.Deny, policy.RuleSelector},
		{"data without selector", strict(), with(transfer(), func(f *facts) { f.DataLength = 3 }), policy.Deny, policy.RuleSelector},
		{"one wei more", strict(), with(transfer(), func(f *facts) { f.Value = big.NewInt(101) }), policy.Deny, policy.RuleValue},
		{"one wei dearer", strict(), with(transfer(), func(f *facts) { f.MaxCost = big.NewInt(122) }), policy.Deny, policy.RuleCost},
		{"no value allowed", with(strict(), func(p *rules) { p.MaxValue = nil }), transfer(), policy.Deny, policy.RuleValue},
		{"no value, none moved", with(strict(), func(p *rules) { p.MaxValue = nil }), call(), policy.Allow, ""},
		{"no cost allowed", with(strict(), func(p *rules) { p.MaxCost = nil }), call(), policy.Deny, policy.RuleCost},
		{"creation refused", strict(), creation(), policy.Deny, policy.RuleContractCreation},
		{"creation", with(strict(), func(p *rules) { p.ContractCreation = true }), creation(), policy.Allow, ""},
		{"creation with value", with(strict(), func(p *rules) { p.ContractCreation, p.MaxValue = true, nil }), creation(), policy.Deny, policy.RuleValue},
		{"all chains with any", wide(), with(typedData(), func(f *facts) { f.Chain, f.AllChains = "", true }), policy.Allow, ""},
		{"no recipient with any", wide(), with(typedData(), func(f *facts) { f.Recipient = "" }), policy.Allow, ""},
		{"authorization", wide(), authorization(), policy.Allow, ""},
		{"user operation", wide(), userOperation(), policy.Allow, ""},
		{"data for a validator", forValidator, validatorData(), policy.Allow, ""},
		{"another validator", forValidator, with(validatorData(), func(f *facts) { f.Recipient = alice }), policy.Deny, policy.RuleRecipient},
		{"a header, which limits do not concern", with(strict(), func(p *rules) { p.Operations = []policy.Operation{policy.CliqueHeader} }), cliqueHeader(), policy.Allow, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := c.policy.Decide(c.facts)
			if got.Verdict != c.want || got.Rule != c.rule {
				t.Errorf("%s by %q, want %s by %q", got, got.Rule, c.want, c.rule)
			}
		})
	}
}

// TestLimitsHoldForOtherOperations names a limit that another operation would
// escape, and shows that it does not.
func TestLimitsHoldForOtherOperations(t *testing.T) {
	p := with(strict(), func(p *policy.Policy) {
		p.Operations = []policy.Operation{policy.TypedData, policy.Authorization, policy.UserOperation, policy.ValidatorData}
	})
	everywhere := func(f policy.Facts) policy.Facts { f.Chain, f.AllChains = "", true; return f }
	for _, c := range []struct {
		facts policy.Facts
		rule  policy.Rule
	}{
		{everywhere(typedData()), policy.RuleChain},
		{everywhere(authorization()), policy.RuleChain},
		{with(typedData(), func(f *policy.Facts) { f.Recipient = "" }), policy.RuleRecipient},
		{with(authorization(), func(f *policy.Facts) { f.Recipient = "0x0000000000000000000000000000000000000000" }), policy.RuleRecipient},
		{validatorData(), policy.RuleChain},
		{userOperation(), policy.RuleSelector},
		{with(userOperation(), func(f *policy.Facts) { f.Selector = []byte{0xa9, 0x05, 0x9c, 0xbb} }), policy.RuleValue},
	} {
		if got := p.Decide(c.facts); got.Verdict != policy.Deny || got.Rule != c.rule {
			t.Errorf("%s: %s by %q, want %q", c.facts.Operation, got, got.Rule, c.rule)
		}
	}
}

// TestCallsOfTheSender: what the account's own code moves, if it delegates to any
// (EIP-7702), is not the value that the transaction carries.
func TestCallsOfTheSender(t *testing.T) {
	type facts = policy.Facts
	bounded := with(wide(), func(p *policy.Policy) { p.AnyValue = false })
	own := func(f facts) facts { f.Sender, f.Recipient = payer, payer; return f }
	for _, c := range []struct {
		name  string
		facts facts
		value string // the rule that denies under a bounded value
	}{
		{"own code", own(call()), "value"},
		{"own code, spelled otherwise", with(own(call()), func(f *facts) { f.Recipient = "0X" + strings.ToUpper(payer[2:]) }), "value"},
		{"own code without a selector", with(own(call()), func(f *facts) { f.Selector, f.DataLength = nil, 1 }), "value"},
		{"a sender that nobody said", with(call(), func(f *facts) { f.Sender = "" }), "value"},
		{"nothing to itself", with(own(call()), func(f *facts) { f.Selector, f.DataLength = nil, 0 }), ""},
		{"code that comes with it", with(own(call()), func(f *facts) { f.Selector, f.DataLength, f.Delegates = nil, 0, true }), "value"},
		{"another account's code", call(), ""},
		{"a creation", with(creation(), func(f *facts) { f.Sender, f.Value = payer, new(big.Int) }), ""},
		{"a transfer of a sender that nobody said", with(transfer(), func(f *facts) { f.Value = new(big.Int) }), ""},
	} {
		if got := bounded.Decide(c.facts); string(got.Rule) != c.value || got.Allowed() != (c.value == "") {
			t.Errorf("%s: %s by %q", c.name, got, got.Rule)
		}
		if (c.facts.Moved() == nil) != (c.value != "") {
			t.Errorf("%s: moves %v", c.name, c.facts.Moved())
		}
		if got := wide().Decide(c.facts); !got.Allowed() {
			t.Errorf("%s, with any value: %s", c.name, got)
		}
	}
}

// TestUnsoundFacts gives facts that contradict themselves or lack something to
// a policy that allows nearly everything.
func TestUnsoundFacts(t *testing.T) {
	type facts = policy.Facts
	for name, f := range map[string]policy.Facts{
		"no operation":             {},
		"unknown operation":        {Operation: "sign"},
		"no chain":                 with(transfer(), func(f *facts) { f.Chain = "" }),
		"one chain and all":        with(transfer(), func(f *facts) { f.AllChains = true }),
		"no recipient":             with(transfer(), func(f *facts) { f.Recipient = "" }),
		"recipient and creation":   with(transfer(), func(f *facts) { f.ContractCreation = true }),
		"no value":                 with(transfer(), func(f *facts) { f.Value = nil }),
		"no cost":                  with(transfer(), func(f *facts) { f.MaxCost = nil }),
		"negative value":           with(transfer(), func(f *facts) { f.Value = big.NewInt(-1) }),
		"negative cost":            with(userOperation(), func(f *facts) { f.MaxCost = big.NewInt(-1) }),
		"cost below value":         with(transfer(), func(f *facts) { f.MaxCost = big.NewInt(99) }),
		"data without selector":    with(call(), func(f *facts) { f.Selector = nil }),
		"selector without data":    with(call(), func(f *facts) { f.DataLength = 0 }),
		"selector of 3 bytes":      with(call(), func(f *facts) { f.Selector = f.Selector[:3] }),
		"negative length":          with(transfer(), func(f *facts) { f.DataLength = -1 }),
		"operation without a call": with(userOperation(), func(f *facts) { f.Selector = nil }),
	} {
		if got := wide().Decide(f); got.Verdict != policy.Unknown || got.Rule != policy.RuleFacts {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestValidate(t *testing.T) {
	type rules = policy.Policy
	long := make([]string, policy.MaxChains+1)
	for i := range long {
		long[i] = "eip155:" + strings.Repeat("1", i/2+1)
	}
	for name, change := range map[string]func(*rules){
		"unknown operation":      func(p *rules) { p.Operations = []policy.Operation{"sign"} },
		"operation twice":        func(p *rules) { p.Operations = []policy.Operation{policy.Message, policy.Message} },
		"chains and any":         func(p *rules) { p.AnyChain = true },
		"chain twice":            func(p *rules) { p.Chains = []string{"eip155:1", "eip155:1"} },
		"chain without name":     func(p *rules) { p.Chains = []string{"1"} },
		"chain name too short":   func(p *rules) { p.Chains = []string{"ab:1"} },
		"chain in upper case":    func(p *rules) { p.Chains = []string{"EIP155:1"} },
		"chain with a blank":     func(p *rules) { p.Chains = []string{"eip155:1 1"} },
		"chain too long":         func(p *rules) { p.Chains = []string{"eip155:" + strings.Repeat("1", 33)} },
		"too many chains":        func(p *rules) { p.Chains = long },
		"recipients and any":     func(p *rules) { p.AnyRecipient = true },
		"recipient in mixed":     func(p *rules) { p.Recipients = []string{"0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826"} },
		"recipient too short":    func(p *rules) { p.Recipients = []string{"0x00"} },
		"recipient empty":        func(p *rules) { p.Recipients = []string{""} },
		"recipient with control": func(p *rules) { p.Recipients = []string{"a\n"} },
		"recipient too long":     func(p *rules) { p.Recipients = []string{strings.Repeat("a", 129)} },
		"selectors and any":      func(p *rules) { p.AnySelector = true },
		"selector twice":         func(p *rules) { p.Selectors = make([][4]byte, 2) },
		"value and any":          func(p *rules) { p.AnyValue = true },
		"negative value":         func(p *rules) { p.MaxValue = big.NewInt(-1) },
		"cost and any":           func(p *rules) { p.AnyCost = true },
		"cost too large":         func(p *rules) { p.MaxCost = new(big.Int).Lsh(big.NewInt(1), 256) },
		"raw digests and limits": func(p *rules) { p.Operations = append(p.Operations, policy.RawDigest) },
	} {
		p := with(strict(), change)
		if err := p.Validate(); !errors.Is(err, policy.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := p.Encode(); !errors.Is(err, policy.ErrInvalid) {
			t.Errorf("%s is encoded: %v", name, err)
		}
		if got := p.Decide(transfer()); got.Verdict != policy.Unknown || got.Rule != policy.RulePolicy {
			t.Errorf("%s: %s by %q", name, got, got.Rule)
		}
	}
	p := wide()
	p.Operations = append(p.Operations, policy.RawDigest)
	if err := p.Validate(); err != nil || !p.Decide(rawDigest()).Allowed() {
		t.Errorf("raw digests without limits: %v", err)
	}
	other := with(strict(), func(p *rules) { p.Recipients = []string{"9xQeWvG816bUx9EPjHmaT23yvVM2ZWbrrpZb9PusVFin"} })
	if err := other.Validate(); err != nil {
		t.Errorf("another chain's address: %v", err)
	}
}

func BenchmarkDecide(b *testing.B) {
	p, facts := strict(), call()
	b.ReportAllocs()
	for b.Loop() {
		if !p.Decide(facts).Allowed() {
			b.Fatal("denied")
		}
	}
}
