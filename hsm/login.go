package hsm

import (
	"context"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

// login is the state of the log-in. Whoever holds the turn may touch the token
// or read the refusal; the turn stays with a C_Login until it comes back, also
// when its caller has gone.
type login struct {
	turn    chan struct{}
	refusal error
	ours    bool // the token took the PIN from us before
	doubts  int  // log-ins since then of which nobody knows whether the PIN was judged
}

// maxDoubts is how many log-ins with a PIN that the token never took may fail
// without a clear answer. Real tokens lock after three wrong PINs or more.
const maxDoubts = 2

func newLogin() login {
	turn := make(chan struct{}, 1)
	turn <- struct{}{}
	return login{turn: turn}
}

// Login presents the user PIN to the token, in exactly one C_Login. The log-in
// holds for all sessions of the process.
//
// A token that counts wrong PINs must not be asked twice: after a refusal
// (ErrPINIncorrect, ErrPINLocked) every later Login returns the same error
// without touching the token. After an answer that does not say whether the PIN
// was judged, such as CKR_DEVICE_ERROR, the next Login first looks at the token's
// flags: when it counts a wrong PIN, or when that happened three times with a PIN
// that the token never took, that is a refusal too.
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
		return fmt.Errorf("hsm: another log-in is still running: %w", ctx.Err())
	}
	if err := t.login.refusal; err != nil || t.loggedIn.Load() {
		t.login.turn <- struct{}{}
		return err
	}
	secret := newSecret(pin)
	_, err := do(ctx, t.keepers, "log in", work[struct{}]{
		once: true,
		run:  func(s *session) (struct{}, error) { return struct{}{}, t.tryLogin(s, secret) },
		release: func() {
			secret.free()
			t.login.turn <- struct{}{}
		},
	})
	return err
}

// tryLogin runs while it holds the turn.
func (t *Token) tryLogin(s *session, pin *block) error {
	info, err := t.module.GetTokenInfo(t.slot)
	if err != nil {
		return fromModule("C_GetTokenInfo", err)
	}
	if err := t.login.refusedBy(info.Flags); err != nil {
		return err
	}
	if err := t.holdLogin(); err != nil {
		return err
	}
	err = t.native.login(s.handle, pin)
	if err == nil || t.login.ours && codeOf(err) == pkcs11.CKR_USER_ALREADY_LOGGED_IN {
		t.login.ours, t.login.doubts = true, 0
		t.loggedIn.Store(true)
		return nil
	}
	switch {
	case judgesPIN(codeOf(err)):
		t.login.refusal = err
	case !ignoresPIN(codeOf(err)):
		t.login.doubts++
	}
	return err
}

// refusedBy reads how the user PIN stands before it is presented.
func (l *login) refusedBy(flags uint) error {
	counting := flags&(pkcs11.CKF_USER_PIN_COUNT_LOW|pkcs11.CKF_USER_PIN_FINAL_TRY) != 0
	switch {
	case flags&pkcs11.CKF_USER_PIN_LOCKED != 0:
		l.refusal = ErrPINLocked
	case l.doubts > 0 && counting:
		l.refusal = fmt.Errorf("%w: it counts a wrong PIN since a log-in that failed", ErrPINIncorrect)
	case l.doubts > maxDoubts && !l.ours:
		l.refusal = fmt.Errorf("%w: %d log-ins failed without a clear answer, and each may have been counted", ErrPINIncorrect, l.doubts)
	}
	return l.refusal
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

// judgesPIN reports whether the code is an answer to the PIN.
func judgesPIN(code uint) bool {
	switch code {
	case pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE, pkcs11.CKR_PIN_EXPIRED,
		pkcs11.CKR_PIN_LOCKED, pkcs11.CKR_PIN_TOO_WEAK, pkcs11.CKR_NEW_PIN_MODE, pkcs11.CKR_NEXT_OTP,
		pkcs11.CKR_USER_PIN_NOT_INITIALIZED, pkcs11.CKR_USER_TYPE_INVALID, pkcs11.CKR_FUNCTION_REJECTED:
		return true
	}
	return false
}

// ignoresPIN reports whether the code says that the PIN was never looked at.
func ignoresPIN(code uint) bool {
	switch code {
	case pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_HOST_MEMORY,
		pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED, pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_DEVICE_REMOVED,
		pkcs11.CKR_SLOT_ID_INVALID, pkcs11.CKR_USER_ALREADY_LOGGED_IN,
		pkcs11.CKR_USER_ANOTHER_ALREADY_LOGGED_IN, pkcs11.CKR_SESSION_READ_WRITE_SO_EXISTS:
		return true
	}
	return false
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
