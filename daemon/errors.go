package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sigild/sigild/daemon/audit"
	"github.com/sigild/sigild/daemon/entropy"
	"github.com/sigild/sigild/daemon/eth"
	"github.com/sigild/sigild/daemon/guard"
	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/store"
	"github.com/sigild/sigild/daemon/wallet"
	"github.com/sigild/sigild/hsm"
	"github.com/sigild/sigild/ipc"
	"github.com/sigild/sigild/tpm"
)

// Exit codes of sigild. 78 is EX_CONFIG of sysexits: a supervisor must not
// start it again before somebody mended something.
const (
	ExitOK     = 0
	ExitFailed = 1
	ExitConfig = 78
)

// ExitCode says how a process whose run ended with err exits.
func ExitCode(err error) int {
	if err == nil {
		return ExitOK
	}
	for _, permanent := range mustBeMended() {
		if errors.Is(err, permanent) {
			return ExitConfig
		}
	}
	return ExitFailed
}

// mustBeMended are the faults of a start that the next start finds again. A
// device that does not answer is not among them: it may come back.
func mustBeMended() []error {
	return []error{
		ErrConfig, ErrLoginRefused, ErrPINSource, ErrNotProvisioned, ErrProvisioned, ErrInstallation, ErrEnforcement, ErrUnmeasured, ErrOwner,
		ErrAnchorMode, ErrAnchorFormer,
		store.ErrNotDatabase, store.ErrSchema, guard.ErrCorrupt, audit.ErrPlace,
		ipc.ErrLimits, ipc.ErrSocketPath, ipc.ErrNotSocket, ipc.ErrUnsafeDirectory,
		hsm.ErrKeyMissing, hsm.ErrKeyDuplicate, hsm.ErrKeyAttributes, hsm.ErrKeyChanged,
		tpm.ErrPCRMismatch, tpm.ErrApproval, tpm.ErrSRKChanged, tpm.ErrObjectForeign, tpm.ErrObjectPolicy,
	}
}

// failure is one row of the table of errors that a caller can meet.
type failure struct {
	reason  string
	code    int
	is      error // matched by errors.Is
	message string
	free    bool // it came before any charge, and says so
	retry   bool // the same call may succeed later
}

// Codes: -32000 server error; -32001 resource not found; -32002 resource
// unavailable; -32003 rejected; -32005 limit exceeded (EIP-1474); 4100
// unauthorized (EIP-1193).
const (
	codeNotFound    = -32001
	codeUnavailable = -32002
	codeRejected    = -32003
)

