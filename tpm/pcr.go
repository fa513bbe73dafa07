package tpm

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// PCRValues maps a PCR's index to its value in the SHA-256 bank.
type PCRValues map[int][32]byte

// ReadPCRs reads PCRs of the SHA-256 bank. The answer is authenticated by a
// session salted to the storage root key, so that an approval signed over it
// is one of this platform's state. The values belong together: when a PCR was
// extended in between, they are read again.
func (t *TPM) ReadPCRs(ctx context.Context, pcrs Selection) (PCRValues, error) {
	if err := pcrs.check(); err != nil {
		return nil, err
	}
	var values PCRValues
	err := t.do(ctx, func(l *link) (err error) {
		values, err = l.readPCRs(pcrs)
		return err
	})
	return values, err
}

var errPCRBank = errors.New("the TPM does not give the PCR values of the SHA-256 bank; enable that bank in the firmware's setup")

// readPCRs repeats until nothing was extended while it read.
func (l *link) readPCRs(pcrs Selection) (PCRValues, error) {
	const attempts = 8
	for range attempts {
		values, stable, err := l.readPCRsOnce(pcrs)
		if err != nil || stable {
			return values, err
		}
		if err := l.ctx.Err(); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("tpm: TPM2_PCR_Read: PCRs changed during each of %d attempts; try again when the platform has started", attempts)
}

// readPCRsOnce reads all PCRs, in several commands where one answer does not
// hold them (Part 3, TPM2_PCR_Read), and tells whether they belong together.
func (l *link) readPCRsOnce(pcrs Selection) (values PCRValues, stable bool, err error) {
	values, stable = make(PCRValues, len(pcrs)), true
	var generation uint32
	for left := pcrs; len(left) > 0; {
		response, err := execute(l, "TPM2_PCR_Read",
			tpm2.PCRRead{PCRSelectionIn: left.tpm()}, l.oneShot(tpm2.Audit()))
		if err != nil {
			return nil, false, err
		}
		if len(values) > 0 && response.PCRUpdateCounter != generation {
			stable = false
		}
		generation = response.PCRUpdateCounter
		if left, err = values.take(left, response); err != nil {
			return nil, false, err
		}
	}
	return values, stable, nil
}

// take adds one answer's values and returns what is still to be read.
func (v PCRValues) take(asked Selection, response *tpm2.PCRReadResponse) (Selection, error) {
	got := selected(response.PCRSelectionOut)
	digests := response.PCRValues.Digests
	if len(got) == 0 || len(got) != len(digests) {
		return nil, errPCRBank
	}
	var left Selection
	for _, pcr := range asked {
		if len(digests) == 0 || got[0] != pcr {
			left = append(left, pcr)
			continue
		}
		if len(digests[0].Buffer) != sha256.Size {
			return nil, errPCRBank
		}
		v[pcr] = [32]byte(digests[0].Buffer)
		got, digests = got[1:], digests[1:]
	}
	if len(digests) != 0 {
		return nil, errPCRBank
	}
	return left, nil
}

// selected lists the PCRs of an answer; none unless it is one SHA-256 selection.
func selected(list tpm2.TPMLPCRSelection) Selection {
	if len(list.PCRSelections) != 1 || list.PCRSelections[0].Hash != tpm2.TPMAlgSHA256 {
		return nil
	}
	var pcrs Selection
	for i, bits := range list.PCRSelections[0].PCRSelect {
		for bit := range 8 {
			if bits&(1<<bit) != 0 {
				pcrs = append(pcrs, 8*i+bit)
			}
		}
	}
	return pcrs
}

// bitmap is the 3-byte sizeofSelect form of Part 2, section 10.6.1.
func (s Selection) bitmap() []byte {
	bits := make([]byte, 3)
	for _, pcr := range s {
		bits[pcr/8] |= 1 << (pcr % 8)
	}
	return bits
}

func (s Selection) tpm() tpm2.TPMLPCRSelection {
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
		{Hash: tpm2.TPMAlgSHA256, PCRSelect: s.bitmap()},
	}}
}

// digest is SHA-256 over the selected values in ascending order.
func (v PCRValues) digest(pcrs Selection) ([32]byte, error) {
	if err := pcrs.check(); err != nil {
		return [32]byte{}, err
	}
	h := sha256.New()
	for _, pcr := range pcrs {
		value, ok := v[pcr]
		if !ok {
			return [32]byte{}, fmt.Errorf("%w: no value for PCR %d", ErrProfile, pcr)
		}
		h.Write(value[:])
	}
	return [32]byte(h.Sum(nil)), nil
}

// PCRPolicyDigest computes the policy digest that a SHA-256 policy session has
// after TPM2_PolicyPCR in a platform with these values (Part 3, TPM2_PolicyPCR):
// H(0…0 ‖ TPM_CC_PolicyPCR ‖ TPML_PCR_SELECTION ‖ H(values)). Every selected PCR
// needs a value; others are ignored.
func PCRPolicyDigest(pcrs Selection, values PCRValues) ([32]byte, error) {
	state, err := values.digest(pcrs)
	if err != nil {
		return [32]byte{}, err
	}
	h := sha256.New()
	h.Write(make([]byte, sha256.Size))
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(tpm2.TPMCCPolicyPCR)))
	h.Write(tpm2.Marshal(pcrs.tpm()))
	h.Write(state[:])
	return [32]byte(h.Sum(nil)), nil
}
