package main

import (
	"slices"
	"strings"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/miekg/pkcs11"

	"github.com/sigild/sigild/daemon/entropy/kmstest"
)

// deviceFault is one way in which a device fails. One that has no end is over
// with the call that it hits, and is begun anew for each operation.
type deviceFault struct {
	device, name string
	begin        func(*faultHost)
	end          func(*faultHost)
	function     string // of one that fails once: whose calls show that it met somebody

	// What must be seen: words, or several with "|" between them where the moment
	// decides.
	state string
	gets  [operationCount]string
}

// seenAs completes a fault by what must be seen of it.
func (f deviceFault) seenAs(state, create, unlock, byPIN, unlocked string) deviceFault {
	f.state, f.gets = state, [operationCount]string{create, unlock, byPIN, unlocked}
	return f
}

// everybody says that all callers get the same.
func (f deviceFault) everybody(state, got string) deviceFault {
	return f.seenAs(state, got, got, got, got)
}

// oneOf reports whether a word is among those expected.
func oneOf(word, expected string) bool { return slices.Contains(strings.Split(expected, "|"), word) }

// notMet is what is said of a fault that no call met.
const notMet = "not met"

// The functions that create, unlock and sign call.
const (
	generate = "C_GenerateKeyPair"
	signing  = "C_Sign"
	opening  = "C_OpenSession"
)

const everySignHangs = "every C_Sign hangs"

// deviceFaults are the rows of docs/faults.md.
func deviceFaults() []deviceFault {
	return append(append(tokenOutages(), tpmOutages()...), kmsOutages()...)
}

// once is a token's function that fails in one call, which nobody notices.
func once(function, code string, value uint) deviceFault {
	return deviceFault{device: "token", name: function + " returns " + code + " once", function: function,
		begin: func(h *faultHost) { h.token.FailOnce(function, value) }}.everybody("–", "ok")
}

// standing is one that fails until it is ended.
func standing(function, code string, value uint) deviceFault {
	return lasting(function+" returns "+code, func(h *faultHost) { h.token.Fail(function, value) })
}

// lasting is a fault of the token that lasts until it is ended.
func lasting(name string, begin func(*faultHost)) deviceFault {
	return deviceFault{device: "token", name: name, begin: begin, end: healToken}
}

func healToken(h *faultHost) { h.token.ClearAll() }

