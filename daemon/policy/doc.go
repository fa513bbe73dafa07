// Package policy decides whether a wallet may sign, from facts about what is to
// be signed and nothing else: no clock, no counter, no network, no state.
//
// A [Policy] lists what is allowed. Its zero value allows nothing, and every
// "any" is a field of its own that somebody has to set. A [Decision] has three
// verdicts: ALLOW; DENY, when the policy does not allow it; and UNKNOWN, when
// it could not be decided because the facts or the policy are not sound. Only
// ALLOW allows, and the zero Decision is UNKNOWN.
//
// A policy is stored with its wallet in deterministic CBOR: see [Policy.Encode].
//
// All functions are safe for concurrent use.
package policy
