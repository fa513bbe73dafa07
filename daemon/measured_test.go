package daemon

import (
	"errors"
	"testing"

	"github.com/sigild/sigild/tpm"
)

func TestUnmeasuredPCRsAreRefused(t *testing.T) {
	extended, reset := [32]byte{1}, [32]byte{}
	full := allOf(0xff)
	for name, c := range map[string]struct {
		profile string
		list    []int
		values  tpm.PCRValues
		force   bool
		ok      bool
	}{
		"a unified kernel":      {"uki", nil, tpm.PCRValues{7: extended, 11: extended, 12: reset, 14: reset}, false, true},
		"no unified kernel":     {"uki", nil, tpm.PCRValues{7: extended, 11: reset, 12: extended, 14: extended}, false, false},
		"never started":         {"uki", nil, tpm.PCRValues{7: extended, 11: full, 12: extended, 14: extended}, false, false},
		"forced":                {"uki", nil, tpm.PCRValues{7: extended, 11: reset}, true, true},
		"GRUB":                  {"grub", nil, tpm.PCRValues{4: extended, 7: extended, 8: extended, 9: extended}, false, true},
		"GRUB without files":    {"grub", nil, tpm.PCRValues{4: extended, 7: extended, 8: extended, 9: reset}, false, false},
		"a list":                {"list", []int{0, 9}, tpm.PCRValues{0: extended, 9: extended}, false, true},
		"a list that is not":    {"list", []int{0, 9}, tpm.PCRValues{0: extended, 9: reset}, false, false},
		"one of two is missing": {"list", []int{9, 11}, tpm.PCRValues{9: extended, 11: reset}, false, false},
	} {
		p, err := tpm.ParseProfile(c.profile, c.list, c.force)
		if err != nil {
			t.Fatal(err)
		}
		if err := checkMeasured(p, c.values, c.force); (err == nil) != c.ok || (err != nil && !errors.Is(err, ErrUnmeasured)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
