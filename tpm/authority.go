package tpm

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/binary"

	"github.com/google/go-tpm/tpm2"
)

// Authority is who decides in which platform states the TPM's objects work:
// the holder of a P-256 policy key, for one installation. It defines the
// objects' authPolicy.
type Authority struct {
	Key          *ecdsa.PublicKey // P-256
	Installation [16]byte         // not all zero
}

// policyRefLabel separates these signatures from all others of the same key.
const policyRefLabel = "sigild/pcr-policy/v1"

// policyRef is SHA-256("sigild/pcr-policy/v1" ‖ installation id).
func policyRef(installation [16]byte) [32]byte {
	return sha256.Sum256(append([]byte(policyRefLabel), installation[:]...))
}

// approvalDigest is aHash of Part 3, TPM2_PolicyAuthorize:
// SHA-256(approvedPolicy ‖ policyRef). It is what the policy key signs.
func approvalDigest(policy [32]byte, installation [16]byte) [32]byte {
	ref := policyRef(installation)
	return sha256.Sum256(append(policy[:], ref[:]...))
}

func checkInstallation(id [16]byte) error {
	if id == ([16]byte{}) {
		return invalid("the installation id is all zero")
	}
	return nil
}

// point returns the key's coordinates, 32 bytes each.
func (a Authority) point() (x, y []byte, err error) {
	if err := checkInstallation(a.Installation); err != nil {
		return nil, nil, err
	}
	if a.Key == nil || a.Key.Curve != elliptic.P256() {
		return nil, nil, invalid("the policy key is not a P-256 public key")
	}
	encoded, err := a.Key.Bytes() // 04 ‖ x ‖ y; checks that the point is on the curve
	if err != nil {
		return nil, nil, invalid("the policy key is not a point of P-256")
	}
	return encoded[1:33], encoded[33:], nil
}

// public is the policy key as the TPM loads it. Its Name is part of the policy
// of every object, so nothing here may ever change.
func (a Authority) public() (tpm2.TPMTPublic, error) {
	x, y, err := a.point()
	if err != nil {
		return tpm2.TPMTPublic{}, err
	}
	return tpm2.TPMTPublic{
		Type:             tpm2.TPMAlgECC,
		NameAlg:          tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{SignEncrypt: true, UserWithAuth: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			Scheme: tpm2.TPMTECCScheme{
				Scheme:  tpm2.TPMAlgECDSA,
				Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256}),
			},
			CurveID: tpm2.TPMECCNistP256,
		}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: x},
			Y: tpm2.TPM2BECCParameter{Buffer: y},
		}),
	}, nil
}

// keyName is the Name of the policy key.
func (a Authority) keyName() (tpm2.TPM2BName, error) {
	public, err := a.public()
	if err != nil {
		return tpm2.TPM2BName{}, err
	}
	name, err := tpm2.ObjectName(&public)
	if err != nil {
		return tpm2.TPM2BName{}, err
	}
	return *name, nil
}

// authPolicy is the policy of the objects (Part 3, TPM2_PolicyAuthorize):
// H(H(0…0 ‖ TPM_CC_PolicyAuthorize ‖ keySign's Name) ‖ policyRef).
func (a Authority) authPolicy() ([32]byte, error) {
	name, err := a.keyName()
	if err != nil {
		return [32]byte{}, err
	}
	h := sha256.New()
	h.Write(make([]byte, sha256.Size))
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(tpm2.TPMCCPolicyAuthorize)))
	h.Write(name.Buffer)
	ref := policyRef(a.Installation)
	return sha256.Sum256(append(h.Sum(nil), ref[:]...)), nil
}
