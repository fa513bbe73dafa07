package hsm

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/miekg/pkcs11"
)

// login is the state of the log-in. Whoever holds the turn may touch the token
// or what is known of the PIN; the turn stays with a C_Login until it comes back,
// also when its caller has gone.
type login struct {
	turn chan struct{}
	knownPIN
}

func newLogin() login {
	turn := make(chan struct{}, 1)
	turn <- struct{}{}
	return login{turn: turn, knownPIN: newKnownPIN()}
}

// Login presents the user PIN to the token, in exactly one C_Login. The log-in
// holds for all sessions of the process.
//
// A token that counts wrong PINs must not be asked twice: after a refusal
// (ErrPINIncorrect, ErrPINLocked) every later Login returns the same error
// without touching the token. After an answer that does not say whether the PIN
// was judged, such as CKR_DEVICE_ERROR, the next Login first looks at the token's
// flags: when it counts a wrong PIN, or when that happened three times with a PIN
// that the token did not take from us before, or nine times with the one that it
// took, that is a refusal too. An error that is ErrNotPresented says that the PIN
// did not reach the token, and will not.
// While logged in it returns nil and does not look at the PIN. If somebody else
// in the process is logged in already the PIN cannot be checked, which is an
// error unless the token took it from us before.
//
// The PIN stays the caller's to wipe; the copy given to the module is wiped
// when the call comes back.
func (t *Token) Login(ctx context.Context, pin []byte) error {
	if len(pin) == 0 {
		return errors.New("hsm: the user PIN is empty")
	}
	ctx, cancel := t.bound(ctx)
	defer cancel()
	select {
	case <-t.login.turn:
	case <-ctx.Done():
		return fmt.Errorf("%w: another log-in is still running: %w", ErrNotPresented, ctx.Err())
	}
	if err := t.login.refusal; err != nil || t.loggedIn.Load() {
		t.login.turn <- struct{}{}
		return err
	}
	secret, try := newSecret(pin), &presentation{ours: t.login.took(pin), digest: t.login.digest(pin)}
	_, err := do(ctx, t.keepers, "log in", work[struct{}]{
		once: true,
		run:  func(s *session) (struct{}, error) { return struct{}{}, t.tryLogin(s, secret, try) },
		release: func() {
			secret.free()
			t.login.turn <- struct{}{}
		},
	})
	if err != nil && !PINJudged(err) && try.claim() {
		return fmt.Errorf("%w: %w", ErrNotPresented, err)
	}
	return err
}

// presentation is that of one Login. C_Login and a caller who gives up race for the claim: the
// PIN is presented only by whoever claims it first, and that may be nobody.
type presentation struct {
	ours    bool // the token took this PIN from us before
	digest  [sha256.Size]byte
	claimed atomic.Bool
}

func (p *presentation) claim() bool { return p.claimed.CompareAndSwap(false, true) }

// tryLogin runs while it holds the turn.
func (t *Token) tryLogin(s *session, pin *block, try *presentation) error {
	info, err := t.module.GetTokenInfo(t.slot)
	if err != nil {
		return fromModule("C_GetTokenInfo", err)
	}
	if err := t.login.refusedBy(info.Flags, try.ours); err != nil {
		return err
	}
	if err := t.holdLogin(); err != nil {
		return err
	}
	if !try.claim() {
		return ErrNotPresented
	}
	err = t.native.login(s.handle, pin)
	if err == nil || try.ours && codeOf(err) == pkcs11.CKR_USER_ALREADY_LOGGED_IN {
		t.login.accepted(try.digest)
		t.loggedIn.Store(true)
		return nil
	}
	switch {
	case judgesPIN(codeOf(err)):
		t.login.refusal = err
	case !ignoresPIN(codeOf(err)):
		t.login.doubt(err)
	}
	return err
}

// holdLogin makes sure that the signer's idle session is open. A token logs out
// when the last session closes (PKCS#11 v2.40 section 5.6), and the pools close
// theirs on an error. After a lost log-in that session is gone too.
func (t *Token) holdLogin() error {
	if t.epoch.Load() == 0 {
		return nil
	}
	_, err := t.signer.replace(t.signer.current())
	return err
}

// logout ends the log-in that this token made.
func (t *Token) logout(sessions []*session) error {
	if !t.loggedIn.Swap(false) {
		return nil
	}
	for _, s := range sessions {
		if s.life == nil {
			continue
		}
		err := fromModule("C_Logout", t.module.Logout(s.handle))
		if codeOf(err) == pkcs11.CKR_USER_NOT_LOGGED_IN {
			return nil
		}
		return err
	}
	return nil // closing the last session logs out too (PKCS#11 v2.40 section 5.6)
}