// failures is the one place where errors get their names on the wire. What is
// not in it is "internal", with the detail in the log only.
func failures() []failure {
	return append(sealedFailures(), []failure{
		{"notFound", codeNotFound, wallet.ErrNotFound, "no such wallet or account", true, false},
		{"requestReused", ipc.CodeInvalidParams, wallet.ErrRequestReused, "this requestId was used with other parameters, or for what was changed since", true, false},
		{"conflict", ipc.CodeServer, wallet.ErrConflict, "the wallet was changed at the same time", false, true},
		{"frozen", codeRejected, wallet.ErrFrozen, "the wallet is frozen", true, false},
		{"deleted", codeRejected, wallet.ErrDeleted, "the wallet is deleted; the operator can restore it until it is purged", true, false},
		{"operatorOnly", ipc.CodeUnauthorized, wallet.ErrOperator, "only an operator may do this", true, false},
		{"externalIdTaken", ipc.CodeInvalidParams, wallet.ErrExternalID, "another wallet has this externalId", true, false},
		{"addressTaken", ipc.CodeInvalidParams, wallet.ErrAddressTaken, "a wallet has this address already, or had it and is not purged yet", true, false},
		{"addressMismatch", ipc.CodeInvalidParams, wallet.ErrAddress, "the address is not that of the key; nothing was stored", true, false},
		{"keyInvalid", ipc.CodeInvalidParams, wallet.ErrKey, "this is not a private key of secp256k1", true, false},
		{"importForbidden", codeRejected, wallet.ErrImportForbidden, "this installation takes no keys from elsewhere (custody.import)", true, false},
		{"exportForbidden", codeRejected, wallet.ErrExportForbidden, "this installation makes no exportable wallets and gives no keys out (custody.export)", true, false},
		{"notExportable", codeRejected, wallet.ErrNotExportable, "the wallet was not made exportable: its keys never leave the token", true, false},
		{"custodyUnsupported", codeUnavailable, wallet.ErrCustody, "the token cannot do this (sigild_status: custody)", true, false},
		{"unlockRequired", ipc.CodeUnauthorized, wallet.ErrUnlockRequired, "the wallet is not unlocked: give the PIN, or unlock it (sigilctl unlock)", true, false},
		{"relock", ipc.CodeUnauthorized, wallet.ErrRelock, "the token lost the unlocked keys: unlock the wallet again", true, false},
		{"tooManyUnlocks", ipc.CodeLimitExceeded, wallet.ErrTooManyUnlocks, "too many wallets are unlocked", true, true},
		{"overloaded", ipc.CodeLimitExceeded, wallet.ErrOverloaded, "too many PIN checks are waiting", true, true},
		{"tooManyAccounts", codeRejected, wallet.ErrTooManyAccounts, "the wallet is full", true, false},
		{"wrongSender", ipc.CodeInvalidParams, wallet.ErrSender, "from is not the address of this account", true, false},
		{"undecided", codeRejected, wallet.ErrUndecided, "the policy could not decide: the request lacks what it decides on", true, false},
		{"digest", ipc.CodeInvalidParams, wallet.ErrDigest, "this digest cannot be signed", false, false},
		{"databaseRefused", codeUnavailable, guard.ErrRefused, "the database is not known to be the latest: PINs and changes are refused until an operator looks (sigild check)", false, false},
		{"anchorUnavailable", codeUnavailable, guard.ErrUnanchored, "the TPM did not confirm the change; ask again with the same requestId", false, true},
		{"anchorUnavailable", codeUnavailable, guard.ErrUnconfirmed, "the TPM does not confirm an earlier change yet; nothing was changed", true, true},
		{"anchorUnavailable", codeUnavailable, errNotCompared, "the database was not compared with the TPM's counter yet", true, true},
		{"databaseChanged", ipc.CodeServer, store.ErrDamaged, "the database file is damaged", true, false},
		{"databaseChanged", ipc.CodeServer, guard.ErrTree, "the database was changed outside the daemon", true, false},
		{"giveBack", ipc.CodeInvalidParams, guard.ErrGiveBack, "1 to 10 attempts are given back at a time", true, false},
		{"givenAll", codeRejected, guard.ErrGivenAll, "no more attempts are given back to this wallet", true, false},
		{"locked", ipc.CodeUnauthorized, guard.ErrLocked, "the wallet is locked: no PIN attempt is left", true, false},
		{"recordCorrupt", ipc.CodeServer, guard.ErrCorrupt, "the wallet's record or attempt counter is missing, changed outside the daemon or not the latest", true, false},
		{"recordCorrupt", ipc.CodeServer, seal.ErrCorrupt, "the wallet's record was changed outside the daemon", true, false},
		{"pinSyntax", ipc.CodeInvalidParams, seal.ErrPINSyntax, "a PIN has 6 to 64 printable ASCII characters", true, false},
		{"pinWeak", ipc.CodeInvalidParams, seal.ErrPINWeak, "this PIN is too easy to guess: no runs, repetitions or common PINs", true, false},
		{"tokenFault", codeUnavailable, wallet.ErrToken, "the token gave a wrong answer; nothing left the daemon", false, false},
		{"tokenFault", codeUnavailable, hsm.ErrTokenAnswer, "the token gave a wrong answer; nothing left the daemon", false, false},
		{"tokenFault", codeUnavailable, hsm.ErrWrappedKey, "the token refuses the wallet's wrapped key", false, false},
		{"nonceReused", codeUnavailable, wallet.ErrNonceReused, "the token repeated a signature nonce; nothing left the daemon", false, false},
		{"measuredState", codeUnavailable, tpm.ErrPCRMismatch, "the host is not in the measured state that its keys are bound to", true, false},
		{"tpmUnavailable", codeUnavailable, tpm.ErrUnavailable, "the TPM refused or does not answer", true, true},
		{"auditUnavailable", codeUnavailable, audit.ErrClosed, "the audit log cannot be written, so nothing is signed", false, true},
		{"auditUnavailable", codeUnavailable, audit.ErrWrite, "the audit log cannot be written, so nothing is signed", false, true},
		{"keyGone", codeUnavailable, ErrKeyGone, "the record needs a key that this installation does not have", true, false},
		{"chainNotConfigured", codeUnavailable, errNoChain, "sigild follows no chain: set chain_id under [ethereum] in its configuration, or tell the library its network", true, false},
		{"timeout", codeUnavailable, context.DeadlineExceeded, "the request took too long", false, true},
	}...)
}

