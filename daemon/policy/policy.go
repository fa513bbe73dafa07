package policy

import (
	"errors"
	"math/big"
	"slices"
)

// Policy is what a wallet may sign. The zero value allows nothing. For each
// rule there is a list or a limit, and an Any field that lifts it; having both
// is an error.
type Policy struct {
	// Operations that are allowed.
	Operations []Operation
	// Chains that are allowed, in CAIP-2 form. A signature that is valid on
	// every chain needs AnyChain.
	Chains   []string
	AnyChain bool
	// Recipients that are allowed: see Facts.Recipient. Hexadecimal ones are in
	// lower case.
	Recipients   []string
	AnyRecipient bool
	// Selectors are the functions that may be called, as the first 4 bytes of
	// the call data. Plain transfers, which have no data, need none.
	Selectors   [][4]byte
	AnySelector bool
	// MaxValue is the most that one transaction may move, as far as Facts.Moved
	// knows, and MaxCost the most
	// that it may cost with all fees, both in the chain's smallest unit (wei);
	// nil is 0. On several chains with different coins the same number applies.
	MaxValue *big.Int
	AnyValue bool
	MaxCost  *big.Int
	AnyCost  bool
	// ContractCreation allows transactions that create a contract.
	ContractCreation bool
}

// The longest lists that a policy may hold, and the longest recipient in bytes.
const (
	MaxChains     = 64
	MaxRecipients = 256
	MaxSelectors  = 256

	maxRecipientLength = 128
)

// ErrInvalid is returned when a policy contradicts itself or holds an entry
// that no facts can match.
var ErrInvalid = errors.New("policy: not valid")

// Default returns the policy of a wallet for which nobody chose one: it signs
// transactions, messages and typed data for any chain and recipient, without
// limits. Raw digests and authorizations, each of which can give the whole
// account away, user operations, contract creation, data for validators and
// headers of sealed blocks are off.
func Default() Policy {
	return Policy{
		Operations:   []Operation{Message, Transaction, TypedData},
		AnyChain:     true,
		AnyRecipient: true,
		AnySelector:  true,
		AnyValue:     true,
		AnyCost:      true,
	}
}

// Decide returns whether the policy allows to sign what the facts describe.
func (p Policy) Decide(f Facts) Decision {
	if reason := f.unsound(); reason != "" {
		return undecided(RuleFacts, reason)
	}
	if p.Validate() != nil {
		return undecided(RulePolicy, "the policy itself is not valid")
	}
	if !slices.Contains(p.Operations, f.Operation) {
		return denied(RuleOperation, "the policy does not allow "+string(f.Operation)+" to be signed")
	}
	for _, rule := range p.rules(f.Operation) {
		if decision := rule(f); !decision.Allowed() {
			return decision
		}
	}
	return Decision{Verdict: Allow}
}

// rules returns the rules that apply to an operation besides its own name.
func (p Policy) rules(operation Operation) []func(Facts) Decision {
	switch operation {
	case Transaction:
		return []func(Facts) Decision{p.chain, p.creation, p.recipient, p.selector, p.value, p.cost}
	case UserOperation:
		return []func(Facts) Decision{p.chain, p.recipient, p.selector, p.value, p.cost}
	case TypedData, Authorization, ValidatorData:
		return []func(Facts) Decision{p.chain, p.recipient}
	default:
		return nil
	}
}

func (p Policy) chain(f Facts) Decision {
	switch {
	case p.AnyChain:
		return Decision{Verdict: Allow}
	case f.AllChains:
		return denied(RuleChain, "the signature would be valid on every chain, and the policy names the allowed ones")
	case !slices.Contains(p.Chains, f.Chain):
		return denied(RuleChain, "the policy does not allow this chain")
	default:
		return Decision{Verdict: Allow}
	}
}

func (p Policy) creation(f Facts) Decision {
	if f.ContractCreation && !p.ContractCreation {
		return denied(RuleContractCreation, "the policy does not allow to create a contract")
	}
	return Decision{Verdict: Allow}
}

func (p Policy) recipient(f Facts) Decision {
	switch {
	case p.AnyRecipient, f.ContractCreation:
		return Decision{Verdict: Allow}
	case f.Recipient == "":
		return denied(RuleRecipient, "it names no recipient, and the policy names the allowed ones")
	case !slices.Contains(p.Recipients, f.recipient()):
		return denied(RuleRecipient, "the policy does not allow this recipient")
	default:
		return Decision{Verdict: Allow}
	}
}

func (p Policy) selector(f Facts) Decision {
	switch {
	case p.AnySelector, f.ContractCreation, f.DataLength == 0:
		return Decision{Verdict: Allow}
	case len(f.Selector) != 4 || !slices.Contains(p.Selectors, [4]byte(f.Selector)):
		return denied(RuleSelector, "the policy does not allow this call")
	default:
		return Decision{Verdict: Allow}
	}
}

func (p Policy) value(f Facts) Decision {
	if p.AnyValue {
		return Decision{Verdict: Allow}
	}
	return within(f.Moved(), p.MaxValue, RuleValue, "value")
}

func (p Policy) cost(f Facts) Decision {
	if p.AnyCost {
		return Decision{Verdict: Allow}
	}
	return within(f.MaxCost, p.MaxCost, RuleCost, "cost")
}

// within compares an amount with a limit. A nil limit is 0.
func within(amount, limit *big.Int, rule Rule, name string) Decision {
	if amount == nil {
		return denied(rule, "its "+name+" cannot be known, and the policy limits it")
	}
	if limit == nil {
		limit = new(big.Int)
	}
	if amount.Cmp(limit) > 0 {
		return denied(rule, "its "+name+" is above the policy's limit")
	}
	return Decision{Verdict: Allow}
}