// tokenOutages: "relock" is the end of an unlock whose keys were lost.
func tokenOutages() []deviceFault {
	const away, fails, unusable, refused = "failing(tokenAway)", "degraded(tokenErrors)", "failing(tokenErrors)|failing(tokenProbe, tokenErrors)", "tokenUnavailable"
	lost := func(name string, begin func(*faultHost)) deviceFault {
		return deviceFault{device: "token", name: name, begin: begin}.seenAs("–", "ok", "ok", "ok", "relock")
	}
	pulled := func(name string, offset uint) deviceFault {
		return deviceFault{device: "token", name: name, begin: func(h *faultHost) { h.token.Vanish() },
			end: func(h *faultHost) { h.token.Return(offset) }}.seenAs(away, refused, refused, refused, refused+"|relock")
	}
	noSession := once(opening, "CKR_SESSION_COUNT", pkcs11.CKR_SESSION_COUNT).
		seenAs("–", "ok|"+refused, "ok|"+refused, "ok|"+refused, "relock|"+refused)
	noSession.name += ", after all sessions were lost"
	failOnce := noSession.begin
	noSession.begin = func(h *faultHost) { failOnce(h); h.token.LoseSessions() }
	return []deviceFault{
		lost("all sessions are lost", func(h *faultHost) { h.token.LoseSessions() }),
		lost("somebody logs out", func(h *faultHost) { h.token.LogOut() }),
		pulled("pulled out and put in again", 0),
		pulled("put into another slot", 1000),
		once(signing, "CKR_SESSION_HANDLE_INVALID", pkcs11.CKR_SESSION_HANDLE_INVALID),
		once(signing, "CKR_GENERAL_ERROR", pkcs11.CKR_GENERAL_ERROR),
		once(signing, "CKR_DEVICE_ERROR", pkcs11.CKR_DEVICE_ERROR),
		once(signing, "CKR_DEVICE_MEMORY", pkcs11.CKR_DEVICE_MEMORY),
		once(signing, "a vendor code", 0x80000123),
		once("C_SignInit", "CKR_USER_NOT_LOGGED_IN", pkcs11.CKR_USER_NOT_LOGGED_IN).seenAs("–", "ok", "ok", "ok", "relock"),
		once("C_SignInit", "CKR_KEY_HANDLE_INVALID", pkcs11.CKR_KEY_HANDLE_INVALID).seenAs("–", "ok", "ok", "ok", "ok|relock"),
		once("C_SignInit", "CKR_CRYPTOKI_NOT_INITIALIZED", pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED).seenAs("–", "ok", "ok", "ok", "relock"),
		once("C_SignInit", "CKR_OPERATION_ACTIVE", pkcs11.CKR_OPERATION_ACTIVE),
		once("C_UnwrapKey", "CKR_DEVICE_REMOVED", pkcs11.CKR_DEVICE_REMOVED).seenAs("–", "ok|"+notMet, "ok", "ok", notMet+"|ok|relock"),
		noSession,
		standing(signing, "CKR_DEVICE_ERROR", pkcs11.CKR_DEVICE_ERROR).everybody(away, refused),
		standing(signing, "CKR_FUNCTION_FAILED", pkcs11.CKR_FUNCTION_FAILED).everybody(away, refused),
		standing("C_SignInit", "CKR_MECHANISM_INVALID", pkcs11.CKR_MECHANISM_INVALID).everybody(unusable+"|"+away, refused),
		standing("C_UnwrapKey", "CKR_GENERAL_ERROR", pkcs11.CKR_GENERAL_ERROR).seenAs(unusable, refused, refused, refused, "ok"),
		standing("C_UnwrapKey", "CKR_TEMPLATE_INCONSISTENT", pkcs11.CKR_TEMPLATE_INCONSISTENT).seenAs(unusable, refused, refused, refused, "ok"),
		standing("C_CreateObject", "CKR_ATTRIBUTE_VALUE_INVALID", pkcs11.CKR_ATTRIBUTE_VALUE_INVALID).seenAs(fails, refused, "ok", "ok", "ok"),
		standing(generate, "CKR_DEVICE_MEMORY", pkcs11.CKR_DEVICE_MEMORY).seenAs(fails, refused, "ok", "ok", "ok"),
		standing("C_GenerateRandom", "CKR_DEVICE_ERROR", pkcs11.CKR_DEVICE_ERROR).seenAs(fails, "entropyFailed", "ok", "ok", "ok"),
		lasting("C_Login returns CKR_DEVICE_ERROR after a log-out", func(h *faultHost) {
			h.token.Fail("C_Login", pkcs11.CKR_DEVICE_ERROR)
			h.token.LogOut()
		}).seenAs(away, refused, refused, refused, refused+"|relock"),
		lasting("no new sessions after all were lost", func(h *faultHost) {
			h.token.Fail(opening, pkcs11.CKR_SESSION_COUNT)
			h.token.LoseSessions()
		}).seenAs(away, refused, refused, refused, refused+"|relock"),
		lasting("CKM_ECDSA disappears", func(h *faultHost) { h.token.Hide(pkcs11.CKM_ECDSA) }).
			seenAs(unusable+"|"+away, refused, "ok|"+refused, refused, refused),
		lasting("the wrap mechanism gets another number", func(h *faultHost) { h.token.Rename(0x210a, 0x210b) }).
			seenAs(unusable, refused, refused, refused, "ok"),
		lasting("C_Sign takes 100 ms longer", func(h *faultHost) { h.token.Slow(signing, 100*time.Millisecond) }).everybody("ready", "ok"),
		lasting("one C_Sign hangs", func(h *faultHost) { h.token.HangTimes(signing, 1) }).everybody("degraded(tokenSlow)", "ok|timeout"),
		lasting(everySignHangs, func(h *faultHost) { h.token.Hang(signing) }).everybody("failing(tokenHangs)", "timeout|"+refused),
	}
}

