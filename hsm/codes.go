package hsm

import "github.com/miekg/pkcs11"

// Class says what a PKCS#11 return code asks of the caller. The zero value
// never asks for another attempt.
type Class byte

// The classes, from the mildest remedy to the strongest.
const (
	GiveUp       Class = iota // the same call will fail again
	NewSession                // close the session, try on a new one
	FindKeys                  // object handles are stale: find the keys again
	LogIn                     // the log-in state is lost: log in, then find the keys
	Reinitialise              // the module lost its state: initialise, log in, find
	WaitDevice                // the device is away: wait, then initialise
)

// String names the remedy.
func (c Class) String() string {
	switch c {
	case GiveUp:
		return "give up"
	case NewSession:
		return "retry on a new session"
	case FindKeys:
		return "find the keys again"
	case LogIn:
		return "log in again"
	case Reinitialise:
		return "initialise the module again"
	case WaitDevice:
		return "wait for the device"
	}
	return "unknown class"
}

// returnCode is one row of the table: what a code means for this program.
type returnCode struct {
	code   uint
	name   string
	class  Class
	reason string
}

// returnCodes classes every code of PKCS#11 v2.40 section 2.1 that a module may
// return for the calls made here. It is never written.
//
// A code that several vendors use for a passing fault (GENERAL_ERROR,
// FUNCTION_FAILED) costs a session, not the log-in: the new session tells
// whether more is broken.
var returnCodes = [...]returnCode{
	{pkcs11.CKR_CANCEL, "CKR_CANCEL", GiveUp, "the token cancelled the call"},
	{pkcs11.CKR_HOST_MEMORY, "CKR_HOST_MEMORY", NewSession, "the module is out of memory"},
	{pkcs11.CKR_SLOT_ID_INVALID, "CKR_SLOT_ID_INVALID", Reinitialise, "the slot is gone: the token was moved or the module restarted"},
	{pkcs11.CKR_GENERAL_ERROR, "CKR_GENERAL_ERROR", NewSession, "the module failed without a reason: see its own log"},
	{pkcs11.CKR_FUNCTION_FAILED, "CKR_FUNCTION_FAILED", NewSession, "the function failed: see the module's own log"},
	{pkcs11.CKR_ARGUMENTS_BAD, "CKR_ARGUMENTS_BAD", GiveUp, "the module rejects the arguments"},
	{pkcs11.CKR_NEED_TO_CREATE_THREADS, "CKR_NEED_TO_CREATE_THREADS", GiveUp, "the module needs threads of its own"},
	{pkcs11.CKR_CANT_LOCK, "CKR_CANT_LOCK", GiveUp, "the module cannot lock: it is not safe for several threads"},
	{pkcs11.CKR_ATTRIBUTE_READ_ONLY, "CKR_ATTRIBUTE_READ_ONLY", GiveUp, "the attribute cannot be set"},
	{pkcs11.CKR_ATTRIBUTE_SENSITIVE, "CKR_ATTRIBUTE_SENSITIVE", GiveUp, "the attribute is sensitive"},
	{pkcs11.CKR_ATTRIBUTE_TYPE_INVALID, "CKR_ATTRIBUTE_TYPE_INVALID", GiveUp, "the token does not know the attribute"},
	{pkcs11.CKR_ATTRIBUTE_VALUE_INVALID, "CKR_ATTRIBUTE_VALUE_INVALID", GiveUp, "the token rejects the attribute's value"},
	{pkcs11.CKR_ACTION_PROHIBITED, "CKR_ACTION_PROHIBITED", GiveUp, "the object forbids the action"},
	{pkcs11.CKR_DATA_INVALID, "CKR_DATA_INVALID", GiveUp, "the token rejects the data"},
	{pkcs11.CKR_DATA_LEN_RANGE, "CKR_DATA_LEN_RANGE", GiveUp, "the data has a length that the token rejects"},
	{pkcs11.CKR_DEVICE_ERROR, "CKR_DEVICE_ERROR", WaitDevice, "the device reports a fault"},
	{pkcs11.CKR_DEVICE_MEMORY, "CKR_DEVICE_MEMORY", NewSession, "the token is full: delete objects or close sessions"},
	{pkcs11.CKR_DEVICE_REMOVED, "CKR_DEVICE_REMOVED", WaitDevice, "the device was removed or its connection broke"},
	{pkcs11.CKR_ENCRYPTED_DATA_INVALID, "CKR_ENCRYPTED_DATA_INVALID", GiveUp, "the ciphertext is not authentic"},
	{pkcs11.CKR_ENCRYPTED_DATA_LEN_RANGE, "CKR_ENCRYPTED_DATA_LEN_RANGE", GiveUp, "the ciphertext has a wrong length"},
	{pkcs11.CKR_FUNCTION_CANCELED, "CKR_FUNCTION_CANCELED", NewSession, "the function was cancelled"},
	{pkcs11.CKR_FUNCTION_NOT_PARALLEL, "CKR_FUNCTION_NOT_PARALLEL", GiveUp, "the function does not run in parallel"},
	{pkcs11.CKR_FUNCTION_NOT_SUPPORTED, "CKR_FUNCTION_NOT_SUPPORTED", GiveUp, "the token does not have the function"},
	{pkcs11.CKR_KEY_HANDLE_INVALID, "CKR_KEY_HANDLE_INVALID", FindKeys, "the key's handle is stale"},
	{pkcs11.CKR_KEY_SIZE_RANGE, "CKR_KEY_SIZE_RANGE", GiveUp, "the token rejects the key's size"},
	{pkcs11.CKR_KEY_TYPE_INCONSISTENT, "CKR_KEY_TYPE_INCONSISTENT", GiveUp, "the key has the wrong type for the mechanism"},
	{pkcs11.CKR_KEY_NOT_NEEDED, "CKR_KEY_NOT_NEEDED", GiveUp, "a key was given that is not needed"},
	{pkcs11.CKR_KEY_CHANGED, "CKR_KEY_CHANGED", GiveUp, "the key changed"},
	{pkcs11.CKR_KEY_NEEDED, "CKR_KEY_NEEDED", GiveUp, "a key is needed"},
	{pkcs11.CKR_KEY_INDIGESTIBLE, "CKR_KEY_INDIGESTIBLE", GiveUp, "the key cannot be digested"},
	{pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED, "CKR_KEY_FUNCTION_NOT_PERMITTED", GiveUp, "the key may not be used for this"},
	{pkcs11.CKR_KEY_NOT_WRAPPABLE, "CKR_KEY_NOT_WRAPPABLE", GiveUp, "the token cannot wrap this key"},
	{pkcs11.CKR_KEY_UNEXTRACTABLE, "CKR_KEY_UNEXTRACTABLE", GiveUp, "the key is not extractable"},
	{pkcs11.CKR_MECHANISM_INVALID, "CKR_MECHANISM_INVALID", GiveUp, "the token or the key does not allow the mechanism"},
	{pkcs11.CKR_MECHANISM_PARAM_INVALID, "CKR_MECHANISM_PARAM_INVALID", GiveUp, "the token rejects the mechanism's parameters"},
	{pkcs11.CKR_OBJECT_HANDLE_INVALID, "CKR_OBJECT_HANDLE_INVALID", FindKeys, "the object's handle is stale"},
	{pkcs11.CKR_OPERATION_ACTIVE, "CKR_OPERATION_ACTIVE", NewSession, "an operation was left open in the session"},
	{pkcs11.CKR_OPERATION_NOT_INITIALIZED, "CKR_OPERATION_NOT_INITIALIZED", NewSession, "the session lost its operation"},
	{pkcs11.CKR_PIN_INCORRECT, "CKR_PIN_INCORRECT", GiveUp, "the token refused the user PIN: give the right one and restart; the token counts each attempt"},
	{pkcs11.CKR_PIN_INVALID, "CKR_PIN_INVALID", GiveUp, "the PIN has characters that the token does not take"},
	{pkcs11.CKR_PIN_LEN_RANGE, "CKR_PIN_LEN_RANGE", GiveUp, "the PIN has a length that the token does not take"},
	{pkcs11.CKR_PIN_EXPIRED, "CKR_PIN_EXPIRED", GiveUp, "the user PIN expired: set a new one with the vendor's tool"},
	{pkcs11.CKR_PIN_LOCKED, "CKR_PIN_LOCKED", GiveUp, "the user PIN is locked: the token's security officer must reset it"},
	{pkcs11.CKR_SESSION_CLOSED, "CKR_SESSION_CLOSED", NewSession, "the session was closed"},
	{pkcs11.CKR_SESSION_COUNT, "CKR_SESSION_COUNT", WaitDevice, "the token has no free session: lower sessions and keepers, or close other programs that use it"},
	{pkcs11.CKR_SESSION_HANDLE_INVALID, "CKR_SESSION_HANDLE_INVALID", NewSession, "the session is gone"},
	{pkcs11.CKR_SESSION_PARALLEL_NOT_SUPPORTED, "CKR_SESSION_PARALLEL_NOT_SUPPORTED", GiveUp, "parallel sessions are not supported"},
	{pkcs11.CKR_SESSION_READ_ONLY, "CKR_SESSION_READ_ONLY", GiveUp, "the session is read-only"},
	{pkcs11.CKR_SESSION_EXISTS, "CKR_SESSION_EXISTS", GiveUp, "a session is open that must not be"},
	{pkcs11.CKR_SESSION_READ_ONLY_EXISTS, "CKR_SESSION_READ_ONLY_EXISTS", GiveUp, "a read-only session is open that must not be"},
	{pkcs11.CKR_SESSION_READ_WRITE_SO_EXISTS, "CKR_SESSION_READ_WRITE_SO_EXISTS", GiveUp, "the security officer is logged in: log out there first"},
	{pkcs11.CKR_SIGNATURE_INVALID, "CKR_SIGNATURE_INVALID", GiveUp, "the signature is not valid"},
	{pkcs11.CKR_SIGNATURE_LEN_RANGE, "CKR_SIGNATURE_LEN_RANGE", GiveUp, "the signature has a wrong length"},
	{pkcs11.CKR_TEMPLATE_INCOMPLETE, "CKR_TEMPLATE_INCOMPLETE", GiveUp, "the token wants more attributes"},
	{pkcs11.CKR_TEMPLATE_INCONSISTENT, "CKR_TEMPLATE_INCONSISTENT", GiveUp, "the token refuses this combination of attributes"},
	{pkcs11.CKR_TOKEN_NOT_PRESENT, "CKR_TOKEN_NOT_PRESENT", WaitDevice, "the token is not in its slot"},
	{pkcs11.CKR_TOKEN_NOT_RECOGNIZED, "CKR_TOKEN_NOT_RECOGNIZED", WaitDevice, "the module does not recognise the token"},
	{pkcs11.CKR_TOKEN_WRITE_PROTECTED, "CKR_TOKEN_WRITE_PROTECTED", GiveUp, "the token is write-protected"},
	{pkcs11.CKR_UNWRAPPING_KEY_HANDLE_INVALID, "CKR_UNWRAPPING_KEY_HANDLE_INVALID", FindKeys, "the unwrapping key's handle is stale"},
	{pkcs11.CKR_UNWRAPPING_KEY_SIZE_RANGE, "CKR_UNWRAPPING_KEY_SIZE_RANGE", GiveUp, "the unwrapping key has a wrong size"},
	{pkcs11.CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT, "CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT", GiveUp, "the unwrapping key has the wrong type"},
	{pkcs11.CKR_USER_ALREADY_LOGGED_IN, "CKR_USER_ALREADY_LOGGED_IN", GiveUp, "another part of this process logged in, so the PIN was not checked"},
	{pkcs11.CKR_USER_NOT_LOGGED_IN, "CKR_USER_NOT_LOGGED_IN", LogIn, "nobody is logged in to the token"},
	{pkcs11.CKR_USER_PIN_NOT_INITIALIZED, "CKR_USER_PIN_NOT_INITIALIZED", GiveUp, "the token has no user PIN yet: initialise it with the vendor's tool"},
	{pkcs11.CKR_USER_TYPE_INVALID, "CKR_USER_TYPE_INVALID", GiveUp, "the token does not know the user type"},
	{pkcs11.CKR_USER_ANOTHER_ALREADY_LOGGED_IN, "CKR_USER_ANOTHER_ALREADY_LOGGED_IN", GiveUp, "another user is logged in to the token"},
	{pkcs11.CKR_USER_TOO_MANY_TYPES, "CKR_USER_TOO_MANY_TYPES", WaitDevice, "too many users are logged in to the token"},
	{pkcs11.CKR_WRAPPED_KEY_INVALID, "CKR_WRAPPED_KEY_INVALID", GiveUp, "the wrapped key is not authentic"},
	{pkcs11.CKR_WRAPPED_KEY_LEN_RANGE, "CKR_WRAPPED_KEY_LEN_RANGE", GiveUp, "the wrapped key has a wrong length"},
	{pkcs11.CKR_WRAPPING_KEY_HANDLE_INVALID, "CKR_WRAPPING_KEY_HANDLE_INVALID", FindKeys, "the wrapping key's handle is stale"},
	{pkcs11.CKR_WRAPPING_KEY_SIZE_RANGE, "CKR_WRAPPING_KEY_SIZE_RANGE", GiveUp, "the wrapping key has a wrong size"},
	{pkcs11.CKR_WRAPPING_KEY_TYPE_INCONSISTENT, "CKR_WRAPPING_KEY_TYPE_INCONSISTENT", GiveUp, "the wrapping key has the wrong type"},
	{pkcs11.CKR_RANDOM_SEED_NOT_SUPPORTED, "CKR_RANDOM_SEED_NOT_SUPPORTED", GiveUp, "the token takes no seed"},
	{pkcs11.CKR_RANDOM_NO_RNG, "CKR_RANDOM_NO_RNG", GiveUp, "the token has no random generator"},
	{pkcs11.CKR_DOMAIN_PARAMS_INVALID, "CKR_DOMAIN_PARAMS_INVALID", GiveUp, "the token rejects the curve's parameters"},
	{pkcs11.CKR_CURVE_NOT_SUPPORTED, "CKR_CURVE_NOT_SUPPORTED", GiveUp, "the token does not have the curve"},
	{pkcs11.CKR_BUFFER_TOO_SMALL, "CKR_BUFFER_TOO_SMALL", NewSession, "the token's answer is longer than the mechanism allows"},
	{pkcs11.CKR_SAVED_STATE_INVALID, "CKR_SAVED_STATE_INVALID", GiveUp, "the saved state is not valid"},
	{pkcs11.CKR_INFORMATION_SENSITIVE, "CKR_INFORMATION_SENSITIVE", GiveUp, "the information is sensitive"},
	{pkcs11.CKR_STATE_UNSAVEABLE, "CKR_STATE_UNSAVEABLE", GiveUp, "the state cannot be saved"},
	{pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED, "CKR_CRYPTOKI_NOT_INITIALIZED", Reinitialise, "the module is not initialised"},
	{pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED, "CKR_CRYPTOKI_ALREADY_INITIALIZED", GiveUp, "the module is already initialised in this process"},
	{pkcs11.CKR_MUTEX_BAD, "CKR_MUTEX_BAD", Reinitialise, "the module's locking is broken"},
	{pkcs11.CKR_MUTEX_NOT_LOCKED, "CKR_MUTEX_NOT_LOCKED", Reinitialise, "the module's locking is broken"},
	{pkcs11.CKR_NEW_PIN_MODE, "CKR_NEW_PIN_MODE", GiveUp, "the token wants a new PIN: set it with the vendor's tool"},
	{pkcs11.CKR_NEXT_OTP, "CKR_NEXT_OTP", GiveUp, "the token wants a one-time password"},
	{pkcs11.CKR_EXCEEDED_MAX_ITERATIONS, "CKR_EXCEEDED_MAX_ITERATIONS", GiveUp, "the token gave up generating"},
	{pkcs11.CKR_FIPS_SELF_TEST_FAILED, "CKR_FIPS_SELF_TEST_FAILED", GiveUp, "the token failed its self-test: do not use it"},
	{pkcs11.CKR_LIBRARY_LOAD_FAILED, "CKR_LIBRARY_LOAD_FAILED", GiveUp, "the module cannot load a library that it needs"},
	{pkcs11.CKR_PIN_TOO_WEAK, "CKR_PIN_TOO_WEAK", GiveUp, "the PIN is too weak"},
	{pkcs11.CKR_PUBLIC_KEY_INVALID, "CKR_PUBLIC_KEY_INVALID", GiveUp, "the public key is not valid"},
	{pkcs11.CKR_FUNCTION_REJECTED, "CKR_FUNCTION_REJECTED", GiveUp, "the token's owner rejected the call"},
}

// lookUp returns the row of a code. Codes that are not in the table, among them
// all vendor codes, cost a session: what they leave behind is unknown.
func lookUp(code uint) returnCode {
	for _, row := range returnCodes {
		if row.code == code {
			return row
		}
	}
	if code >= pkcs11.CKR_VENDOR_DEFINED {
		return returnCode{code, "vendor code", NewSession, "see the vendor's documentation"}
	}
	return returnCode{code, "unknown code", NewSession, "the code is not in PKCS#11 v2.40"}
}
