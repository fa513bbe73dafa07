package tpm

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// maxPCR is the highest PCR of a PC client TPM that may be selected here.
const maxPCR = 23

// Selection is a set of PCR indexes, 0 to 23, ascending, without repetition.
type Selection []int

// check refuses what is not a Selection.
func (s Selection) check() error {
	if len(s) == 0 {
		return fmt.Errorf("%w: no PCR is selected", ErrProfile)
	}
	for i, pcr := range s {
		if pcr < 0 || pcr > maxPCR {
			return fmt.Errorf("%w: PCR %d does not exist; use 0 to %d", ErrProfile, pcr, maxPCR)
		}
		if i > 0 && s[i-1] >= pcr {
			return fmt.Errorf("%w: the PCR list is not ascending at %d", ErrProfile, pcr)
		}
	}
	return nil
}

// String lists the indexes, "7, 11, 12".
func (s Selection) String() string {
	words := make([]string, len(s))
	for i, pcr := range s {
		words[i] = strconv.Itoa(pcr)
	}
	return strings.Join(words, ", ")
}

// Profile is the set of PCRs that decides whether the platform is in the state
// that was approved. The zero value is not usable.
type Profile struct {
	name string
	pcrs Selection
}

// Names of the profiles.
const (
	ProfileUKI  = "uki"  // 7, 11, 12, 14: a unified kernel image with systemd-stub
	ProfileGRUB = "grub" // 4, 7, 8, 9, 12, 14: shim and GRUB, which measures what it loads
	ProfileList = "list" // the PCRs given
)

// ParseProfile makes a profile from its name. The explicit list belongs to
// "list" only; it is sorted, and a PCR named twice is an error. Unless forced, a
// list needs a PCR that measures the operating system (MeasuresSystem), since
// others, such as 0, 2 and 7, have the same values under every one that boots
// behind the same shim; and none that a program can reset.
func ParseProfile(name string, explicit []int, force bool) (Profile, error) {
	if name != ProfileList && len(explicit) != 0 {
		return Profile{}, fmt.Errorf("%w: %q takes no list of PCRs; use %q with one", ErrProfile, name, ProfileList)
	}
	switch name {
	case ProfileUKI:
		return Profile{name: name, pcrs: Selection{7, 11, 12, 14}}, nil
	case ProfileGRUB:
		return Profile{name: name, pcrs: Selection{4, 7, 8, 9, 12, 14}}, nil
	case ProfileList:
		return listProfile(explicit, force)
	}
	return Profile{}, fmt.Errorf("%w: %q is not a profile; use %q, %q or %q",
		ErrProfile, name, ProfileUKI, ProfileGRUB, ProfileList)
}

func listProfile(explicit []int, force bool) (Profile, error) {
	pcrs := Selection(slices.Clone(explicit))
	slices.Sort(pcrs)
	if err := pcrs.check(); err != nil {
		return Profile{}, err
	}
	if !force && !slices.ContainsFunc(pcrs, MeasuresSystem) {
		return Profile{}, fmt.Errorf("%w: PCRs %s do not change when another operating system boots; "+
			"add one that measures it (4, 8, 9 or 11), or force the list", ErrProfile, pcrs)
	}
	if !force && slices.ContainsFunc(pcrs, resettable) {
		return Profile{}, fmt.Errorf("%w: PCRs 16 and 23 can be reset by any program; leave them out, or force the list", ErrProfile)
	}
	return Profile{name: ProfileList, pcrs: pcrs}, nil
}

// MeasuresSystem reports whether a PCR tells one operating system from another
// behind the same firmware: 4 (the boot loader's and kernel's EFI binaries), 8
// and 9 (GRUB's commands and files), 11 (a unified kernel image).
func MeasuresSystem(pcr int) bool { return pcr == 4 || pcr == 8 || pcr == 9 || pcr == 11 }

// resettable reports whether a program can reset the PCR without a reboot
// (PC Client Platform TPM Profile, PCR attributes).
func resettable(pcr int) bool { return pcr == 16 || pcr == 23 }

// Name is the word that ParseProfile took.
func (p Profile) Name() string { return p.name }

// PCRs returns the selection.
func (p Profile) PCRs() Selection { return slices.Clone(p.pcrs) }
