package daemon

import (
	"errors"
	"fmt"

	"github.com/sigild/sigild/tpm"
)

// ErrUnmeasured is returned when a PCR that should tell operating systems apart
// holds no measurement.
var ErrUnmeasured = errors.New("a PCR of the profile holds no measurement")

// essential are the PCRs that tell one operating system from another behind the
// same firmware and boot loader, by profile. For a list they are those of it
// that do.
func essential(p tpm.Profile) []int {
	switch p.Name() {
	case tpm.ProfileUKI:
		return []int{11}
	case tpm.ProfileGRUB:
		return []int{4, 8, 9}
	}
	var list []int
	for _, pcr := range p.PCRs() {
		if tpm.MeasuresSystem(pcr) {
			list = append(list, pcr)
		}
	}
	return list
}

// checkMeasured refuses a profile whose essential PCRs were never extended: on
// a host that did not boot that way, binding to them binds to nothing.
func checkMeasured(p tpm.Profile, values tpm.PCRValues, force bool) error {
	for _, pcr := range essential(p) {
		if v := values[pcr]; !force && (v == allOf(0) || v == allOf(0xff)) {
			return fmt.Errorf("%w: PCR %d, so that another system on this machine could use the keys. "+
				"Choose the tpm.profile that fits how this host boots, or set tpm.force", ErrUnmeasured, pcr)
		}
	}
	return nil
}

func allOf(b byte) (v [32]byte) {
	for i := range v {
		v[i] = b
	}
	return v
}
