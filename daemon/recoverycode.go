package daemon

import (
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"slices"

	"github.com/sigild/sigild/daemon/seal"
)

// Split says into how many shares a recovery code is split, and how many of
// them give it back. The zero value leaves the code in one piece.
type Split struct{ Shares, Needed int }

// ShowCode shows a recovery code, each part to its keeper: the code itself, or
// shares in the order of their numbers. It returns nil only when every part is
// known to have been taken. The parts are wiped after it returned.
type ShowCode func(parts [][]byte) error

// Check refuses numbers of which no shares can be made.
func (s Split) Check() error {
	if s == (Split{}) || s.Needed >= 2 && s.Shares >= s.Needed && s.Shares <= seal.MaxShares {
		return nil
	}
	return fmt.Errorf("%d shares of which %d are needed: 2 to %d shares can be made, and 2 or more of them needed",
		s.Shares, s.Needed, seal.MaxShares)
}

// show shows the code as it is to be kept. Shares are put together again first:
// a code that its shares do not give back would be lost.
func (s Split) show(code []byte, show ShowCode) error {
	if s == (Split{}) {
		return show([][]byte{code})
	}
	parts, err := seal.SplitRecoveryCode(code, s.Shares, s.Needed)
	defer func() {
		for _, p := range parts {
			clear(p)
		}
	}()
	if err != nil {
		return err
	}
	if err := rehearse(parts, code); err != nil {
		return err
	}
	return show(parts)
}

// rehearse sees that the first and the last shares give the code.
func rehearse(parts [][]byte, code []byte) error {
	reversed := slices.Clone(parts)
	slices.Reverse(reversed)
	return errors.Join(gives(parts, code), gives(reversed, code))
}

func gives(parts [][]byte, code []byte) error {
	var s seal.Shares
	defer s.Wipe()
	for _, p := range parts {
		if err := s.Add(p); err != nil {
			return err
		}
	}
	again, err := s.Code()
	defer clear(again)
	if err == nil && !hmac.Equal(again, code) {
		return seal.ErrShares
	}
	return err
}

// askCode gets the recovery code, in one piece or by its shares.
func askCode(ctx context.Context, ask Prompt, again func(error)) ([]byte, error) {
	var s seal.Shares
	defer s.Wipe()
	for {
		given, needed := s.Progress()
		if given == needed {
			return s.Code()
		}
		typed, err := ask(ctx, partQuestion(given, needed))
		if err != nil {
			return nil, missing(given, needed, err)
		}
		err = s.Add(typed)
		clear(typed)
		if err != nil && (again == nil || !mistake(err)) {
			return nil, err
		}
		if err != nil {
			again(err)
		}
	}
}

func partQuestion(given, needed int) string {
	if given == 0 {
		return "Recovery code, or a share of it"
	}
	return fmt.Sprintf("Another share (%d of %d were given)", given, needed)
}

// missing says that nobody gave the next part.
func missing(given, needed int, cause error) error {
	if given == 0 {
		return cause
	}
	return fmt.Errorf("%w: %d of %d were given: %w", seal.ErrSharesFew, given, needed, cause)
}

// mistake reports whether whoever typed can do better.
func mistake(err error) bool {
	return errors.Is(err, seal.ErrRecoveryCode) || errors.Is(err, seal.ErrShare) ||
		errors.Is(err, seal.ErrShareRepeated) || errors.Is(err, seal.ErrShareForeign)
}
