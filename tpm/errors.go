package tpm

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

var (
	// ErrUnavailable is returned when the TPM does not answer, answers with
	// something that is not a valid response, or lost our handles (it was
	// reset). Every call returns it until Reopen succeeds.
	ErrUnavailable = errors.New("tpm: device unavailable")

	// ErrClosed is returned when the TPM or the HMACKey was closed.
	ErrClosed = errors.New("tpm: closed")

	// ErrSRKChanged is returned when the storage root key is not the pinned
	// one: another TPM, a cleared TPM, or someone between us and the TPM.
	// Every later call on the same TPM value returns it too.
	ErrSRKChanged = errors.New("tpm: the storage root key is not the one pinned at provisioning; " +
		"check that this is the right TPM and that it was not cleared")

	// ErrObjectPolicy is returned when a blob's authorisation policy is not
	// the one that the Authority defines.
	ErrObjectPolicy = errors.New("tpm: the object is under another policy; it was not made for this installation and policy key")

	// ErrObjectType is returned when a blob is not the kind of object that
	// the call is for, or its attributes are weaker than the ones we make.
	ErrObjectType = errors.New("tpm: the object's public area is not of the expected kind")

	// ErrObjectForeign is returned when the TPM refuses to load a blob under
	// its storage root key: another TPM made it, or it was altered.
	ErrObjectForeign = errors.New("tpm: the object does not belong to this TPM or was altered; restore it from the recovery code")

	// ErrEncoding is returned when stored bytes are not the canonical
	// encoding of a Blob or an Approval.
	ErrEncoding = errors.New("tpm: malformed encoding")

	// ErrApproval is returned when an approval of the present PCR values is
	// there but does not verify, or no usable approval is there at all.
	ErrApproval = errors.New("tpm: no approval with a valid signature of the policy key; " +
		"if you know why the present state is another, `sigild recover` binds the host to it")

	// ErrPCRMismatch is matched by PCRMismatchError.
	ErrPCRMismatch = errors.New("tpm: the platform is not in an approved state")

	// ErrProfile is returned for a PCR profile or selection that is unknown,
	// empty, out of range, contradictory, or too weak.
	ErrProfile = errors.New("tpm: unusable PCR profile")

	// ErrCounterMissing is returned when no NV index is defined at the handle.
	ErrCounterMissing = errors.New("tpm: no NV counter is defined at this handle")

	// ErrCounterExists is returned when the handle is already in use.
	ErrCounterExists = errors.New("tpm: an NV index is already defined at this handle")

	// ErrCounterChanged is returned when the NV index is not the counter that
	// was pinned: other type, attributes or name.
	ErrCounterChanged = errors.New("tpm: the NV index is not the counter that was pinned; it was deleted and defined anew")

	// ErrCounterAuth is returned when the TPM refuses the counter's
	// authorisation value.
	ErrCounterAuth = errors.New("tpm: wrong authorisation value for the NV counter")

	// ErrArgument is returned for an argument outside its documented range.
	// Nothing was sent to the TPM.
	ErrArgument = errors.New("tpm: invalid argument")
)

// CommandError is the refusal of one TPM command. It unwraps to the go-tpm
// response code, so that errors.Is(err, tpm2.TPMRCPolicyFail) works.
type CommandError struct {
	Command string // as in TPM 2.0 Part 3, for example "TPM2_Load"
	Code    uint32 // TPM_RC, Part 2, section 6.6
}

// Error names the command and explains the response code.
func (e *CommandError) Error() string {
	return fmt.Sprintf("tpm: %s: %v (0x%03x)", e.Command, tpm2.TPMRC(e.Code), e.Code)
}

// Unwrap returns the response code as a tpm2.TPMRC.
func (e *CommandError) Unwrap() error { return tpm2.TPMRC(e.Code) }

// commandError turns a response code inside err into a *CommandError and
// reports whether there was one.
func commandError(command string, err error) (*CommandError, bool) {
	var rc tpm2.TPMRC
	if !errors.As(err, &rc) {
		return nil, false
	}
	return &CommandError{Command: command, Code: uint32(rc)}, true
}

// losesHandles reports whether the response code says that what we had loaded
// is gone, or that the TPM no longer works at all. TPM_RC_REFERENCE_H0 to _H6
// and _S0 to _S6 are 0x910 to 0x91e (Part 2, section 6.6.3).
func losesHandles(err error) bool {
	var refused *CommandError
	if !errors.As(err, &refused) {
		return false
	}
	if refused.Code >= uint32(tpm2.TPMRCReferenceH0) && refused.Code <= uint32(tpm2.TPMRCReferenceS6) {
		return true
	}
	return errors.Is(err, tpm2.TPMRCInitialize) || errors.Is(err, tpm2.TPMRCFailure)
}

// outOfSessions reports whether the TPM has no place for another session. This
// connection needs three at most: others were left over where a command and then its
// session's flush were refused. Another connection begins without them.
func outOfSessions(err error) bool {
	return errors.Is(err, tpm2.TPMRCSessionMemory) || errors.Is(err, tpm2.TPMRCSessionHandles)
}

// unavailable wraps a cause as ErrUnavailable.
func unavailable(cause error) error {
	return fmt.Errorf("%w: %w", ErrUnavailable, cause)
}

// invalid reports a bad argument.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrArgument, fmt.Sprintf(format, args...))
}
