package hsm

import (
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

// Errors that callers may match with errors.Is.
var (
	// ErrPINIncorrect is returned when the token refused the user PIN. It is
	// never tried again.
	ErrPINIncorrect = errors.New("hsm: the token refused the user PIN")
	// ErrPINLocked is returned when the token has locked the user PIN.
	ErrPINLocked = errors.New("hsm: the user PIN is locked: the token's security officer must reset it")
	// ErrNotPresented is returned by a log-in that ended before the user PIN was
	// given to the token, which did not count it.
	ErrNotPresented = errors.New("hsm: the user PIN was not presented")
	// ErrNotLoggedIn is returned when a call needs the log-in and there is none,
	// or when it was lost since the keys were opened: log in and open them again.
	ErrNotLoggedIn = errors.New("hsm: not logged in to the token")
	// ErrClosed is returned when the token was closed.
	ErrClosed = errors.New("hsm: the token is closed")
	// ErrHung is returned when every session that could serve a call is in the
	// module for longer than the call timeout. It ends when the module answers.
	ErrHung = errors.New("hsm: the module does not answer")
	// ErrUnavailable is returned while a Supervisor has no working token; see
	// UnavailableError.
	ErrUnavailable = errors.New("hsm: the token is not available")
	// ErrUnsupported is returned when the token lacks the ability.
	ErrUnsupported = errors.New("hsm: the token does not support this")
	// ErrTokenNotFound is returned when not exactly one present token matches.
	ErrTokenNotFound = errors.New("hsm: no single token matches")
	// ErrUnusable is returned by a rehearsal that could not do what the use of any
	// wallet asks for: unwrap a key, compute an HMAC, sign.
	ErrUnusable = errors.New("hsm: no wallet's keys can be used")
	// ErrObjectLost is returned when a session object was destroyed, or its
	// session or the log-in that it belonged to is gone.
	ErrObjectLost = errors.New("hsm: the session object is gone")
	// ErrWrappedKey is returned when the token refuses a wrapped key: it is not
	// authentic, was wrapped under another key, or is of another class.
	ErrWrappedKey = errors.New("hsm: the token refuses the wrapped key")
	// ErrNoWrapMechanism is returned when no allowed mechanism wraps and unwraps
	// both an EC private key and a generic secret.
	ErrNoWrapMechanism = errors.New("hsm: the token has no usable key wrap mechanism")
	// ErrKeyMissing is returned when a long-lived key is not on the token.
	ErrKeyMissing = errors.New("hsm: a key is missing on the token")
	// ErrKeyDuplicate is returned when two objects claim to be one long-lived key.
	ErrKeyDuplicate = errors.New("hsm: two objects have the same key id")
	// ErrKeyAttributes is returned when a long-lived key is not what provisioning
	// made: planted, weakened, or of another kind.
	ErrKeyAttributes = errors.New("hsm: a key has the wrong attributes")
	// ErrKeyChanged is returned when a key is not the one that a fingerprint was
	// made from.
	ErrKeyChanged = errors.New("hsm: a key is not the one that was recorded")
	// ErrScalar is returned for a private key that secp256k1 does not have.
	ErrScalar = errors.New("hsm: not a private key of secp256k1")
	// ErrPurpose is returned when a key of this purpose cannot do what is asked.
	ErrPurpose = errors.New("hsm: wrong key purpose")
	// ErrTokenAnswer is returned when the token's answer is malformed or wrong: a
	// signature that does not verify, a point off the curve, a wrong length.
	ErrTokenAnswer = errors.New("hsm: the token gave a wrong answer")
	// ErrWrongSignature is the ErrTokenAnswer that may give a key away: a signature
	// that does not verify. It must not leave, and the key should not sign again.
	ErrWrongSignature = fmt.Errorf("%w: a signature does not verify", ErrTokenAnswer)
)

// Error is a PKCS#11 function that failed. errors.Is matches it with the
// sentinel for its code (ErrPINIncorrect, ErrPINLocked, ErrNotLoggedIn,
// ErrUnsupported), and with another *Error of the same Code whose Func is equal
// or empty.
type Error struct {
	Func  string // the function, as in "C_Sign"
	Code  uint   // the CK_RV
	Class Class  // what it asks of the caller
}

func newError(function string, code uint) *Error {
	return &Error{Func: function, Code: code, Class: lookUp(code).class}
}

// Error gives the function, the code's name and number, and what it means.
func (e *Error) Error() string {
	row := lookUp(e.Code)
	return fmt.Sprintf("hsm: %s: %s (0x%x): %s", e.Func, row.name, e.Code, row.reason)
}

// Is implements the matching of errors.Is.
func (e *Error) Is(target error) bool {
	if other, ok := target.(*Error); ok {
		return other.Code == e.Code && (other.Func == "" || other.Func == e.Func)
	}
	switch e.Code {
	case pkcs11.CKR_PIN_INCORRECT:
		return target == ErrPINIncorrect
	case pkcs11.CKR_PIN_LOCKED:
		return target == ErrPINLocked
	case pkcs11.CKR_USER_NOT_LOGGED_IN:
		return target == ErrNotLoggedIn
	case pkcs11.CKR_FUNCTION_NOT_SUPPORTED, pkcs11.CKR_RANDOM_SEED_NOT_SUPPORTED,
		pkcs11.CKR_RANDOM_NO_RNG, pkcs11.CKR_MECHANISM_INVALID, pkcs11.CKR_CURVE_NOT_SUPPORTED:
		return target == ErrUnsupported
	}
	return false
}

// fromModule converts an error of the wrapper library, which is a bare code.
func fromModule(function string, err error) error {
	if err == nil {
		return nil
	}
	var code pkcs11.Error
	if errors.As(err, &code) {
		return newError(function, uint(code))
	}
	return fmt.Errorf("hsm: %s: %w", function, err)
}

// codeOf returns the CK_RV inside err, or CKR_OK when there is none.
func codeOf(err error) uint {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return pkcs11.CKR_OK
}

// classOf returns the class of the CK_RV inside err. Errors that are not from
// the token ask for nothing.
func classOf(err error) Class {
	var e *Error
	if errors.As(err, &e) {
		return e.Class
	}
	return GiveUp
}

// Recoverable reports whether err is a fault of the session, the log-in, the
// handles or the device, so that the same call may succeed after a recovery.
func Recoverable(err error) bool {
	return errors.Is(err, ErrNotLoggedIn) || classOf(err) != GiveUp
}

// PINJudged reports whether err is the token's answer to the user PIN: it refused
// it, or locked it.
func PINJudged(err error) bool {
	var e *Error
	return errors.Is(err, ErrPINIncorrect) || errors.Is(err, ErrPINLocked) ||
		errors.As(err, &e) && e.Func == "C_Login" && judgesPIN(e.Code)
}

// PINIgnored reports whether a failed Login certainly did not have the token look at
// the user PIN: C_Login was not called, or its code says so. After any other error
// that is not PINJudged, and after a time-out, the token may have counted a wrong PIN.
func PINIgnored(err error) bool {
	var e *Error
	if errors.As(err, &e) {
		return e.Func != "C_Login" || ignoresPIN(e.Code)
	}
	return errors.Is(err, ErrHung) || errors.Is(err, ErrClosed) || errors.Is(err, ErrNotLoggedIn)
}

// refusedTemplate reports whether the token rejects the attributes given, and
// so may accept fewer of them.
func refusedTemplate(err error) bool {
	switch codeOf(err) {
	case pkcs11.CKR_ATTRIBUTE_TYPE_INVALID, pkcs11.CKR_ATTRIBUTE_VALUE_INVALID,
		pkcs11.CKR_ATTRIBUTE_READ_ONLY, pkcs11.CKR_TEMPLATE_INCONSISTENT,
		pkcs11.CKR_ARGUMENTS_BAD, pkcs11.CKR_FUNCTION_NOT_SUPPORTED:
		return true
	}
	return false
}
