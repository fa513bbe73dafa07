package tpm

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// Blob is an object outside the TPM: its public area, and its sensitive area
// encrypted by the TPM under its storage root key. It works on that TPM only.
// Anyone who can talk to the TPM can make a well-formed Blob with content of
// their own, so pin its Name where that matters.
type Blob struct {
	Public  []byte // contents of TPM2B_PUBLIC
	Private []byte // contents of TPM2B_PRIVATE
}

const (
	blobVersion = 1
	maxBlobPart = 1024 // bytes; ours are below 300
)

// Name returns the TPM Name of the object, 34 bytes: TPM_ALG_SHA256 as two bytes
// and the SHA-256 of the public area, which for our objects depends on the
// content as well (Part 1, section 27.5.3). Two blobs with one Name do the same.
func (b Blob) Name() ([]byte, error) {
	public, err := b.contents()
	if err != nil {
		return nil, err
	}
	name, err := tpm2.ObjectName(public)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrEncoding, err)
	}
	return name.Buffer, nil
}

// contents parses the public area and checks that it is canonical.
func (b Blob) contents() (*tpm2.TPMTPublic, error) {
	if len(b.Public) == 0 || len(b.Public) > maxBlobPart || len(b.Private) == 0 || len(b.Private) > maxBlobPart {
		return nil, fmt.Errorf("%w: a blob's parts have 1 to %d bytes", ErrEncoding, maxBlobPart)
	}
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](b.Public)
	if err != nil {
		return nil, fmt.Errorf("%w: public area: %v", ErrEncoding, err)
	}
	if public.Type != tpm2.TPMAlgKeyedHash {
		return nil, fmt.Errorf("%w: public area: %w", ErrEncoding, ErrObjectType)
	}
	if public.NameAlg != tpm2.TPMAlgSHA256 || !bytes.Equal(tpm2.Marshal(*public), b.Public) {
		return nil, fmt.Errorf("%w: public area", ErrEncoding)
	}
	return public, nil
}

// MarshalBinary encodes the blob: 01 ‖ u16 length ‖ Public ‖ u16 length ‖
// Private, lengths big-endian.
func (b Blob) MarshalBinary() ([]byte, error) {
	if _, err := b.contents(); err != nil {
		return nil, err
	}
	out := []byte{blobVersion}
	for _, part := range [][]byte{b.Public, b.Private} {
		out = binary.BigEndian.AppendUint16(out, uint16(len(part)))
		out = append(out, part...)
	}
	return out, nil
}

// UnmarshalBinary accepts exactly what MarshalBinary gives, and returns
// ErrEncoding for anything else.
func (b *Blob) UnmarshalBinary(data []byte) error {
	if len(data) == 0 || data[0] != blobVersion {
		return fmt.Errorf("%w: not a blob of version %d", ErrEncoding, blobVersion)
	}
	public, rest, ok := cutPart(data[1:])
	if !ok {
		return fmt.Errorf("%w: blob cut off", ErrEncoding)
	}
	private, rest, ok := cutPart(rest)
	if !ok || len(rest) != 0 {
		return fmt.Errorf("%w: blob of the wrong length", ErrEncoding)
	}
	decoded := Blob{Public: bytes.Clone(public), Private: bytes.Clone(private)}
	if _, err := decoded.contents(); err != nil {
		return err
	}
	*b = decoded
	return nil
}

// cutPart takes a part with a 16-bit length off the front.
func cutPart(data []byte) (part, rest []byte, ok bool) {
	if len(data) < 2 {
		return nil, nil, false
	}
	size := int(binary.BigEndian.Uint16(data))
	if size > len(data)-2 {
		return nil, nil, false
	}
	return data[2 : 2+size], data[2+size:], true
}
