package daemon

import (
	"slices"

	"github.com/sigild/sigild/ipc"
)

// What an error costs of a wallet's PIN attempts.
const (
	neverCharged  = "no"
	alwaysCharged = "yes"
	givenBack     = "given back" // a check that was begun was not made
)

// advice is what a caller is told to do about a reason, in docs/errors.md.
type advice struct {
	reason  string
	charged string
	do      string
}

// advices has one row for each reason that a caller can meet. The tests hold it
// against failures, the conversions beside it and package ipc.
func advices() []advice {
	return slices.Concat(userAdvices(), channelAdvices(), stateAdvices(), deviceAdvices(), requestAdvices())
}

// userAdvices are about what the user typed, and may do.
func userAdvices() []advice {
	return []advice{
		{"wrongPin", alwaysCharged, "Ask the user again and show `attemptsLeft`. Never try a PIN again by yourself."},
		{"locked", neverCharged, "Tell the user that the wallet is locked. Only the operator gives attempts back; nobody resets the PIN."},
		{"pinWait", neverCharged, "After the fourth wrong PIN in a row, and when 30 in 30 days are used up, the next check waits. Show `lockedUntil`; ask again then."},
		{"givenAll", neverCharged, "100 attempts were given back to this wallet. Somebody keeps guessing: find out who before anything else."},
		{"giveBack", neverCharged, "Give 1 to 10 attempts back at a time."},
		{"pinSyntax", neverCharged, "Ask again: a PIN has 6 to 64 printable ASCII characters. Without a PIN where one is needed this is the answer too."},
		{"pinWeak", neverCharged, "Ask for another new PIN: no runs, no repetitions, none of the commonest."},
		{"unlockRequired", neverCharged, "Send the PIN, or unlock the wallet first. The unlock that was there has ended."},
		{"relock", neverCharged, "Unlock again with the PIN: the token lost the keys. Nothing was signed."},
		{"termsExceeded", neverCharged, "Send the PIN with this one, or unlock with other terms. The unlock stays as it was."},
		{"policyDenied", neverCharged, "Do not repeat it. The wallet's policy says no; `sigild_setPolicy` changes it with the PIN."},
		{"undecided", neverCharged, "Do not repeat it; tell the operator. The payload does not show what a rule needs."},
	}
}

// channelAdvices are about how the PIN came.
func channelAdvices() []advice {
	return []advice{
		{ipc.ReasonPlainPINRefused, neverCharged, "Seal the PIN: this uid is not in `pin.plain_from`."},
		{ipc.ReasonPinKeyUnknown, neverCharged, "Fetch `sigild_pinKey` anew, have the PIN sealed to it and send that."},
		{ipc.ReasonSealedPINExpired, neverCharged, "Fetch `sigild_pinKey` anew, have the PIN sealed by its time and send that; compare the clocks if it stays."},
		{ipc.ReasonSealedPINUsed, neverCharged, "Have the PIN sealed anew: a block is good for one request. The same request, byte by byte, gets the first answer again, unless that is not kept or the wallet may not sign any more as it did then."},
		{ipc.ReasonSealedPINInvalid, neverCharged, "Do not repeat it: the block was sealed for other parameters, or changed on the way."},
	}
}

// stateAdvices are about wallets.
func stateAdvices() []advice {
	return []advice{
		{"notFound", neverCharged, "Check the id, address or account. A wallet of another relay is not found either."},
		{"frozen", neverCharged, "Ask the operator, who alone unfreezes."},
		{"deleted", neverCharged, "Ask the operator to restore it before it is purged."},
		{"operatorOnly", neverCharged, "Have an operator do it (`socket.operators`)."},
		{"requestReused", neverCharged, "Use a new `requestId`: this one was carried out with other parameters, or what it did was changed since (another policy, a deletion taken back)."},
		{"externalIdTaken", neverCharged, "Look the other wallet up by its `externalId`."},
		{"addressTaken", neverCharged, "Look the other wallet up by its address. A deleted one keeps it until it is purged."},
		{"addressMismatch", neverCharged, "Ask for the key again: it belongs to another address than the one that was said."},
		{"keyInvalid", neverCharged, "Ask for the key again: 32 bytes, from 1 to the curve's order less 1."},
		{"importForbidden", neverCharged, "Ask the operator, who allows imports by `custody.import`."},
		{"exportForbidden", neverCharged, "Ask the operator, who allows exportable wallets and exports by `custody.export`."},
		{"notExportable", neverCharged, "Make another wallet that is exportable and move what this one holds: it stays as it was made."},
		{"conflict", neverCharged, "Repeat the same request, with the same `requestId`."},
		{"tooManyAccounts", neverCharged, "Make another wallet: one has at most 256 accounts."},
		{"wrongSender", neverCharged, "Leave `from` out, or name the account that has this address."},
		{"digest", neverCharged, "Change the payload: its digest is 0 modulo the curve's order, which nobody will meet by chance."},
		{"recordCorrupt", givenBack, "Stop and call the operator: the database was changed outside the daemon. Other wallets go on."},
		{"keyGone", neverCharged, "Call the operator: the wallet needs a token key or host key that is not there."},
	}
}