// wireError gives the error that a caller gets for err. An *ipc.Error and
// anything unknown pass: the server makes the latter "internal".
func wireError(err error) error {
	for _, convert := range []func(error) *ipc.Error{refusedDatabase, pinFailure, waitFailure, rateFailure, fieldFailure, termsFailure, policyFailure, sourceFailure, anchorFailure, outOfService, tokenFailure, tpmFailure, listed, diskFailure} {
		if e := convert(err); e != nil {
			if charged := chargeable(err); *charged {
				e.Charged = charged // whatever else went wrong: the attempt is gone
			}
			return fmt.Errorf("%w: %w", e, err)
		}
	}
	return err
}

func listed(err error) *ipc.Error {
	for _, f := range failures() {
		if errors.Is(err, f.is) {
			return f.error()
		}
	}
	return nil
}

func (f failure) error() *ipc.Error {
	e := &ipc.Error{Code: f.code, Reason: f.reason, Message: f.message}
	if f.free {
		e.Charged = new(bool)
	}
	if f.retry {
		after := 1.0
		e.RetryAfter = &after
	}
	return e
}

func pinFailure(err error) *ipc.Error {
	var wrong *wallet.PINError
	if !errors.As(err, &wrong) {
		return nil
	}
	left, was := int(wrong.Attempts.Left), true
	e := &ipc.Error{Code: ipc.CodeUnauthorized, Reason: "wrongPin", Message: "wrong PIN",
		AttemptsLeft: &left, Charged: &was}
	if wrong.Attempts.Wait > 0 {
		e.RetryAfter, e.LockedUntil = waitEnds(wrong.Attempts.Wait)
	}
	return e
}

// refusedDatabase comes before the devices' faults that may stand beside it: it
// does not pass with them.
func refusedDatabase(err error) *ipc.Error {
	if !errors.Is(err, guard.ErrRefused) {
		return nil
	}
	return listed(guard.ErrRefused)
}

// waitFailure is a check that came too early.
func waitFailure(err error) *ipc.Error {
	var waits *guard.WaitError
	if !errors.As(err, &waits) {
		return nil
	}
	after, until := waitEnds(waits.For)
	return &ipc.Error{Code: ipc.CodeUnauthorized, Reason: "pinWait", Charged: new(bool), RetryAfter: after, LockedUntil: until,
		Message: "after so many wrong PINs the next check must wait"}
}

// rateFailure is a change that came too soon after others of the same uid.
func rateFailure(err error) *ipc.Error {
	var rate *wallet.RateError
	if !errors.As(err, &rate) {
		return nil
	}
	return ipc.Overloaded("too many changes of this user (limits.changes_per_minute)", rate.After)
}

