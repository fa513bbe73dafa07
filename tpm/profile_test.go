package tpm_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/sigild/sigild/tpm"
)

func TestParseProfile(t *testing.T) {
	for _, c := range []struct {
		name     string
		explicit []int
		force    bool
		want     []int // nil: refused
	}{
		{name: "uki", want: []int{7, 11, 12, 14}},
		{name: "grub", want: []int{4, 7, 8, 9, 12, 14}},
		{name: "list", explicit: []int{12, 0, 9}, want: []int{0, 9, 12}},
		{name: "list", explicit: []int{12, 11, 23}, force: true, want: []int{11, 12, 23}},
		{name: "list", explicit: []int{12, 11, 23}},
		{name: "list", explicit: []int{11, 16}},
		{name: "list", explicit: []int{0, 1, 3, 7, 12, 14}},
		{name: "list", explicit: []int{7, 11}, want: []int{7, 11}},
		{name: "list", explicit: []int{2, 0, 7}, force: true, want: []int{0, 2, 7}},
		{name: "list", explicit: []int{0, 2, 7}},
		{name: "list", explicit: []int{7}},
		{name: "list", explicit: []int{2, 0}},
		{name: "list"},
		{name: "list", force: true},
		{name: "list", explicit: []int{}},
		{name: "list", explicit: []int{11, 24}},
		{name: "list", explicit: []int{-1, 11}},
		{name: "list", explicit: []int{11, 11}},
		{name: "uki", explicit: []int{11}},
		{name: "grub", explicit: []int{11}, force: true},
		{name: ""},
		{name: "UKI"},
		{name: "owner", explicit: []int{11}},
	} {
		profile, err := tpm.ParseProfile(c.name, c.explicit, c.force)
		if c.want == nil {
			if !errors.Is(err, tpm.ErrProfile) || len(profile.PCRs()) != 0 {
				t.Errorf("%q %v %t: %v, %v; want a refusal", c.name, c.explicit, c.force, profile.PCRs(), err)
			}
			continue
		}
		if err != nil || !slices.Equal(profile.PCRs(), c.want) || profile.Name() != c.name {
			t.Errorf("%q %v %t: %v, %v", c.name, c.explicit, c.force, profile.PCRs(), err)
		}
	}
}

func TestParseProfileKeepsTheCallersList(t *testing.T) {
	list := []int{14, 11}
	profile, err := tpm.ParseProfile("list", list, false)
	if err != nil || list[0] != 14 {
		t.Fatalf("%v, %v", list, err)
	}
	profile.PCRs()[0] = 99
	if profile.PCRs()[0] != 11 {
		t.Error("the profile can be changed from outside")
	}
}

func TestReadPCRs(t *testing.T) {
	h := newHost(t)
	all := make(tpm.Selection, 24)
	for i := range all {
		all[i] = i
	}
	h.instance.Extend(t, 14, []byte("MOK"))
	values, err := h.ReadPCRs(t.Context(), all) // three answers of eight
	if err != nil || len(values) != 24 {
		t.Fatalf("%d values, %v", len(values), err)
	}
	if values[14] == ([32]byte{}) || values[7] != ([32]byte{}) {
		t.Errorf("PCR 14 is %x, PCR 7 is %x", values[14], values[7])
	}
	for _, bad := range []tpm.Selection{nil, {24}, {-1}, {7, 7}, {8, 7}} {
		if _, err := h.ReadPCRs(t.Context(), bad); !errors.Is(err, tpm.ErrProfile) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}