// deviceAdvices are about the token, the TPM, KMS and the disk.
func deviceAdvices() []advice {
	return []advice{
		{"databaseRefused", givenBack, "The database is not the one that the TPM's counter stands for: an older copy, or the TPM was replaced. Nothing that needs a PIN or changes a wallet is done until the operator runs `sigild check`, and accepts it or brings the right database back."},
		{"databaseChanged", neverCharged, "The database was changed outside the daemon. The operator runs `sigild check` and brings the last good copy back."},
		{"anchorUnavailable", givenBack, "The TPM did not confirm the change. Ask again with the same `requestId`: it is carried out once."},
		{"tokenUnavailable", givenBack, "Repeat after `retryAfter`. If it stays, the operator looks at the token."},
		{"tpmUnavailable", givenBack, "Repeat after `retryAfter`. If it stays, the operator looks at the TPM."},
		{"measuredState", givenBack, "Call the operator: firmware, boot loader or kernel changed since the keys were bound."},
		{"entropyFailed", neverCharged, "Repeat the creation with the same `requestId` after `retryAfter`. Only creation needs the sources; `field` names the one that failed."},
		{"auditUnavailable", neverCharged, "Repeat later; the operator looks at the disk. Nothing is signed that is not audited."},
		{"diskUnavailable", givenBack, "Repeat the same request, with the same `requestId`, after `retryAfter`; the operator looks at the disk."},
		{"tokenFault", neverCharged, "Do not repeat it; call the operator. The token's answer was wrong and did not leave, or the token refuses the wallet's own key."},
		{"nonceReused", neverCharged, "Do not repeat it; call the operator at once. The token repeated a nonce; the signature did not leave."},
	}
}

// requestAdvices are about requests that were not carried out.
func requestAdvices() []advice {
	return []advice{
		{ipc.ReasonInvalidParams, neverCharged, "Mend the parameter at `field`."},
		{ipc.ReasonMethodNotFound, neverCharged, "Check the name, and `apiVersion` of `sigild_status`."},
		{ipc.ReasonInvalidRequest, neverCharged, "Mend the JSON-RPC envelope."},
		{"chainNotConfigured", neverCharged, "Set `ethereum.chain_id`, or tell the library its network. Only `eth_chainId` and `net_version` need it."},
		{ipc.ReasonParse, neverCharged, "Send JSON. When no value could begin, the connection is closed."},
		{ipc.ReasonTooLarge, neverCharged, "Send less (`limits.message_bytes`)."},
		{ipc.ReasonTooDeep, neverCharged, "Nest less (`limits.depth`)."},
		{ipc.ReasonBatchTooLong, neverCharged, "Send shorter batches (`limits.batch`)."},
		{ipc.ReasonOverloaded, neverCharged, "Repeat after `retryAfter`, with fewer at a time. With sealed PINs, more than `limits.sealed_pins` are kept in mind for this uid."},
		{"tooManyUnlocks", neverCharged, "Lock wallets that are not needed, or send the PIN with each request (`limits.unlocks`, `limits.unlocks_per_uid`)."},
		{ipc.ReasonPeerNotAllowed, neverCharged, "Ask the operator to allow this uid (`socket.allow`). The connection is closed."},
		{"custodyUnsupported", neverCharged, "Use another token, or wallets that the token makes and keeps. `sigild_status` has the token's answer."},
		{ipc.ReasonTimeout, givenBack, "Repeat with the same `requestId`. A signature may have been made; it did not leave."},
		{ipc.ReasonInternal, "see `attemptsLeft`", "Look at the daemon's log: it names what this answer does not. Repeating rarely helps."},
	}
}
