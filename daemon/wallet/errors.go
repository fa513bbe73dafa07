package wallet

import (
	"errors"
	"fmt"
)

var (
	// ErrNotFound is returned for a wallet or account that does not exist or
	// belongs to another relay: the two are not told apart.
	ErrNotFound = errors.New("no such wallet or account")
	// ErrRequestReused is returned when a request id comes again with other
	// content, or when what it made is not in force any more.
	ErrRequestReused = errors.New("this request id was used before, with other parameters or for what was changed since")
	// ErrConflict is returned when the record changed between reading and
	// writing it; nothing was written.
	ErrConflict = errors.New("the wallet was changed at the same time")
	// ErrFrozen is returned for a frozen wallet, before any attempt is charged.
	ErrFrozen = errors.New("the wallet is frozen")
	// ErrOperator is returned when something is asked that only an operator may.
	ErrOperator = errors.New("only an operator may do this")
	// ErrExternalID is returned for an external id that another wallet of the
	// relay has.
	ErrExternalID = errors.New("another wallet has this external id")
	// ErrAddressTaken is returned for an address that a wallet of the relay has
	// already, also one that is deleted and not purged yet.
	ErrAddressTaken = errors.New("a wallet has this address already")
	// ErrAddress is returned for an imported key that belongs to another address
	// than was said.
	ErrAddress = errors.New("the address is not that of the key")
	// ErrKey is returned for an imported key that secp256k1 does not have.
	ErrKey = errors.New("not a private key of secp256k1")
	// ErrImportForbidden is returned when the configuration lets no key in.
	ErrImportForbidden = errors.New("this installation takes no keys from elsewhere")
	// ErrExportForbidden is returned when the configuration lets no key out.
	ErrExportForbidden = errors.New("this installation gives no keys out")
	// ErrNotExportable is returned for a wallet that was not made exportable.
	ErrNotExportable = errors.New("the wallet was not made exportable")
	// ErrCustody is returned when the token cannot take keys in, or give them out.
	ErrCustody = errors.New("the token does not do this")
	// ErrDeleted is returned for a wallet that was deleted and can still be
	// restored by the operator.
	ErrDeleted = errors.New("the wallet is deleted")
	// ErrUnlockRequired is returned for a request without a PIN when the peer
	// holds no unlock of the wallet.
	ErrUnlockRequired = errors.New("the wallet is not unlocked: give the PIN or unlock it")
	// ErrRelock is returned once when an unlock ended because the token lost
	// the keys: unlock again.
	ErrRelock = errors.New("the token lost the unlocked keys: unlock the wallet again")
	// ErrObjectLost is returned by a Token for a session object that is gone
	// with its session.
	ErrObjectLost = errors.New("the token lost a session object")
	// ErrTooManyUnlocks is returned when no more wallets can be unlocked; none
	// is evicted for another.
	ErrTooManyUnlocks = errors.New("too many wallets are unlocked")
	// ErrOverloaded is returned, uncharged, when too many PIN checks wait.
	ErrOverloaded = errors.New("too many PIN checks are waiting")
	// ErrChargeStands is returned beside a device's fault when the attempt could
	// not be given back.
	ErrChargeStands = errors.New("the attempt could not be given back")
	// ErrSender is returned when a transaction's "from" is not the account's
	// address.
	ErrSender = errors.New("from is not the address of this account")
	// ErrDigest is returned for a digest that is 0 modulo the curve's order.
	ErrDigest = errors.New("this digest cannot be signed")
	// ErrToken is returned when the token gave an answer that is wrong: a
	// signature that does not verify, a point that is not on the curve.
	ErrToken = errors.New("the token gave a wrong answer")
	// ErrNonceReused is returned when the token used one signature nonce for
	// two digests. Nothing leaves: the two together would give the key away.
	ErrNonceReused = errors.New("the token repeated a signature nonce")
	// ErrUndecided is returned when the policy could not decide: facts are
	// missing or the policy is not sound. Nothing is signed.
	ErrUndecided = errors.New("the policy could not decide")
	// ErrTooManyAccounts is returned when a wallet is full.
	ErrTooManyAccounts = fmt.Errorf("a wallet has at most %d accounts", MaxAccounts)
)

// MaxAccounts is how many accounts one wallet holds.
const MaxAccounts = 256

// FieldError is returned for a parameter that the caller can mend.
type FieldError struct{ Field, Problem string }

func (e *FieldError) Error() string { return e.Field + ": " + e.Problem }

// PINError is returned for a wrong PIN. The attempt is charged.
type PINError struct{ Attempts Attempts }

func (e *PINError) Error() string {
	if e.Attempts.Wait > 0 {
		return fmt.Sprintf("wrong PIN, %d attempts left, the next in %s", e.Attempts.Left, e.Attempts.Wait)
	}
	return fmt.Sprintf("wrong PIN, %d attempts left", e.Attempts.Left)
}

// DeniedError is returned when policy refuses, before any attempt is charged.
type DeniedError struct{ Reason string }

func (e *DeniedError) Error() string { return "refused by policy: " + e.Reason }

// reasonOf is what the audit log says of a request that was refused or failed.
func reasonOf(err error) string {
	var wrong *PINError
	var denied *DeniedError
	switch {
	case errors.As(err, &wrong):
		return "wrong PIN"
	case errors.As(err, &denied):
		return "denied by policy"
	}
	return err.Error()
}
