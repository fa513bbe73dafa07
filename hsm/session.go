package hsm

import (
	"sync/atomic"

	"github.com/miekg/pkcs11"
)

// life is one opening of a session. Objects refer to the life that they were
// made in, so that a session opened later in the same place cannot be mistaken
// for it.
type life struct {
	epoch uint64 // the token's log-in epoch when it was opened
	gone  atomic.Bool
}

// over reports whether the session must not be used any more: it was condemned,
// or is of an earlier log-in than that of the epoch. A nil life is not over.
func (l *life) over(epoch uint64) bool {
	return l != nil && (l.gone.Load() || l.epoch != epoch)
}

// session is a place in a pool, with or without an open session. Its fields
// belong to whoever took it from the pool; life.gone may be set by anyone.
type session struct {
	pool    *pool
	handle  sessionHandle
	life    *life // nil when no session is open
	suspect bool  // close it after this call
	used    bool  // one was open here before

	call stopwatch // runs while a call is in the module
}

// open makes sure that a session is open and has the log-in.
func (s *session) open() error {
	t := s.pool.token
	epoch := t.epoch.Load()
	if s.life.over(epoch) {
		s.close()
	}
	if s.life != nil {
		return nil
	}
	flags := uint(pkcs11.CKF_SERIAL_SESSION)
	if s.pool.keeper {
		flags |= pkcs11.CKF_RW_SESSION
	}
	h, err := t.module.OpenSession(t.slot, flags)
	if err != nil {
		return s.openFailed(epoch, fromModule("C_OpenSession", err))
	}
	s.handle, s.life = h, &life{epoch: epoch}
	t.counts.opened.Add(1)
	if s.used {
		t.counts.replaced.Add(1)
	}
	s.used = true
	if t.loggedIn.Load() && !s.usable() {
		s.close()
		return ErrNotLoggedIn
	}
	return nil
}

func (s *session) openFailed(epoch uint64, err error) error {
	if classOf(err) == Reinitialise {
		s.pool.token.loseLogin(epoch)
	}
	return err
}

// scratch runs fn on one more session that is closed afterwards, for experiments
// with templates. When SoftHSM 2.6.1 refuses some of them it leaves the object
// behind that it had begun, and only the end of the session removes it.
func (s *session) scratch(fn func(*session) error) error {
	x := &session{pool: s.pool}
	if err := x.open(); err != nil {
		return err
	}
	defer x.close()
	return fn(x)
}

// close closes the session, which destroys the session objects that it owns.
// Its error is of no use: a session that cannot be closed is lost anyway.
func (s *session) close() {
	if s.life == nil {
		return
	}
	s.life.gone.Store(true)
	_ = s.pool.token.module.CloseSession(s.handle)
	s.pool.token.counts.closed.Add(1)
	s.handle, s.life, s.suspect = 0, nil, false
}

// usable asks the module whether the session works and still has the log-in.
// When the log-in is gone, the token is told so.
func (s *session) usable() bool {
	info, err := s.pool.token.module.GetSessionInfo(s.handle)
	if err != nil {
		return false
	}
	if s.pool.token.loggedIn.Load() && info.State != pkcs11.CKS_RO_USER_FUNCTIONS &&
		info.State != pkcs11.CKS_RW_USER_FUNCTIONS {
		s.pool.token.loseLogin(s.life.epoch)
		return false
	}
	return info.DeviceError == 0
}

// late notes that the caller went away while the module was busy. A signing
// session is not trusted after that; a keeper is, because closing it would
// destroy keys of other callers, and only a failure makes it broken.
func (s *session) late() {
	if !s.pool.keeper {
		s.suspect = true
	}
}

// settle closes the session if the call left it in doubt.
func (s *session) settle(err error) {
	if s.life == nil {
		return
	}
	class := classOf(err)
	if class == LogIn || class == Reinitialise {
		s.pool.token.loseLogin(s.life.epoch)
	}
	if s.suspect || s.life.over(s.pool.token.epoch.Load()) || s.broken(class, codeOf(err)) {
		s.close()
	}
}

// broken decides whether a session can be used again after an error. Signing
// sessions own nothing and go at once. For a keeper a vague code is checked
// with the module first: a forged wrapped key, for which some tokens answer
// CKR_GENERAL_ERROR, must not cost other callers their keys.
func (s *session) broken(class Class, code uint) bool {
	switch class {
	case GiveUp:
		return false
	case FindKeys:
		return !s.usable()
	case NewSession:
		return !s.pool.keeper || certain(code) || !s.usable()
	}
	return true
}

// worthRepeating reports whether the fault was the session's, so that the same
// call may succeed on a new one.
func (s *session) worthRepeating(err error) bool {
	return s.life != nil && classOf(err) == NewSession && s.broken(NewSession, codeOf(err))
}

// certain reports whether the code itself says that the session is unusable.
func certain(code uint) bool {
	switch code {
	case pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_SESSION_HANDLE_INVALID,
		pkcs11.CKR_OPERATION_ACTIVE, pkcs11.CKR_OPERATION_NOT_INITIALIZED:
		return true
	}
	return false
}
