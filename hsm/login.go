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
}

func newLogin() login {
	turn := make(chan struct{}, 1)
	turn <- struct{}{}
	return login{turn: turn}
}

// Login presents the user PIN to the token, in exactly one C_Login. The log-in
// holds for all sessions of the process.
//
// A token that counts wrong PINs must not be asked twice: after a refusal
// (ErrPINIncorrect, ErrPINLocked, or any answer by which the PIN may have been
// counted) every later Login returns the same error without touching the token.
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
		run: func(s *session) (struct{}, error) { return struct{}{}, t.tryLogin(s, secret) },
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
	if info.Flags&pkcs11.CKF_USER_PIN_LOCKED != 0 {
		t.login.refusal = ErrPINLocked
		return ErrPINLocked
	}
	if err := t.holdLogin(); err != nil {
		return err
	}
	err = t.native.login(s.handle, pin)
	if err == nil || t.login.ours && codeOf(err) == pkcs11.CKR_USER_ALREADY_LOGGED_IN {
		t.login.ours = true
		t.loggedIn.Store(true)
		return nil
	}
	if refusesPIN(codeOf(err)) {
		t.login.refusal = err
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

// PINJudged reports whether the token may have judged, and counted, the PIN of
// the Login that returned err. It is false for an error that says that the PIN
// was never presented or never looked at.
func PINJudged(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Func == "C_Login" && refusesPIN(e.Code)
}

// refusesPIN reports whether the token may have judged, and counted, the PIN.
// That is every code but those that say it was never looked at.
func refusesPIN(code uint) bool {
	switch code {
	case pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_HOST_MEMORY,
		pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED, pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_DEVICE_REMOVED,
		pkcs11.CKR_SLOT_ID_INVALID, pkcs11.CKR_USER_ALREADY_LOGGED_IN,
		pkcs11.CKR_USER_ANOTHER_ALREADY_LOGGED_IN, pkcs11.CKR_SESSION_READ_WRITE_SO_EXISTS:
		return false
	}
	return true
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
