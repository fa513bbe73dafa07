package policy

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/fxamacker/cbor/v2"
)

// formatVersion is the value of key 1. A change of meaning gets a new one.
const formatVersion = 1

// MaxEncoded is the most bytes that Decode accepts; every valid policy fits.
const MaxEncoded = 64 << 10

var (
	// ErrEncoding is returned when bytes are not the one encoding of a valid
	// policy: an unknown key, a key twice, an entry out of order, a longer form
	// than needed, or anything behind it.
	ErrEncoding = errors.New("policy: not the canonical encoding of a policy")

	// ErrVersion is returned when a policy was written in a format that this
	// version does not know: use the version that wrote it, or a newer one.
	ErrVersion = errors.New("policy: unknown format version")
)

// stored is the CBOR map of a policy. Lists are sorted by their bytes; what is
// empty or false is left out; amounts are 32 bytes, big-endian.
type stored struct {
	Version          uint64      `cbor:"1,keyasint"`
	Operations       []Operation `cbor:"2,keyasint,omitempty"`
	Chains           []string    `cbor:"3,keyasint,omitempty"`
	AnyChain         bool        `cbor:"4,keyasint,omitempty"`
	Recipients       []string    `cbor:"5,keyasint,omitempty"`
	AnyRecipient     bool        `cbor:"6,keyasint,omitempty"`
	Selectors        [][4]byte   `cbor:"7,keyasint,omitempty"`
	AnySelector      bool        `cbor:"8,keyasint,omitempty"`
	MaxValue         *[32]byte   `cbor:"9,keyasint,omitempty"`
	AnyValue         bool        `cbor:"10,keyasint,omitempty"`
	MaxCost          *[32]byte   `cbor:"11,keyasint,omitempty"`
	AnyCost          bool        `cbor:"12,keyasint,omitempty"`
	ContractCreation bool        `cbor:"13,keyasint,omitempty"`
}

// Encode returns the one encoding of the policy, or an error that wraps
// ErrInvalid. It is CBOR in the core deterministic encoding (RFC 8949, section
// 4.2.1): a map with the integer keys
//
//	 1  format version, 1
//	 2  operations: array of text, sorted
//	 3  chains: array of text, sorted         4  any chain: true
//	 5  recipients: array of text, sorted     6  any recipient: true
//	 7  selectors: array of 4 bytes, sorted   8  any selector: true
//	 9  largest value: 32 bytes, big-endian  10  any value: true
//	11  largest cost: 32 bytes, big-endian   12  any cost: true
//	13  contract creation: true
//
// of which those that are empty, nil or false are left out. Sorting is by the
// entries' bytes.
func (p Policy) Encode() ([]byte, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return nil, fmt.Errorf("policy: %v", err)
	}
	return mode.Marshal(p.stored())
}

func (p Policy) stored() stored {
	return stored{
		Version:          formatVersion,
		Operations:       sorted(p.Operations),
		Chains:           sorted(p.Chains),
		AnyChain:         p.AnyChain,
		Recipients:       sorted(p.Recipients),
		AnyRecipient:     p.AnyRecipient,
		Selectors:        sortedSelectors(p.Selectors),
		AnySelector:      p.AnySelector,
		MaxValue:         storedAmount(p.MaxValue),
		AnyValue:         p.AnyValue,
		MaxCost:          storedAmount(p.MaxCost),
		AnyCost:          p.AnyCost,
		ContractCreation: p.ContractCreation,
	}
}

func sorted[T cmp.Ordered](list []T) []T {
	clone := slices.Clone(list)
	slices.Sort(clone)
	return clone
}

func sortedSelectors(list [][4]byte) [][4]byte {
	clone := slices.Clone(list)
	slices.SortFunc(clone, func(a, b [4]byte) int { return bytes.Compare(a[:], b[:]) })
	return clone
}

func storedAmount(amount *big.Int) *[32]byte {
	if amount == nil {
		return nil
	}
	var word [32]byte
	amount.FillBytes(word[:])
	return &word
}

// Decode reads what Encode wrote, and nothing else: the errors are ErrEncoding,
// ErrVersion and ErrInvalid.
func Decode(encoded []byte) (Policy, error) {
	if len(encoded) > MaxEncoded {
		return Policy{}, ErrEncoding
	}
	if err := checkVersion(encoded); err != nil {
		return Policy{}, err
	}
	mode, err := strictMode()
	if err != nil {
		return Policy{}, err
	}
	var s stored
	if err := mode.Unmarshal(encoded, &s); err != nil {
		return Policy{}, ErrEncoding
	}
	p := s.policy()
	again, err := p.Encode()
	if err != nil {
		return Policy{}, err
	}
	if !bytes.Equal(again, encoded) {
		return Policy{}, ErrEncoding
	}
	return p, nil
}

// checkVersion looks at key 1 alone, since a newer format may have other keys.
func checkVersion(encoded []byte) error {
	var head struct {
		Version uint64 `cbor:"1,keyasint"`
	}
	if cbor.Unmarshal(encoded, &head) != nil || head.Version == 0 {
		return ErrEncoding
	}
	if head.Version != formatVersion {
		return ErrVersion
	}
	return nil
}

func strictMode() (cbor.DecMode, error) {
	mode, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxNestedLevels:   4,
		MaxArrayElements:  MaxRecipients,
		MaxMapPairs:       16,
	}.DecMode()
	if err != nil {
		return nil, fmt.Errorf("policy: %v", err)
	}
	return mode, nil
}

func (s stored) policy() Policy {
	return Policy{
		Operations:       s.Operations,
		Chains:           s.Chains,
		AnyChain:         s.AnyChain,
		Recipients:       s.Recipients,
		AnyRecipient:     s.AnyRecipient,
		Selectors:        s.Selectors,
		AnySelector:      s.AnySelector,
		MaxValue:         amount(s.MaxValue),
		AnyValue:         s.AnyValue,
		MaxCost:          amount(s.MaxCost),
		AnyCost:          s.AnyCost,
		ContractCreation: s.ContractCreation,
	}
}

func amount(word *[32]byte) *big.Int {
	if word == nil {
		return nil
	}
	return new(big.Int).SetBytes(word[:])
}
