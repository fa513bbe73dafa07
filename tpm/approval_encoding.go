package tpm

import (
	"bytes"
	"fmt"
)

const (
	approvalVersion  = 1
	maxDERSignature  = 72 // two 33-byte integers and their headers
	approvalPCRBytes = 1 + 32
)

// MarshalBinary encodes the approval: 01 ‖ number of PCRs ‖ for each, in
// ascending order, its index and its 32-byte value ‖ PolicyDigest ‖ length of the
// signature ‖ Signature. Counts, indexes and the length are single bytes.
func (a Approval) MarshalBinary() ([]byte, error) {
	if err := a.encodable(); err != nil {
		return nil, err
	}
	out := []byte{approvalVersion, byte(len(a.PCRs))}
	for _, pcr := range a.PCRs {
		value := a.Values[pcr]
		out = append(append(out, byte(pcr)), value[:]...)
	}
	out = append(out, a.PolicyDigest[:]...)
	return append(append(out, byte(len(a.Signature))), a.Signature...), nil
}

// UnmarshalBinary accepts exactly what MarshalBinary gives, and returns
// ErrEncoding for anything else. It does not verify the signature.
func (a *Approval) UnmarshalBinary(data []byte) error {
	if len(data) < 2 || data[0] != approvalVersion {
		return fmt.Errorf("%w: not an approval of version %d", ErrEncoding, approvalVersion)
	}
	count := int(data[1])
	fixed := 2 + count*approvalPCRBytes + 32 + 1
	if len(data) < fixed || len(data) != fixed+int(data[fixed-1]) {
		return fmt.Errorf("%w: approval of the wrong length", ErrEncoding)
	}
	decoded := Approval{Values: make(PCRValues, count)}
	for i := range count {
		entry := data[2+i*approvalPCRBytes:][:approvalPCRBytes]
		decoded.PCRs = append(decoded.PCRs, int(entry[0]))
		decoded.Values[int(entry[0])] = [32]byte(entry[1:])
	}
	decoded.PolicyDigest = [32]byte(data[fixed-33:])
	decoded.Signature = bytes.Clone(data[fixed:])
	if err := decoded.encodable(); err != nil {
		return err
	}
	*a = decoded
	return nil
}

func (a Approval) encodable() error {
	if err := a.consistent(); err != nil {
		return fmt.Errorf("%w: approval: %w", ErrEncoding, err)
	}
	if len(a.Signature) > maxDERSignature {
		return fmt.Errorf("%w: approval: %w", ErrEncoding, errSignatureForm)
	}
	if _, _, err := splitSignature(a.Signature); err != nil {
		return fmt.Errorf("%w: approval: %w", ErrEncoding, err)
	}
	return nil
}
