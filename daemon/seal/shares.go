package seal

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cloudflare/circl/group"
	"github.com/cloudflare/circl/secretsharing"

	"github.com/sigild/sigild/daemon/wipe"
)

var (
	// ErrShareRepeated is returned for a share that was given already.
	ErrShareRepeated = errors.New("this share was given already: another one is needed")
	// ErrShareForeign is returned for a share of another set than the first one.
	ErrShareForeign = errors.New("this share is of another set")
	// ErrSharesFew is returned while shares are missing.
	ErrSharesFew = errors.New("more shares are needed")
	// ErrShares is returned for shares that do not give a recovery code: one of
	// them was not made with the others. Nothing tells which.
	ErrShares = errors.New("these shares do not belong together, although each is well-formed: give others of the set, " +
		"or find out who changed one")
)

// Shares collects the parts of a recovery code: the code itself, or shares of
// it. The zero value is ready. Secret; wipe it.
type Shares struct {
	code  []byte
	given []*share
}

// Add takes what a person typed. An error (ErrRecoveryCode, ErrShare,
// ErrShareRepeated, ErrShareForeign) leaves what was given before as it was.
func (s *Shares) Add(typed []byte) error {
	if len(s.given) == 0 && !looksLikeShare(typed) {
		raw, err := ParseRecoveryCode(typed)
		defer clear(raw)
		if err == nil {
			s.code = formatCode(raw)
		}
		return err
	}
	next, err := parseShare(typed)
	if err != nil {
		return err
	}
	if err := s.accept(next); err != nil {
		clear(next.value[:])
		return err
	}
	s.given = append(s.given, next)
	return nil
}

func (s *Shares) accept(next *share) error {
	if len(s.given) == 0 {
		return nil
	}
	first := s.given[0]
	if next.set != first.set || next.needed != first.needed {
		return fmt.Errorf("%w: it begins with %s, the first share that was given with %s", ErrShareForeign, next.setName(), first.setName())
	}
	if slices.ContainsFunc(s.given, func(g *share) bool { return g.number == next.number }) {
		return fmt.Errorf("share %d: %w", next.number, ErrShareRepeated)
	}
	return nil
}

// Progress says how many parts were given and how many are needed: 0 of 1 at
// first, and of a code that is not split.
func (s *Shares) Progress() (given, needed int) {
	switch {
	case s.code != nil:
		return 1, 1
	case len(s.given) == 0:
		return 0, 1
	}
	return len(s.given), s.given[0].needed
}

// Code gives the recovery code once all parts are there. ErrSharesFew,
// ErrShares. Secret; wipe it.
func (s *Shares) Code() (code []byte, err error) {
	given, needed := s.Progress()
	if given < needed {
		return nil, fmt.Errorf("%w: %d of %d were given", ErrSharesFew, given, needed)
	}
	if s.code != nil {
		return slices.Clone(s.code), nil
	}
	wipe.Do(func() { code, err = combine(s.given[:needed]) })
	return code, err
}

// Wipe overwrites what was given.
func (s *Shares) Wipe() {
	clear(s.code)
	for _, g := range s.given {
		clear(g.value[:])
	}
	*s = Shares{}
}

func combine(given []*share) ([]byte, error) {
	points := make([]secretsharing.Share, len(given))
	for i, g := range given {
		points[i] = secretsharing.Share{ID: group.Ristretto255.NewScalar().SetUint64(uint64(g.number)), Value: group.Ristretto255.NewScalar()}
		defer points[i].Value.SetUint64(0)
		if err := setScalar(points[i].Value, g.value[:]); err != nil {
			return nil, ErrShares
		}
	}
	secret, err := secretsharing.Recover(uint(len(given)-1), points)
	if err != nil {
		return nil, err
	}
	defer secret.SetUint64(0)
	var number [scalarBytes]byte
	defer clear(number[:])
	if err := scalarInto(number[:], secret); err != nil {
		return nil, err
	}
	return codeOf(number[:])
}

// codeOf gives the code that a number stands for. Shares that do not belong
// together give any number, of which one in 2^92 is small enough to be a code.
func codeOf(number []byte) ([]byte, error) {
	head, raw := number[:scalarBytes-recoveryCodeBytes], number[scalarBytes-recoveryCodeBytes:]
	var rest byte
	for _, b := range head {
		rest |= b
	}
	if rest != 0 {
		return nil, ErrShares
	}
	return formatCode(raw), nil
}
