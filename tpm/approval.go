package tpm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/google/go-tpm/tpm2"
)

// Approval says that objects of an installation may be used while the PCRs have
// these values. It holds nothing secret, and it cannot be taken back: it is
// valid for as long as the objects are.
type Approval struct {
	PCRs         Selection
	Values       PCRValues // exactly the selected PCRs
	PolicyDigest [32]byte  // PCRPolicyDigest(PCRs, Values)
	Signature    []byte    // ASN.1 DER ECDSA-Sig-Value (RFC 3279, 2.2.3) over SHA-256(PolicyDigest ‖ policyRef)
}

// Approve signs the state that values describes, of which the profile's PCRs
// count, with the policy key. The signer is a P-256 key, usually in the PKCS#11
// token; its signature is verified before it is returned.
func Approve(signer crypto.Signer, installation [16]byte, profile Profile, values PCRValues) (Approval, error) {
	key, err := signerKey(signer)
	if err != nil {
		return Approval{}, err
	}
	if err := checkInstallation(installation); err != nil {
		return Approval{}, err
	}
	approval, err := describeState(profile.PCRs(), values)
	if err != nil {
		return Approval{}, err
	}
	digest := approvalDigest(approval.PolicyDigest, installation)
	approval.Signature, err = signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return Approval{}, fmt.Errorf("tpm: sign the approval: %w", err)
	}
	if err := approval.verify(Authority{Key: key, Installation: installation}); err != nil {
		return Approval{}, err
	}
	return approval, nil
}

func signerKey(signer crypto.Signer) (*ecdsa.PublicKey, error) {
	if signer == nil {
		return nil, invalid("no policy key to sign with")
	}
	key, ok := signer.Public().(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, invalid("the policy key is not an ECDSA P-256 key")
	}
	return key, nil
}

// describeState is an approval without its signature.
func describeState(pcrs Selection, values PCRValues) (Approval, error) {
	policy, err := PCRPolicyDigest(pcrs, values)
	if err != nil {
		return Approval{}, err
	}
	kept := make(PCRValues, len(pcrs))
	for _, pcr := range pcrs {
		kept[pcr] = values[pcr]
	}
	return Approval{PCRs: slices.Clone(pcrs), Values: kept, PolicyDigest: policy}, nil
}

// Verify checks that the approval is whole and signed for this authority. It
// returns ErrApproval when it is not.
func (a Approval) Verify(authority Authority) error {
	if _, _, err := authority.point(); err != nil {
		return err
	}
	return a.verify(authority)
}

func (a Approval) verify(authority Authority) error {
	if err := a.consistent(); err != nil {
		return fmt.Errorf("%w: %w", ErrApproval, err)
	}
	if _, _, err := splitSignature(a.Signature); err != nil {
		return fmt.Errorf("%w: %w", ErrApproval, err)
	}
	digest := approvalDigest(a.PolicyDigest, authority.Installation)
	if !ecdsa.VerifyASN1(authority.Key, digest[:], a.Signature) {
		return ErrApproval
	}
	return nil
}

var (
	errApprovalDigest = errors.New("the policy digest is not the one of the PCR values")
	errSignatureForm  = errors.New("the signature is not a DER encoded pair of 32-byte numbers")
)

// consistent checks that the values, the selection and the digest say the same.
func (a Approval) consistent() error {
	policy, err := PCRPolicyDigest(a.PCRs, a.Values)
	if err != nil {
		return err
	}
	if len(a.Values) != len(a.PCRs) || policy != a.PolicyDigest {
		return errApprovalDigest
	}
	return nil
}

// matches reports whether the platform's values are the approved ones, and
// which are not.
func (a Approval) matches(now PCRValues) (differences []PCRDifference) {
	for _, pcr := range a.PCRs {
		if a.Values[pcr] != now[pcr] {
			differences = append(differences, PCRDifference{PCR: pcr, Approved: a.Values[pcr], Actual: now[pcr]})
		}
	}
	return differences
}

// splitSignature takes the DER form apart into r and s of 32 bytes each.
func splitSignature(der []byte) (r, s []byte, err error) {
	var pair struct{ R, S *big.Int }
	rest, err := asn1.Unmarshal(der, &pair)
	if err != nil || len(rest) != 0 {
		return nil, nil, errSignatureForm
	}
	for _, n := range []*big.Int{pair.R, pair.S} {
		if n.Sign() <= 0 || n.BitLen() > 256 {
			return nil, nil, errSignatureForm
		}
	}
	return pair.R.FillBytes(make([]byte, 32)), pair.S.FillBytes(make([]byte, 32)), nil
}

// tpmSignature is the signature as TPM2_VerifySignature takes it.
func (a Approval) tpmSignature() (tpm2.TPMTSignature, error) {
	r, s, err := splitSignature(a.Signature)
	if err != nil {
		return tpm2.TPMTSignature{}, err
	}
	return tpm2.TPMTSignature{
		SigAlg: tpm2.TPMAlgECDSA,
		Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgECDSA, &tpm2.TPMSSignatureECC{
			Hash:       tpm2.TPMAlgSHA256,
			SignatureR: tpm2.TPM2BECCParameter{Buffer: r},
			SignatureS: tpm2.TPM2BECCParameter{Buffer: s},
		}),
	}, nil
}
