package tpm

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/google/go-tpm/tpm2"
)

// Info describes the TPM, for records and status. It is the TPM's own word and
// is not authenticated on the bus.
type Info struct {
	Manufacturer    string // TPM_PT_MANUFACTURER, 4 characters, for example "IFX"
	VendorString    string // TPM_PT_VENDOR_STRING_1 to _4 together
	FirmwareVersion string // the four 16-bit parts of TPM_PT_FIRMWARE_VERSION_1 and _2, decimal, with dots
	SpecFamily      string // TPM_PT_FAMILY_INDICATOR: "2.0"
	SpecRevision    string // TPM_PT_REVISION, for example "1.59"
}

// Info reads the TPM's fixed properties (Part 2, section 6.13).
func (t *TPM) Info(ctx context.Context) (Info, error) {
	var info Info
	err := t.do(ctx, func(l *link) error {
		properties, err := l.fixedProperties()
		if err != nil {
			return err
		}
		info = describe(properties)
		return nil
	})
	return info, err
}

func (l *link) fixedProperties() (map[tpm2.TPMPT]uint32, error) {
	response, err := execute(l, "TPM2_GetCapability", tpm2.GetCapability{
		Capability: tpm2.TPMCapTPMProperties, Property: uint32(tpm2.TPMPTFamilyIndicator), PropertyCount: 32,
	})
	if err != nil {
		return nil, err
	}
	list, err := response.CapabilityData.Data.TPMProperties()
	if err != nil {
		return nil, l.conn.fail(fmt.Errorf("TPM2_GetCapability: %w", err))
	}
	properties := make(map[tpm2.TPMPT]uint32, len(list.TPMProperty))
	for _, property := range list.TPMProperty {
		properties[property.Property] = property.Value
	}
	return properties, nil
}

func describe(p map[tpm2.TPMPT]uint32) Info {
	high, low := p[tpm2.TPMPTFirmwareVersion1], p[tpm2.TPMPTFirmwareVersion2]
	revision := p[tpm2.TPMPTRevision]
	return Info{
		Manufacturer: characters(p[tpm2.TPMPTManufacturer]),
		VendorString: characters(p[tpm2.TPMPTVendorString1], p[tpm2.TPMPTVendorString2],
			p[tpm2.TPMPTVendorString3], p[tpm2.TPMPTVendorString4]),
		FirmwareVersion: fmt.Sprintf("%d.%d.%d.%d", high>>16, high&0xffff, low>>16, low&0xffff),
		SpecFamily:      characters(p[tpm2.TPMPTFamilyIndicator]),
		SpecRevision:    fmt.Sprintf("%d.%02d", revision/100, revision%100),
	}
}

// characters decodes four ASCII characters per value. The result goes to logs:
// whatever does not print becomes a question mark.
func characters(values ...uint32) string {
	var packed []byte
	for _, value := range values {
		packed = binary.BigEndian.AppendUint32(packed, value)
	}
	text := strings.TrimRight(string(packed), "\x00 ")
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
}

// ClockInfo is the TPM's clock (Part 1, section 36; TPMS_CLOCK_INFO).
type ClockInfo struct {
	Clock        uint64 // milliseconds that the TPM was powered since the last TPM2_Clear
	ResetCount   uint32 // TPM Resets (boots) since the last TPM2_Clear
	RestartCount uint32 // TPM Restarts and Resumes since the last TPM Reset
	Safe         bool   // no higher Clock was ever reported; false for a while after an unorderly shutdown
}

// Clock reads the TPM's clock. TPM2_ReadClock takes no session, so the answer
// is not authenticated on the bus: evidence, not proof.
func (t *TPM) Clock(ctx context.Context) (ClockInfo, error) {
	var clock ClockInfo
	err := t.do(ctx, func(l *link) error {
		response, err := execute(l, "TPM2_ReadClock", tpm2.ReadClock{})
		if err != nil {
			return err
		}
		info := response.CurrentTime.ClockInfo
		clock = ClockInfo{
			Clock: info.Clock, ResetCount: info.ResetCount, RestartCount: info.RestartCount, Safe: bool(info.Safe),
		}
		return nil
	})
	return clock, err
}
