package tpm_test

import (
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"math/big"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"github.com/sigild/sigild/tpm"
)

// attacker talks to the TPM with go-tpm, past all checks of this package: what
// it is refused, the chip refuses. It needs the TPM's slots, so the host closes.
type attacker struct {
	t       *testing.T
	bus     transport.TPM
	srk     tpm2.NamedHandle
	flushes []tpm2.TPMHandle
}

func newAttacker(t *testing.T, h *host) *attacker {
	t.Helper()
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	bus, err := linuxudstpm.Open(h.instance.Device)
	if err != nil {
		t.Fatal(err)
	}
	a := &attacker{t: t, bus: bus}
	primary, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate),
	}.Execute(bus)
	if err != nil {
		t.Fatal(err)
	}
	a.srk = tpm2.NamedHandle{Handle: primary.ObjectHandle, Name: primary.Name}
	a.flushes = append(a.flushes, primary.ObjectHandle)
	return a
}

// done frees what the attacker loaded.
func (a *attacker) done() {
	for _, handle := range a.flushes {
		if _, err := (tpm2.FlushContext{FlushHandle: handle}).Execute(a.bus); err != nil {
			a.t.Error(err)
		}
	}
	a.flushes = nil
}

func (a *attacker) load(blob tpm.Blob) tpm2.NamedHandle {
	a.t.Helper()
	response, err := tpm2.Load{
		ParentHandle: tpm2.AuthHandle{Handle: a.srk.Handle, Name: a.srk.Name, Auth: tpm2.PasswordAuth(nil)},
		InPrivate:    tpm2.TPM2BPrivate{Buffer: blob.Private},
		InPublic:     tpm2.BytesAs2B[tpm2.TPMTPublic](blob.Public),
	}.Execute(a.bus)
	if err != nil {
		a.t.Fatal(err)
	}
	a.flushes = append(a.flushes, response.ObjectHandle)
	return tpm2.NamedHandle{Handle: response.ObjectHandle, Name: response.Name}
}

// policyKey is the public area that the policy of our objects names.
func policyKey(h *host) tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{SignEncrypt: true, UserWithAuth: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			CurveID: tpm2.TPMECCNistP256,
			Scheme: tpm2.TPMTECCScheme{
				Scheme:  tpm2.TPMAlgECDSA,
				Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256}),
			},
		}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: h.policyKey.X.FillBytes(make([]byte, 32))},
			Y: tpm2.TPM2BECCParameter{Buffer: h.policyKey.Y.FillBytes(make([]byte, 32))},
		}),
	}
}

// ref is the policyRef of the installation, computed once more.
func ref(h *host) tpm2.TPM2BDigest {
	sum := sha256.Sum256(append([]byte("sigild/pcr-policy/v1"), h.authority.Installation[:]...))
	return tpm2.TPM2BDigest{Buffer: sum[:]}
}

// ticket lets the chip verify an approval.
func (a *attacker) ticket(h *host, approval tpm.Approval) (tpm2.TPMTTKVerified, error) {
	key, err := tpm2.LoadExternal{InPublic: tpm2.New2B(policyKey(h)), Hierarchy: tpm2.TPMRHOwner}.Execute(a.bus)
	if err != nil {
		a.t.Fatal(err)
	}
	defer func() { _, _ = tpm2.FlushContext{FlushHandle: key.ObjectHandle}.Execute(a.bus) }()
	var pair struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(approval.Signature, &pair); err != nil {
		a.t.Fatal(err)
	}
	digest := sha256.Sum256(append(approval.PolicyDigest[:], ref(h).Buffer...))
	verified, err := tpm2.VerifySignature{
		KeyHandle: key.ObjectHandle,
		Digest:    tpm2.TPM2BDigest{Buffer: digest[:]},
		Signature: tpm2.TPMTSignature{
			SigAlg: tpm2.TPMAlgECDSA,
			Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgECDSA, &tpm2.TPMSSignatureECC{
				Hash:       tpm2.TPMAlgSHA256,
				SignatureR: tpm2.TPM2BECCParameter{Buffer: pair.R.FillBytes(make([]byte, 32))},
				SignatureS: tpm2.TPM2BECCParameter{Buffer: pair.S.FillBytes(make([]byte, 32))},
			}),
		},
	}.Execute(a.bus)
	if err != nil {
		return tpm2.TPMTTKVerified{}, err
	}
	return verified.Validation, nil
}

// selection is the profile as go-tpm makes it.
func selection(pcrs ...uint) tpm2.TPMLPCRSelection {
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
		{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(pcrs...)},
	}}
}

