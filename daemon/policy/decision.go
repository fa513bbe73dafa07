package policy

// Verdict is the kind of a decision's answer.
type Verdict uint8

const (
	// Unknown means that nothing was decided: the facts or the policy are not
	// sound. It is the zero value, and does not allow.
	Unknown Verdict = iota
	// Deny means that the policy does not allow it.
	Deny
	// Allow means that the policy allows it.
	Allow
)

// String returns "UNKNOWN", "DENY" or "ALLOW".
func (v Verdict) String() string {
	switch v {
	case Allow:
		return "ALLOW"
	case Deny:
		return "DENY"
	default:
		return "UNKNOWN"
	}
}

// Rule names the part of a policy that a decision comes from. The names are
// part of the wire and never change.
type Rule string

// The rules, in the order in which they are asked.
const (
	RuleFacts            Rule = "facts"
	RulePolicy           Rule = "policy"
	RuleOperation        Rule = "operation"
	RuleChain            Rule = "chain"
	RuleContractCreation Rule = "contractCreation"
	RuleRecipient        Rule = "recipient"
	RuleSelector         Rule = "selector"
	RuleValue            Rule = "value"
	RuleCost             Rule = "cost"
)

// Decision is a policy's answer. The zero value is UNKNOWN, "no decision".
type Decision struct {
	Verdict Verdict
	// Rule is the rule that decided; empty if all of them allowed.
	Rule Rule
	// Reason says why not, in words for the caller. It holds nothing of the
	// policy's lists.
	Reason string
}

// Allowed reports whether the verdict is ALLOW.
func (d Decision) Allowed() bool { return d.Verdict == Allow }

// String returns the verdict and the reason.
func (d Decision) String() string {
	reason := d.Reason
	if reason == "" && d.Verdict == Unknown {
		reason = "no decision"
	}
	if reason == "" {
		return d.Verdict.String()
	}
	return d.Verdict.String() + ": " + reason
}

func denied(rule Rule, reason string) Decision {
	return Decision{Verdict: Deny, Rule: rule, Reason: reason}
}

func undecided(rule Rule, reason string) Decision {
	return Decision{Verdict: Unknown, Rule: rule, Reason: reason}
}
