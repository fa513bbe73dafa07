package main

import (
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
}

// The functions that create, unlock and sign call.
const (
	generate = "C_GenerateKeyPair"
	signing  = "C_Sign"
	opening  = "C_OpenSession"
)

// deviceFaults are the rows of docs/faults.md.
func deviceFaults() []deviceFault {
	return append(append(tokenOutages(), tpmOutages()...), kmsOutages()...)
}

// once is a token's function that fails in one call.
func once(function, code string, value uint) deviceFault {
	return deviceFault{"token", function + " returns " + code + " once",
		func(h *faultHost) { h.token.FailOnce(function, value) }, nil}
}

// standing is one that fails until it is ended.
func standing(function, code string, value uint) deviceFault {
	return deviceFault{"token", function + " returns " + code, func(h *faultHost) { h.token.Fail(function, value) }, healToken}
}

func healToken(h *faultHost) { h.token.ClearAll() }

func tokenOutages() []deviceFault {
	list := []deviceFault{
		{"token", "all sessions are lost", func(h *faultHost) { h.token.LoseSessions() }, nil},
		{"token", "somebody logs out", func(h *faultHost) { h.token.LogOut() }, nil},
		{"token", "pulled out and put in again", func(h *faultHost) { h.token.Vanish() }, func(h *faultHost) { h.token.Return(0) }},
		{"token", "put into another slot", func(h *faultHost) { h.token.Vanish() }, func(h *faultHost) { h.token.Return(1000) }},
		{"token", "put back into its slot", func(h *faultHost) { h.token.Vanish() }, func(h *faultHost) { h.token.Return(0) }},
		once(signing, "CKR_SESSION_HANDLE_INVALID", pkcs11.CKR_SESSION_HANDLE_INVALID),
		once(signing, "CKR_GENERAL_ERROR", pkcs11.CKR_GENERAL_ERROR),
		once(signing, "CKR_DEVICE_ERROR", pkcs11.CKR_DEVICE_ERROR),
		once(signing, "CKR_DEVICE_MEMORY", pkcs11.CKR_DEVICE_MEMORY),
		once(signing, "a vendor code", 0x80000123),
		once("C_SignInit", "CKR_USER_NOT_LOGGED_IN", pkcs11.CKR_USER_NOT_LOGGED_IN),
		once("C_SignInit", "CKR_KEY_HANDLE_INVALID", pkcs11.CKR_KEY_HANDLE_INVALID),
		once("C_SignInit", "CKR_CRYPTOKI_NOT_INITIALIZED", pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED),
		once("C_SignInit", "CKR_OPERATION_ACTIVE", pkcs11.CKR_OPERATION_ACTIVE),
		once("C_UnwrapKey", "CKR_DEVICE_REMOVED", pkcs11.CKR_DEVICE_REMOVED),
		once(opening, "CKR_SESSION_COUNT", pkcs11.CKR_SESSION_COUNT),
		standing(signing, "CKR_DEVICE_ERROR", pkcs11.CKR_DEVICE_ERROR),
		standing(signing, "CKR_FUNCTION_FAILED", pkcs11.CKR_FUNCTION_FAILED),
		standing("C_SignInit", "CKR_MECHANISM_INVALID", pkcs11.CKR_MECHANISM_INVALID),
		standing("C_UnwrapKey", "CKR_GENERAL_ERROR", pkcs11.CKR_GENERAL_ERROR),
		standing("C_UnwrapKey", "CKR_TEMPLATE_INCONSISTENT", pkcs11.CKR_TEMPLATE_INCONSISTENT),
		standing("C_CreateObject", "CKR_ATTRIBUTE_VALUE_INVALID", pkcs11.CKR_ATTRIBUTE_VALUE_INVALID),
		standing(generate, "CKR_DEVICE_MEMORY", pkcs11.CKR_DEVICE_MEMORY),
		standing("C_GenerateRandom", "CKR_DEVICE_ERROR", pkcs11.CKR_DEVICE_ERROR),
		{"token", "C_Login returns CKR_DEVICE_ERROR after a log-out", func(h *faultHost) {
			h.token.Fail("C_Login", pkcs11.CKR_DEVICE_ERROR)
			h.token.LogOut()
		}, healToken},
		{"token", "no new sessions after all were lost", func(h *faultHost) {
			h.token.Fail(opening, pkcs11.CKR_SESSION_COUNT)
			h.token.LoseSessions()
		}, healToken},
		{"token", "CKM_ECDSA disappears", func(h *faultHost) { h.token.Hide(pkcs11.CKM_ECDSA) }, healToken},
		{"token", "the wrap mechanism gets another number", func(h *faultHost) { h.token.Rename(0x210a, 0x210b) }, healToken},
		{"token", "keys with CKA_UNWRAP_TEMPLATE are refused", func(h *faultHost) { h.token.RefuseTemplates() }, healToken},
		{"token", "C_Sign takes 100 ms longer", func(h *faultHost) { h.token.Slow(signing, 100*time.Millisecond) }, healToken},
		{"token", "one C_Sign hangs", func(h *faultHost) { h.token.HangTimes(signing, 1) }, func(h *faultHost) { h.token.Clear(signing) }},
		{"token", "every C_Sign hangs", func(h *faultHost) { h.token.Hang(signing) }, func(h *faultHost) { h.token.Clear(signing) }},
	}
	return list
}

func tpmOutages() []deviceFault {
	answers := func(name string, code tpm2.TPMRC, commands ...tpm2.TPMCC) deviceFault {
		return deviceFault{"TPM", name, func(h *faultHost) { h.answerTPM(uint32(code), commands...) },
			func(h *faultHost) { h.tap.Answer(nil) }}
	}
	return []deviceFault{
		{"TPM", "reset", func(h *faultHost) { h.stopTPM(); h.startTPM() }, nil},
		{"TPM", "gone and back", (*faultHost).stopTPM, (*faultHost).startTPM},
		{"TPM", "a PCR changes, then a reset", (*faultHost).extendPCR, func(h *faultHost) { h.stopTPM(); h.startTPM() }},
		{"TPM", "another program holds it", (*faultHost).occupyTPM, (*faultHost).vacateTPM},
		{"TPM", "every command hangs", (*faultHost).hangTPM, func(h *faultHost) { h.releaseTPM() }},
		answers("every command is answered by TPM_RC_RETRY", tpm2.TPMRCRetry),
		answers("every command is answered by TPM_RC_YIELDED", tpm2.TPMRCYielded),
		answers("every command is answered by TPM_RC_NV_RATE", tpm2.TPMRCNVRate),
		answers("every command is answered by TPM_RC_LOCKOUT", tpm2.TPMRCLockout),
		answers("every command is answered by TPM_RC_FAILURE", tpm2.TPMRCFailure),
		answers("no object can be loaded (TPM_RC_OBJECT_MEMORY)", tpm2.TPMRCObjectMemory, tpm2.TPMCCLoad, tpm2.TPMCCHMAC),
		answers("TPM2_HMAC is answered by TPM_RC_POLICY_FAIL", tpm2.TPMRCPolicyFail, tpm2.TPMCCHMAC),
	}
}

func kmsOutages() []deviceFault {
	kms := func(name string, begin func(*kmstest.Server)) deviceFault {
		return deviceFault{"KMS", name, func(h *faultHost) { begin(h.KMS) }, func(h *faultHost) { h.KMS.Reset() }}
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
