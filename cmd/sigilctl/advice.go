package main

// advice is what an operator does next after a failure with this reason, ""
// where the message says it.
func advice(reason string) string {
	switch reason {
	case "notFound":
		return "sigilctl wallet list shows the wallets of this user; those of other users are not shown"
	case "requestReused":
		return "a new request takes a new --request-id; a retry takes the same parameters"
	case "pinMismatch", "pinSyntax", "pinWeak":
		return "choose a PIN and type it again; nothing was sent"
	case "wrongPin":
		return "make sure of the PIN first: at 0 attempts the wallet is locked"
	case "locked", "frozen":
		return "only the operator of this host can open it again"
	case "deleted":
		return "the operator can take it back: sigilctl wallet restore"
	case "operatorOnly":
		return "run it as an operator of this host: socket.operators in its configuration"
	case "unlockRequired", "relock":
		return "give the PIN, or sigilctl unlock"
	case "termsExceeded":
		return "sign with the PIN, or unlock with other terms"
	case "tooManyUnlocks":
		return "sigilctl lock what is not needed any more"
	case "policyDenied":
		return "sigilctl policy show tells what this wallet may sign; its PIN can change that: sigilctl policy set"
	case "tooManyAccounts":
		return "the operator of this host decides; trying again changes nothing"
	case "importForbidden", "exportForbidden":
		return "the operator of this host decides: [custody] in its configuration"
	case "notExportable":
		return "it stays so: make an exportable wallet and move what this one holds"
	case "custodyUnsupported":
		return "sigilctl status tells what the token cannot do"
	case "addressTaken":
		return "sigilctl wallet show ADDRESS tells which wallet has it; a deleted one keeps it until it is purged"
	case "addressMismatch", reasonKey:
		return "make sure of the key; nothing was stored"
	case "recordCorrupt":
		return "do not write to this database: keep a copy, and tell the operator"
	case "tokenFault", "nonceReused":
		return "stop using this token, and tell the operator: its answers cannot be trusted"
	}
	return deviceAdvice(reason)
}

func deviceAdvice(reason string) string {
	switch reason {
	case "tokenUnavailable", "tpmUnavailable":
		return "try again; if it stays so, check the device and journalctl -u sigild"
	case "entropyFailed":
		return "try again with the same --request-id; if it stays so, check that source and journalctl -u sigild"
	case "auditUnavailable":
		return "check that the disk is not full, and journalctl -u sigild"
	case "measuredState":
		return "if this host was updated on purpose, the operator runs sigild reseal; if not, it was tampered with"
	case "keyGone":
		return "check that the right token is attached and belongs to this installation"
	case "methodNotFound":
		return "the daemon is older than this program: compare sigilctl --version with sigilctl status"
	case "internal":
		return "the daemon's log has the detail: journalctl -u sigild"
	case "conflict", "overloaded":
		return "try again"
	case "timeout", reasonLost:
		return "try again; if it stays so: journalctl -u sigild"
	}
	return ""
}
