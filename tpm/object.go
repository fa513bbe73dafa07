package tpm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/sigild/sigild/daemon/wipe"
)

// sealTemplate is the public area of sealed data (Part 1, section 27.2.4): no
// scheme, neither sign nor decrypt. userWithAuth is clear and adminWithPolicy
// set, so that nothing works without the policy, and administrative commands,
// for which the policy has no branch, do not work at all. noDA: an attacker who
// fails on purpose must not lock the TPM for others.
func sealTemplate(policy [32]byte) tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type:    tpm2.TPMAlgKeyedHash,
		NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, AdminWithPolicy: true, NoDA: true,
		},
		AuthPolicy: tpm2.TPM2BDigest{Buffer: policy[:]},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgKeyedHash, &tpm2.TPMSKeyedHashParms{
			Scheme: tpm2.TPMTKeyedHashScheme{Scheme: tpm2.TPMAlgNull},
		}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgKeyedHash, &tpm2.TPM2BDigest{}),
	}
}

// hmacTemplate is the public area of an HMAC-SHA256 key. It can sign only, and
// so can never be unsealed (Part 3, TPM2_Unseal).
func hmacTemplate(policy [32]byte) tpm2.TPMTPublic {
	template := sealTemplate(policy)
	template.ObjectAttributes.SignEncrypt = true
	template.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgKeyedHash, &tpm2.TPMSKeyedHashParms{
		Scheme: tpm2.TPMTKeyedHashScheme{
			Scheme:  tpm2.TPMAlgHMAC,
			Details: tpm2.NewTPMUSchemeKeyedHash(tpm2.TPMAlgHMAC, &tpm2.TPMSSchemeHMAC{HashAlg: tpm2.TPMAlgSHA256}),
		},
	})
	return template
}

// checkObject compares a blob's public area with the template it must come
// from; all but the unique field must be the same. It returns the Name.
func checkObject(blob Blob, template tpm2.TPMTPublic) (tpm2.TPM2BName, error) {
	public, err := blob.contents()
	if err != nil {
		return tpm2.TPM2BName{}, err
	}
	if !bytes.Equal(public.AuthPolicy.Buffer, template.AuthPolicy.Buffer) {
		return tpm2.TPM2BName{}, ErrObjectPolicy
	}
	template.Unique = public.Unique
	if !bytes.Equal(tpm2.Marshal(template), blob.Public) {
		return tpm2.TPM2BName{}, ErrObjectType
	}
	name, err := tpm2.ObjectName(public)
	if err != nil {
		return tpm2.TPM2BName{}, fmt.Errorf("%w: %v", ErrEncoding, err)
	}
	return *name, nil
}

// create makes an object under the storage root key. The content goes to the
// TPM encrypted.
func (l *link) create(content []byte, template tpm2.TPMTPublic) (Blob, error) {
	const name = "TPM2_Create"
	sensitive := marshalSensitive(content)
	defer clear(sensitive)
	private, rest, err := l.exchange(secretCommand{
		name: name, code: tpm2.TPMCCCreate,
		handles:  []tpm2.NamedHandle{{Handle: l.conn.srk.handle, Name: l.conn.srk.name}},
		session:  l.oneShot(tpm2.AESEncryption(sessionKeyBits, tpm2.EncryptIn)),
		secret:   sensitive,
		hasTPM2B: true,
		rest:     marshalCreation(template),
	})
	if err != nil {
		return Blob{}, err
	}
	public, _, ok := cutPart(rest)
	if !ok {
		return Blob{}, l.conn.fail(fmt.Errorf("%s: %w", name, errResponseLayout))
	}
	blob := Blob{Public: bytes.Clone(public), Private: bytes.Clone(private)}
	if _, err := checkObject(blob, template); err != nil {
		return Blob{}, l.conn.fail(fmt.Errorf("%s: the TPM made another object than asked for: %w", name, err))
	}
	return blob, nil
}

// marshalSensitive is TPMS_SENSITIVE_CREATE with an empty authValue.
func marshalSensitive(content []byte) []byte {
	out := make([]byte, 0, 4+len(content))
	out = binary.BigEndian.AppendUint16(out, 0)
	out = binary.BigEndian.AppendUint16(out, uint16(len(content)))
	wipe.Do(func() { out = append(out, content...) })
	return out
}

// marshalCreation is TPM2_Create's parameters after inSensitive: inPublic, an
// empty outsideInfo, an empty creationPCR.
func marshalCreation(template tpm2.TPMTPublic) []byte {
	public := tpm2.Marshal(template)
	out := binary.BigEndian.AppendUint16(nil, uint16(len(public)))
	out = append(out, public...)
	out = binary.BigEndian.AppendUint16(out, 0)
	return binary.BigEndian.AppendUint32(out, 0)
}

// load loads a blob that must come from the template. The caller flushes it.
func (l *link) load(blob Blob, template tpm2.TPMTPublic) (tpm2.NamedHandle, error) {
	name, err := checkObject(blob, template)
	if err != nil {
		return tpm2.NamedHandle{}, err
	}
	response, err := execute(l, "TPM2_Load", tpm2.Load{
		ParentHandle: l.authorizedSRK(),
		InPrivate:    tpm2.TPM2BPrivate{Buffer: blob.Private},
		InPublic:     tpm2.BytesAs2B[tpm2.TPMTPublic](blob.Public),
	})
	if err != nil {
		return tpm2.NamedHandle{}, explainLoad(err)
	}
	if !bytes.Equal(response.Name.Buffer, name.Buffer) {
		return tpm2.NamedHandle{}, l.conn.fail(errors.New("TPM2_Load: the TPM loaded another object than it was given"))
	}
	return tpm2.NamedHandle{Handle: response.ObjectHandle, Name: name}, nil
}

// explainLoad recognises the refusals of a private area that this storage root
// key does not protect, or that does not belong to the public area.
func explainLoad(err error) error {
	for _, code := range []tpm2.TPMRC{
		tpm2.TPMRCIntegrity, tpm2.TPMRCBinding, tpm2.TPMRCSensitive, tpm2.TPMRCSize, tpm2.TPMRCInsufficient,
	} {
		if errors.Is(err, code) {
			return fmt.Errorf("%w: %w", ErrObjectForeign, err)
		}
	}
	return err
}
