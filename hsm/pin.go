package hsm

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"time"

	"github.com/miekg/pkcs11"
)

// knownPIN is what this process has learned of the user PIN. It outlives an opening
// of the token, and a token that a Supervisor opens begins with it.
type knownPIN struct {
	refusal error // the token refused it, or may have: it is not presented again
	ours    bool  // the token took a PIN from us before: that of the digest
	key     [sha256.Size]byte
	taken   [sha256.Size]byte
	doubts  int       // log-ins since then of which nobody knows whether the PIN was judged
	unclear error     // the last such answer
	since   time.Time // when it came
}

// How many log-ins may fail without a clear answer: those with a PIN that the token
// did not take from us before, and those with the one that it took. Real tokens lock
// after three wrong PINs or more, most after ten; which of these answers they count
// is unknown.
const (
	maxDoubts    = 2
	maxOwnDoubts = 8
)

func newKnownPIN() (k knownPIN) {
	rand.Read(k.key[:])
	return k
}

// digest is of this process alone, by its key. The zeros overwrite the PIN in the
// hash's own buffer, which nobody can reach.
func (k *knownPIN) digest(pin []byte) (out [sha256.Size]byte) {
	h := sha256.New()
	h.Write(k.key[:])
	h.Write(pin)
	h.Write(make([]byte, sha256.BlockSize))
	h.Sum(out[:0])
	return out
}

// took reports whether this is the PIN that the token took.
func (k *knownPIN) took(pin []byte) bool {
	digest := k.digest(pin)
	return k.ours && subtle.ConstantTimeCompare(digest[:], k.taken[:]) == 1
}

func (k *knownPIN) accepted(digest [sha256.Size]byte) {
	k.ours, k.taken = true, digest
	k.doubts, k.unclear = 0, nil
}

func (k *knownPIN) doubt(err error) {
	k.doubts++
	k.unclear, k.since = err, time.Now()
}

// pause is how long no log-in should be made, since the last ones had no clear
// answer. It is short at first, so that a token that was away for a moment is back
// at once, and then ever longer.
func (k *knownPIN) pause() time.Duration {
	pauses := [...]time.Duration{0, 50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond,
		800 * time.Millisecond, 5 * time.Second, time.Minute, time.Hour}
	if k.refusal != nil || k.doubts == 0 {
		return 0
	}
	return time.Until(k.since.Add(pauses[min(k.doubts, len(pauses)-1)]))
}

// Doubted reports whether the token may have counted a wrong PIN since this process
// presented this one: a log-in had no clear answer, or is still in the module. The PIN
// that it took before is not in doubt.
func (t *Token) Doubted(pin []byte) bool {
	select {
	case <-t.login.turn:
		defer func() { t.login.turn <- struct{}{} }()
		return t.login.doubts > 0 && !t.login.took(pin)
	default:
		return true
	}
}

// refusedBy reads how the user PIN stands before it is presented. ours says that the
// token took this PIN before.
func (k *knownPIN) refusedBy(flags uint, ours bool) error {
	counting := flags&(pkcs11.CKF_USER_PIN_COUNT_LOW|pkcs11.CKF_USER_PIN_FINAL_TRY) != 0
	most := maxDoubts
	if ours {
		most = maxOwnDoubts
	}
	switch {
	case flags&pkcs11.CKF_USER_PIN_LOCKED != 0:
		k.refusal = ErrPINLocked
	case k.doubts > 0 && counting:
		k.refusal = fmt.Errorf("%w: it counts a wrong PIN since a log-in that failed", ErrPINIncorrect)
	case k.doubts > most:
		k.refusal = fmt.Errorf("%w: %d log-ins failed without a clear answer, and each may have been counted", ErrPINIncorrect, k.doubts)
	}
	return k.refusal
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
