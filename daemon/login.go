package daemon

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/sigild/sigild/daemon/store"
	"github.com/sigild/sigild/hsm"
)

// ErrLoginRefused is returned when the token refused this PIN before. It is
// not tried again, because a token locks after a few tries: put the right PIN
// where token.pin points. The daemon's exit code is 78 (EX_CONFIG).
var ErrLoginRefused = errors.New("the token refused this user PIN before and it is not tried again: put the right PIN where token.pin points")

// mark remembers a log-in before it is made: state (1) ‖ salt (16) ‖ tag (2),
// where tag is the first two bytes of SHA-256(salt ‖ PIN): enough to see that
// the PIN was replaced, and 16 of its 128 bits and more to whoever reads it.
type mark [19]byte

const (
	markTrying  = 1 // written before the log-in
	markRefused = 2
	markAgain   = 3 // a log-in was cut short once, and is tried a second time
)

func newMark(state byte, salt, pin []byte) mark {
	m := mark{state}
	copy(m[1:17], salt)
	message := append(append(make([]byte, 0, 16+len(pin)), salt...), pin...)
	defer clear(message)
	sum := sha256.Sum256(message)
	copy(m[17:], sum[:2])
	return m
}

// samePIN reports whether the mark was made for pin.
func (m mark) samePIN(pin []byte) bool {
	again := newMark(m[0], m[1:17], pin)
	return subtle.ConstantTimeCompare(again[:], m[:]) == 1
}

// login tries the PIN once. Before it does, it says so on disk, so that a
// crash, a restart or a supervisor's loop never spends the token's tries.
func login(ctx context.Context, s *store.Store, t *hsm.Token, pin []byte) error {
	state, err := mayTry(ctx, s, t, pin)
	if err != nil {
		return err
	}
	salt := make([]byte, 16)
	rand.Read(salt)
	if err := putMark(ctx, s, newMark(state, salt, pin)); err != nil {
		return err
	}
	err = t.Login(ctx, pin)
	if refusedPIN(err) {
		return errors.Join(ErrLoginRefused, err, putMark(ctx, s, newMark(markRefused, salt, pin)))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("token log-in: %w", err), clearMark(ctx, s))
	}
	return clearMark(ctx, s)
}

func refusedPIN(err error) bool {
	return errors.Is(err, hsm.ErrPINIncorrect) || errors.Is(err, hsm.ErrPINLocked)
}

// mayTry decides by the mark of the last log-in. One that was cut short by a
// crash is tried once more, unless the token says that a wrong PIN was tried.
func mayTry(ctx context.Context, s *store.Store, t *hsm.Token, pin []byte) (state byte, err error) {
	data, err := s.Get(ctx, store.Login)
	if err != nil {
		return 0, err
	}
	var m mark
	if len(data) != len(m) {
		return markTrying, nil
	}
	copy(m[:], data)
	if !m.samePIN(pin) {
		return markTrying, nil
	}
	if m[0] != markTrying {
		return 0, ErrLoginRefused
	}
	info, err := t.Info(ctx)
	if err != nil {
		return 0, err
	}
	if info.UserPINCountLow || info.UserPINFinalTry || info.UserPINLocked {
		return 0, ErrLoginRefused
	}
	return markAgain, nil
}

func putMark(ctx context.Context, s *store.Store, m mark) error {
	return s.Put(ctx, map[store.Document][]byte{store.Login: m[:]})
}

func clearMark(ctx context.Context, s *store.Store) error {
	return s.Put(ctx, map[store.Document][]byte{store.Login: nil})
}