// policySession opens a policy session with the given steps done.
func (a *attacker) policySession(steps ...func(tpm2.TPMHandle) error) (tpm2.Session, error) {
	session, _, err := tpm2.PolicySession(a.bus, tpm2.TPMAlgSHA256, 16)
	if err != nil {
		a.t.Fatal(err)
	}
	a.flushes = append(a.flushes, session.Handle())
	for _, step := range steps {
		if err := step(session.Handle()); err != nil {
			return nil, err
		}
	}
	return session, nil
}

func (a *attacker) pcrStep(session tpm2.TPMHandle) error {
	_, err := tpm2.PolicyPCR{PolicySession: session, Pcrs: selection(7, 11, 12, 14)}.Execute(a.bus)
	return err
}

func (a *attacker) authorizeStep(h *host, approval tpm.Approval, ticket tpm2.TPMTTKVerified) func(tpm2.TPMHandle) error {
	return func(session tpm2.TPMHandle) error {
		public := policyKey(h)
		name, err := tpm2.ObjectName(&public)
		if err != nil {
			return err
		}
		_, err = tpm2.PolicyAuthorize{
			PolicySession: session, ApprovedPolicy: tpm2.TPM2BDigest{Buffer: approval.PolicyDigest[:]},
			PolicyRef: ref(h), KeySign: *name, CheckTicket: ticket,
		}.Execute(a.bus)
		return err
	}
}

func (a *attacker) unseal(object tpm2.NamedHandle, auth tpm2.Session) error {
	_, err := tpm2.Unseal{
		ItemHandle: tpm2.AuthHandle{Handle: object.Handle, Name: object.Name, Auth: auth},
	}.Execute(a.bus)
	return err
}

func TestChipComputesTheSamePCRPolicy(t *testing.T) {
	h := newHost(t)
	h.instance.Extend(t, 12, []byte("something"))
	approval := h.approve(t)
	a := newAttacker(t, h)
	defer a.done()
	session, err := a.policySession(a.pcrStep)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := tpm2.PolicyGetDigest{PolicySession: session.Handle()}.Execute(a.bus)
	if err != nil {
		t.Fatal(err)
	}
	if [32]byte(digest.PolicyDigest.Buffer) != approval.PolicyDigest {
		t.Errorf("the chip computes %x, PCRPolicyDigest %x", digest.PolicyDigest.Buffer, approval.PolicyDigest)
	}
}

func TestChipNeverUnsealsTheHostKey(t *testing.T) {
	h := newHost(t)
	blob, approval := h.createKey(t, random(t, tpm.HMACKeySize)), h.approve(t)
	a := newAttacker(t, h)
	defer a.done()
	ticket, err := a.ticket(h, approval)
	if err != nil {
		t.Fatal(err)
	}
	session, err := a.policySession(a.pcrStep, a.authorizeStep(h, approval, ticket))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.unseal(a.load(blob), session); !errors.Is(err, tpm2.TPMRCAttributes) {
		t.Errorf("TPM2_Unseal of the host key in an approved state: %v, want TPM_RC_ATTRIBUTES", err)
	}
}

func TestChipRefusesEveryOtherWayToUnseal(t *testing.T) {
	h := newHost(t)
	blob, approval, forged := h.seal(t, random(t, 16)), h.approve(t), h.approveWith(t, newPolicyKey(t))
	a := newAttacker(t, h)
	defer a.done()
	object := a.load(blob)
	ticket, err := a.ticket(h, approval)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.unseal(object, tpm2.PasswordAuth(nil)); !errors.Is(err, tpm2.TPMRCAuthUnavailable) && !errors.Is(err, tpm2.TPMRCAuthType) {
		t.Errorf("by the empty authValue: %v", err)
	}
	pcrOnly, err := a.policySession(a.pcrStep)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.unseal(object, pcrOnly); !errors.Is(err, tpm2.TPMRCPolicyFail) {
		t.Errorf("by PolicyPCR without an approval: %v", err)
	}
	if _, err := a.ticket(h, forged); !errors.Is(err, tpm2.TPMRCSignature) {
		t.Errorf("ticket for an approval of another key: %v", err)
	}
	h.instance.Extend(t, 7, []byte("other"))
	if _, err := a.policySession(a.pcrStep, a.authorizeStep(h, approval, ticket)); !errors.Is(err, tpm2.TPMRCValue) {
		t.Errorf("PolicyAuthorize in another state: %v", err)
	}
}