func tpmOutages() []deviceFault {
	const away, refuses = "failing(tpmAway)", "failing(tpmRefuses)"
	// A creation asks the TPM for randomness first.
	outage := func(name, state string, begin, end func(*faultHost)) deviceFault {
		return deviceFault{device: "TPM", name: name, begin: begin, end: end}.
			seenAs(state, "entropyFailed|tpmUnavailable|anchorUnavailable", "tpmUnavailable|anchorUnavailable", "tpmUnavailable|anchorUnavailable", "ok")
	}
	answers := func(name, state string, code tpm2.TPMRC, commands ...tpm2.TPMCC) deviceFault {
		return outage(name, state, func(h *faultHost) { h.answerTPM(uint32(code), commands...) },
			func(h *faultHost) { h.tap.Answer(nil) })
	}
	reset := "ok"
	if raceDetector || loaded() { // the TPM may be back only after the patience of a request
		reset += "|tpmUnavailable|anchorUnavailable|entropyFailed"
	}
	return []deviceFault{
		deviceFault{device: "TPM", name: "reset", begin: func(h *faultHost) { h.stopTPM(); h.startTPM() }}.everybody("–", reset),
		outage("gone and back", away, (*faultHost).stopTPM, (*faultHost).startTPM),
		outage("a PCR changes, then a reset", "", (*faultHost).extendPCR, func(h *faultHost) { h.stopTPM(); h.startTPM() }).
			seenAs("failing(measuredState)", "measuredState|entropyFailed", "measuredState|anchorUnavailable", "measuredState|anchorUnavailable", "ok"),
		outage("another program holds it", away, (*faultHost).occupyTPM, (*faultHost).vacateTPM),
		outage("every command hangs", away, (*faultHost).hangTPM, func(h *faultHost) { h.releaseTPM() }),
		answers("every command is answered by TPM_RC_RETRY", refuses, tpm2.TPMRCRetry),
		answers("every command is answered by TPM_RC_YIELDED", refuses, tpm2.TPMRCYielded),
		answers("every command is answered by TPM_RC_NV_RATE", refuses, tpm2.TPMRCNVRate),
		answers("every command is answered by TPM_RC_LOCKOUT", refuses, tpm2.TPMRCLockout),
		answers("every command is answered by TPM_RC_FAILURE", away, tpm2.TPMRCFailure),
		answers("no object can be loaded (TPM_RC_OBJECT_MEMORY)", refuses, tpm2.TPMRCObjectMemory, tpm2.TPMCCLoad, tpm2.TPMCCHMAC),
		answers("TPM2_HMAC is answered by TPM_RC_POLICY_FAIL", refuses, tpm2.TPMRCPolicyFail, tpm2.TPMCCHMAC),
	}
}

func kmsOutages() []deviceFault {
	kms := func(name string, begin func(*kmstest.Server)) deviceFault {
		return deviceFault{device: "KMS", name: name, begin: func(h *faultHost) { begin(h.KMS) },
			end: func(h *faultHost) { h.KMS.Reset() }}.seenAs("degraded(kms)", "entropyFailed", "ok", "ok", "ok")
	}
	return []deviceFault{
		kms("throttled", func(s *kmstest.Server) { s.Throttle(kmstest.Always) }),
		kms("slower than the time-out", func(s *kmstest.Server) { s.Slow(10*time.Second, kmstest.Always) }),
		kms("unreachable: no answer", func(s *kmstest.Server) { s.Hang(kmstest.Always) }),
		kms("unreachable: connections break", func(s *kmstest.Server) { s.Break(kmstest.Always) }),
		kms("access denied", func(s *kmstest.Server) { s.Denied(kmstest.Always) }),
		kms("expired credentials", func(s *kmstest.Server) { s.Fail("ExpiredTokenException", 400, kmstest.Always) }),
		kms("internal error", func(s *kmstest.Server) { s.Fail("KMSInternalException", 500, kmstest.Always) }),
		kms("this host's clock is wrong", func(s *kmstest.Server) { s.WrongClock(kmstest.Always) }),
		kms("a proxy answers HTML", func(s *kmstest.Server) { s.HTML(200, kmstest.Always) }),
	}
}
