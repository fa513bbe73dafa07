package policy

import (
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"
	"strings"
)

// Validate returns an error that wraps ErrInvalid and says what is wrong, if
// the policy contradicts itself or holds an entry that nothing can match. An
// invalid policy allows nothing. Lists may be in any order, without repeats.
func (p Policy) Validate() error {
	for _, check := range []func() error{
		p.checkOperations, p.checkChains, p.checkRecipients, p.checkSelectors, p.checkAmounts, p.checkRawDigest,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (p Policy) checkOperations() error {
	for _, operation := range p.Operations {
		if !operation.known() {
			return invalid("operations has an unknown entry")
		}
	}
	return checkList("operations", p.Operations, false, len(p.Operations))
}

func (p Policy) checkChains() error {
	for _, chain := range p.Chains {
		if !isCAIP2(chain) {
			return invalid("chains has an entry that is no CAIP-2 chain such as eip155:1")
		}
	}
	return checkList("chains", p.Chains, p.AnyChain, MaxChains)
}

func (p Policy) checkRecipients() error {
	for _, recipient := range p.Recipients {
		if !isRecipient(recipient) {
			return invalid("recipients has an entry that is no address: hexadecimal ones are 0x and 40 digits in lower case")
		}
	}
	return checkList("recipients", p.Recipients, p.AnyRecipient, MaxRecipients)
}

func (p Policy) checkSelectors() error {
	return checkList("selectors", p.Selectors, p.AnySelector, MaxSelectors)
}

// checkList checks what all lists have in common.
func checkList[T comparable](name string, list []T, anyAllowed bool, limit int) error {
	if anyAllowed && len(list) > 0 {
		return invalid(name + " lists entries and allows any")
	}
	if len(list) > limit {
		return invalid(fmt.Sprintf("%s has more than %d entries", name, limit))
	}
	seen := make(map[T]struct{}, len(list))
	for _, entry := range list {
		if _, twice := seen[entry]; twice {
			return invalid(name + " has an entry twice")
		}
		seen[entry] = struct{}{}
	}
	return nil
}

func (p Policy) checkAmounts() error {
	if err := checkAmount("value", p.MaxValue, p.AnyValue); err != nil {
		return err
	}
	return checkAmount("cost", p.MaxCost, p.AnyCost)
}

func checkAmount(name string, limit *big.Int, anyAllowed bool) error {
	switch {
	case limit == nil:
		return nil
	case anyAllowed:
		return invalid("the " + name + " has a limit and allows any")
	case limit.Sign() < 0 || limit.BitLen() > 256:
		return invalid("the " + name + "'s limit is not between 0 and 2^256-1")
	default:
		return nil
	}
}

// checkRawDigest refuses limits beside raw digests. A digest can be that of a
// transaction, of typed data or of an authorization, so that every limit would
// be an empty promise.
func (p Policy) checkRawDigest() error {
	unlimited := p.AnyChain && p.AnyRecipient && p.AnySelector && p.AnyValue && p.AnyCost
	if slices.Contains(p.Operations, RawDigest) && !unlimited {
		return invalid("rawDigest escapes every limit: allow any chain, recipient, selector, value and cost with it, or remove it")
	}
	return nil
}

func invalid(reason string) error { return fmt.Errorf("%w: %s", ErrInvalid, reason) }

// isCAIP2 reports whether chain is a CAIP-2 chain id: a namespace of 3 to 8
// characters, a colon, and a reference of 1 to 32.
func isCAIP2(chain string) bool {
	namespace, reference, found := strings.Cut(chain, ":")
	return found && consistsOf(namespace, 3, 8, "-0123456789abcdefghijklmnopqrstuvwxyz") &&
		consistsOf(reference, 1, 32, "-_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
}

func consistsOf(s string, shortest, longest int, alphabet string) bool {
	return len(s) >= shortest && len(s) <= longest && strings.Trim(s, alphabet) == ""
}

// isRecipient accepts an Ethereum address in lower case, or the printable ASCII
// address of another kind of chain.
func isRecipient(recipient string) bool {
	if recipient == "" || len(recipient) > maxRecipientLength || canonicalRecipient(recipient) != recipient {
		return false
	}
	if len(recipient) > 1 && recipient[:2] == "0x" {
		digits, err := hex.DecodeString(recipient[2:])
		return err == nil && len(digits) == 20
	}
	return !slices.ContainsFunc([]byte(recipient), func(c byte) bool { return c <= ' ' || c > '~' })
}
