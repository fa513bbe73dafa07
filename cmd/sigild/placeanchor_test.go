package main

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/tpm"
)

// The NV indexes that the configuration names by default.
const (
	anchorHandle  = 0x01800151
	uncleanHandle = 0x01800152
)

// withoutRoom has a provisioning end because the TPM has no room for one of its
// counters, the first or the second. It has room afterwards.
func withoutRoom(t *testing.T, counter int64) *daemontest.Host {
	t.Helper()
	h := newHost(t)
	tap, err := h.TapTPM()
	if err != nil {
		t.Fatal(err)
	}
	var defined atomic.Int64
	tap.Answer(func(code uint32) (response uint32, ok bool) {
		return uint32(tpm2.TPMRCNVSpace), tpm2.TPMCC(code) == tpm2.TPMCCNVDefineSpace && defined.Add(1) == counter
	})
	if code, said := provisionWith(t, h, devNull(t), func(string, func() error) {}); code == 0 {
		t.Fatalf("it did not end: %s", said)
	}
	tap.Answer(nil)
	return h
}

// guardedBy changes the section [guard].
func guardedBy(t *testing.T, h *daemontest.Host, lines string) {
	t.Helper()
	h.Config["guard"] = lines
	if err := h.WriteConfig(); err != nil {
		t.Fatal(err)
	}
}

// withTPM uses the TPM while sigild does not: swtpm keeps no two programs apart.
func withTPM(t *testing.T, h *daemontest.Host, use func(chip *tpm.TPM)) {
	t.Helper()
	chip, err := tpm.Open(testContext(t), tpm.Config{Device: h.TPM.Device})
	if err != nil {
		t.Fatal(err)
	}
	use(chip)
	if err := chip.Close(); err != nil {
		t.Fatal(err)
	}
}

// A provisioning that a TPM has no room for goes on with the anchor that the operator
// then names, and leaves nothing of the other behind.
func TestProvisionGoesOnWithAnotherAnchor(t *testing.T) {
	for counter := int64(1); counter <= 2; counter++ {
		for _, handle := range []uint32{anchorHandle, 0x01800161} {
			t.Run(fmt.Sprintf("counter %d, then %#x", counter, handle), func(t *testing.T) {
				h := withoutRoom(t, counter)
				guardedBy(t, h, fmt.Sprintf("anchor = \"durable\"\nhandle = %#x", handle))
				provision(t, h)
				start(t, h)
				c := dial(t, h.Socket)
				signAll(t, c, create(t, c, "1"), 0)
				stop(t, h)
				if r := looked(t, h); r.Mode != "durable" || !r.Healthy() {
					t.Errorf("the check says %+v", r)
				}
				withTPM(t, h, func(chip *tpm.TPM) {
					for _, index := range []uint32{anchorHandle, uncleanHandle, handle} {
						if there, err := chip.NVDefined(testContext(t), index); err != nil || there != (index == handle) {
							t.Errorf("the index %#x is there: %v, %v", index, there, err)
						}
					}
				})
			})
		}
	}
}

// What another installation defined meanwhile, where an interrupted provisioning was
// about to, stays: the repetition is refused until it is told another place.
func TestProvisionSparesAnotherInstallationsCounter(t *testing.T) {
	h := withoutRoom(t, 1)
	theirs := tpm.CounterSpec{Handle: anchorHandle, Orderly: true, Auth: make([]byte, 32)}
	withTPM(t, h, func(chip *tpm.TPM) {
		counter, err := chip.DefineCounter(testContext(t), theirs.Handle, theirs.Orderly, theirs.Auth)
		if err != nil {
			t.Fatal(err)
		}
		theirs.Name = counter.Name()
	})
	mustStay := func() {
		t.Helper()
		withTPM(t, h, func(chip *tpm.TPM) {
			if _, err := chip.OpenCounter(testContext(t), theirs); err != nil {
				t.Errorf("the other installation's counter: %v", err)
			}
		})
	}
	for _, lines := range []string{"", `anchor = "durable"`} {
		guardedBy(t, h, lines)
		code, said := provisionWith(t, h, devNull(t), func(string, func() error) {})
		if code == 0 {
			t.Error("it took another installation's place")
		}
		mustContain(t, said, "0x1800151", "[guard]")
		mustStay()
	}
	guardedBy(t, h, "handle = 0x01800161\nunclean_handle = 0x01800162")
	provision(t, h)
	mustStay()
	start(t, h)
	c := dial(t, h.Socket)
	signAll(t, c, create(t, c, "1"), 0)
}