// waitEnds tells when a PIN is checked again. The time of day is for people: the
// TPM's clock decides.
func waitEnds(wait time.Duration) (after *float64, until *ipc.Time) {
	seconds, at := wait.Seconds(), ipc.At(time.Now().Add(wait))
	return &seconds, &at
}

func fieldFailure(err error) *ipc.Error {
	var field *wallet.FieldError
	if errors.As(err, &field) {
		return ipc.InvalidParams(field.Field, field.Problem)
	}
	var payload *eth.FieldError
	if errors.As(err, &payload) {
		return ipc.InvalidParams(payload.Field, payload.Problem)
	}
	return nil
}

func termsFailure(err error) *ipc.Error {
	var terms *wallet.TermsError
	if !errors.As(err, &terms) {
		return nil
	}
	return &ipc.Error{Code: codeRejected, Reason: "termsExceeded", Message: terms.Error(), Charged: new(bool)}
}

func policyFailure(err error) *ipc.Error {
	var denied *wallet.DeniedError
	if !errors.As(err, &denied) {
		return nil
	}
	return &ipc.Error{Code: codeRejected, Reason: "policyDenied", Message: denied.Error(), Charged: new(bool)}
}

// chargeable says whether a device's fault cost an attempt.
func chargeable(err error) *bool {
	charged := errors.Is(err, wallet.ErrChargeStands) || errors.Is(err, guard.ErrChargeStands)
	return &charged
}

// sourceFailure names the source of randomness that stopped a creation.
func sourceFailure(err error) *ipc.Error {
	var source *entropy.SourceError
	if !errors.As(err, &source) {
		return nil
	}
	after := 5.0
	return &ipc.Error{Code: codeUnavailable, Reason: "entropyFailed", RetryAfter: &after, Field: source.Source,
		Message: fmt.Sprintf("the source of randomness %q was refused (%s); no wallet was made", source.Source, source.Reason)}
}

func tokenFailure(err error) *ipc.Error {
	var failed *hsm.Error
	var away *hsm.UnavailableError
	hung := errors.Is(err, hsm.ErrHung)
	if !errors.As(err, &failed) && !errors.As(err, &away) && !hung &&
		!errors.Is(err, hsm.ErrObjectLost) && !errors.Is(err, hsm.ErrNotLoggedIn) {
		return nil
	}
	after, message := 1.0, "the token refused or does not answer"
	if away != nil {
		after = away.RetryAfter.Seconds()
	}
	return &ipc.Error{Code: codeUnavailable, Reason: "tokenUnavailable", RetryAfter: &after,
		Charged: chargeable(err), Message: message}
}

// anchorFailure comes before tpmFailure, which such an error holds too: a change
// may be on disk, so that the caller must not take it for one that was not begun.
func anchorFailure(err error) *ipc.Error {
	for _, is := range []error{guard.ErrUnanchored, guard.ErrUnconfirmed, errNotCompared} {
		if errors.Is(err, is) {
			e := listed(is)
			e.Charged = chargeable(err)
			return e
		}
	}
	return nil
}

// tpmFailure is for what the TPM answered, or did not.
func tpmFailure(err error) *ipc.Error {
	var refused *tpm.CommandError
	if !errors.As(err, &refused) && !errors.Is(err, tpm.ErrUnavailable) && !errors.Is(err, tpm.ErrSRKChanged) {
		return nil
	}
	after := 1.0
	return &ipc.Error{Code: codeUnavailable, Reason: "tpmUnavailable", RetryAfter: &after,
		Charged: chargeable(err), Message: "the TPM refused or does not answer"}
}

// diskFailure is for what the disk below the database answered.
func diskFailure(err error) *ipc.Error {
	if !onDisk(err) {
		return nil
	}
	after := 5.0
	return &ipc.Error{Code: codeUnavailable, Reason: "diskUnavailable", RetryAfter: &after, Charged: chargeable(err),
		Message: "the disk is full or fails; nothing is kept that was not acknowledged"}
}
