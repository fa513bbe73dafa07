package daemon

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/sigild/sigild/daemon/seal"
)

var (
	// ErrNotProvisioned is returned by a start on a database that has no
	// finished installation.
	ErrNotProvisioned = errors.New("this host is not provisioned: run `sigild provision`")
	// ErrProvisioned is returned by a second provisioning.
	ErrProvisioned = errors.New("this host is provisioned already; provisioning again would make every wallet unusable")
	// ErrEnforcement is returned when the token no longer refuses what it
	// refused at provisioning.
	ErrEnforcement = errors.New("the token enforces less than it did when it was provisioned: its module or configuration was changed")
	// ErrInstallation is returned when the installation document was changed
	// outside the daemon, or belongs to another token.
	ErrInstallation = errors.New("the installation document was changed outside the daemon or belongs to another token")
)

const (
	installationFormat = 1
	installationLabel  = "sigild/installation/v1"
)

// installation says which keys, TPM and measured states a database belongs to.
// It holds nothing secret. docs/format.md has its bytes.
type installation struct {
	ID          seal.ID      `cbor:"1,keyasint"`
	Created     int64        `cbor:"2,keyasint"` // Unix seconds
	Finished    bool         `cbor:"3,keyasint"` // provisioning came to its end
	Generations []generation `cbor:"4,keyasint"`
	SRKName     []byte       `cbor:"5,keyasint"` // 34 bytes
	Profile     string       `cbor:"6,keyasint"` // "uki", "grub" or "list"
	PCRs        []int        `cbor:"7,keyasint"`
	PolicyKey   []byte       `cbor:"8,keyasint"` // 65 bytes: approves measured states
	HostKeys    []hostKey    `cbor:"9,keyasint"`
	TokenPIN    []byte       `cbor:"10,keyasint"` // the user PIN, sealed by the TPM; empty: another source
	Approvals   [][]byte     `cbor:"11,keyasint"` // tpm.Approval, encoded
	Predicted   []prediction `cbor:"12,keyasint,omitempty"`
	Anchor      *anchor      `cbor:"13,keyasint"` // null until provisioning came to it
}

// generation is one set of the token's long-lived keys.
type generation struct {
	Number       uint32        `cbor:"1,keyasint"`
	Mechanism    uint64        `cbor:"2,keyasint"` // CKM_ that wraps wallets' keys
	Fingerprints []fingerprint `cbor:"3,keyasint"` // ascending by purpose
	Enforcement  string        `cbor:"4,keyasint"` // who refused to give keys out at provisioning
}

type fingerprint struct {
	Purpose uint8  `cbor:"1,keyasint"`
	Value   []byte `cbor:"2,keyasint"`
}

// hostKey is one value of the TPM host key.
type hostKey struct {
	Number   uint32 `cbor:"1,keyasint"`
	Blob     []byte `cbor:"2,keyasint"` // tpm.Blob, encoded
	Recovery []byte `cbor:"3,keyasint"` // seal.SealHost under the recovery code
}

// document is the stored installation: [format, body, MAC over label ‖ body].
// Before provisioning has a record key, the MAC is empty.
type document struct {
	_      struct{} `cbor:",toarray"`
	Format uint8
	Body   []byte
	MAC    []byte
}

type macFunc func(ctx context.Context, message []byte) ([32]byte, error)

// encodeInstallation authenticates by mac; nil while the keys are being made.
func encodeInstallation(ctx context.Context, i *installation, mac macFunc) ([]byte, error) {
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return nil, err
	}
	d := document{Format: installationFormat, MAC: []byte{}}
	if d.Body, err = mode.Marshal(i); err != nil {
		return nil, err
	}
	if mac != nil {
		sum, err := mac(ctx, append([]byte(installationLabel), d.Body...))
		if err != nil {
			return nil, err
		}
		d.MAC = sum[:]
	}
	return mode.Marshal(&d)
}

// decodeInstallation parses without verifying: the key that verifies is in the
// token, which opens only with what the document says. verify comes after.
func decodeInstallation(data []byte) (*installation, *document, error) {
	var d document
	var i installation
	if err := strictCBOR(data, &d); err != nil || d.Format != installationFormat {
		return nil, nil, ErrInstallation
	}
	if err := strictCBOR(d.Body, &i); err != nil {
		return nil, nil, ErrInstallation
	}
	return &i, &d, nil
}

func (d *document) verify(ctx context.Context, mac macFunc) error {
	sum, err := mac(ctx, append([]byte(installationLabel), d.Body...))
	if err != nil {
		return err
	}
	if !hmac.Equal(sum[:], d.MAC) {
		return ErrInstallation
	}
	return nil
}

// strictCBOR decodes the one encoding that the encoder would give.
func strictCBOR(data []byte, v any) error {
	decoding, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden,
		TagsMd: cbor.TagsForbidden, ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxNestedLevels: 8, MaxArrayElements: 4096, MaxMapPairs: 64,
	}.DecMode()
	if err != nil {
		return err
	}
	encoding, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return err
	}
	if err := decoding.Unmarshal(data, v); err != nil {
		return err
	}
	again, err := encoding.Marshal(v)
	if err != nil || !bytes.Equal(again, data) {
		return fmt.Errorf("not in canonical form: %w", errors.ErrUnsupported)
	}
	return nil
}

// newest is the number of the generation that new wallets use.
func (i *installation) newest() uint32 { return i.Generations[len(i.Generations)-1].Number }

// keysDigest is what the guard root holds of the token's keys:
// SHA-256("sigild/keys/v1" ‖ for each generation and key: generation (4, big
// endian) ‖ purpose (1) ‖ length (4) ‖ fingerprint).
func (i *installation) keysDigest() []byte {
	h := sha256.New()
	h.Write([]byte("sigild/keys/v1"))
	for _, g := range i.Generations {
		for _, f := range g.Fingerprints {
			b := binary.BigEndian.AppendUint32(nil, g.Number)
			b = binary.BigEndian.AppendUint32(append(b, f.Purpose), uint32(len(f.Value)))
			h.Write(append(b, f.Value...))
		}
	}
	return h.Sum(nil)
}
