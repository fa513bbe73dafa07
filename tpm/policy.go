package tpm

import (
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"
)

// approvedState is an approval that holds at present, ready for use in policy
// sessions: the TPM verified its signature and gave a ticket for it.
type approvedState struct {
	pcrs      Selection
	pcrDigest [32]byte
	policy    tpm2.TPM2BDigest
	ref       tpm2.TPM2BDigest
	signer    tpm2.TPM2BName
	ticket    tpm2.TPMTTKVerified
}

// approvedNow finds the approval that the platform's PCRs satisfy now.
func (l *link) approvedNow(authority Authority, approvals []Approval) (*approvedState, error) {
	approval, err := l.matchApproval(authority, approvals)
	if err != nil {
		return nil, err
	}
	pcrDigest, err := approval.Values.digest(approval.PCRs)
	if err != nil {
		return nil, err
	}
	signer, err := authority.keyName()
	if err != nil {
		return nil, err
	}
	ticket, err := l.verifyApproval(authority, approval)
	if err != nil {
		return nil, err
	}
	ref := policyRef(authority.Installation)
	return &approvedState{
		pcrs: approval.PCRs, pcrDigest: pcrDigest, signer: signer, ticket: ticket,
		policy: tpm2.TPM2BDigest{Buffer: approval.PolicyDigest[:]}, ref: tpm2.TPM2BDigest{Buffer: ref[:]},
	}, nil
}

// matchApproval compares the platform's PCRs with the approvals. One with a bad
// signature counts for nothing, but does not keep the others from use.
func (l *link) matchApproval(authority Authority, approvals []Approval) (Approval, error) {
	valid := make([]int, 0, len(approvals))
	var all Selection
	for i, approval := range approvals {
		if approval.verify(authority) == nil {
			valid = append(valid, i)
			all = append(all, approval.PCRs...)
		}
	}
	if len(valid) == 0 {
		return Approval{}, fmt.Errorf("%w (%d given)", ErrApproval, len(approvals))
	}
	slices.Sort(all)
	now, err := l.readPCRs(slices.Compact(all))
	if err != nil {
		return Approval{}, err
	}
	mismatch := &PCRMismatchError{}
	for _, i := range valid {
		differences := approvals[i].matches(now)
		if len(differences) == 0 {
			return approvals[i], nil
		}
		mismatch.Approvals = append(mismatch.Approvals, ApprovalMismatch{Approval: i, Differences: differences})
	}
	return Approval{}, mismatch
}

// verifyApproval lets the TPM verify the policy key's signature. The key takes
// one of the TPM's slots for the time of it.
func (l *link) verifyApproval(authority Authority, approval Approval) (tpm2.TPMTTKVerified, error) {
	key, err := l.loadPolicyKey(authority)
	if err != nil {
		return tpm2.TPMTTKVerified{}, err
	}
	defer l.discard(key)
	signature, err := approval.tpmSignature()
	if err != nil {
		return tpm2.TPMTTKVerified{}, err
	}
	digest := approvalDigest(approval.PolicyDigest, authority.Installation)
	response, err := execute(l, "TPM2_VerifySignature", tpm2.VerifySignature{
		KeyHandle: key, Digest: tpm2.TPM2BDigest{Buffer: digest[:]}, Signature: signature,
	})
	if err != nil {
		return tpm2.TPMTTKVerified{}, err
	}
	return response.Validation, nil
}

// loadPolicyKey loads the public key in the owner hierarchy: a ticket of the
// null hierarchy would not survive a TPM Reset, and one is needed at all.
func (l *link) loadPolicyKey(authority Authority) (tpm2.TPMHandle, error) {
	public, err := authority.public()
	if err != nil {
		return 0, err
	}
	response, err := execute(l, "TPM2_LoadExternal", tpm2.LoadExternal{
		InPublic: tpm2.New2B(public), Hierarchy: tpm2.TPMRHOwner,
	})
	if err != nil {
		return 0, err
	}
	return response.ObjectHandle, nil
}

// policySession opens a salted policy session that lives until it is flushed.
func (l *link) policySession(options ...tpm2.AuthOption) (tpm2.Session, error) {
	session, _, err := tpm2.PolicySession(l, tpm2.TPMAlgSHA256, nonceSize, l.salted(options...)...)
	if err != nil {
		return nil, l.fault("TPM2_StartAuthSession", err)
	}
	return session, nil
}

// satisfy brings a policy session, whose digest is zero, to the objects'
// authPolicy. The TPM zeroes the digest again when the session has authorised
// a command (Part 1, section 19.7.7), so this runs before each one.
func (l *link) satisfy(session tpm2.Session, state *approvedState) error {
	_, err := execute(l, "TPM2_PolicyPCR", tpm2.PolicyPCR{
		PolicySession: session.Handle(),
		PcrDigest:     tpm2.TPM2BDigest{Buffer: state.pcrDigest[:]},
		Pcrs:          state.pcrs.tpm(),
	})
	if err != nil {
		return err
	}
	_, err = execute(l, "TPM2_PolicyAuthorize", tpm2.PolicyAuthorize{
		PolicySession:  session.Handle(),
		ApprovedPolicy: state.policy,
		PolicyRef:      state.ref,
		KeySign:        state.signer,
		CheckTicket:    state.ticket,
	})
	return err
}
