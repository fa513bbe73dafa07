package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/ipc"
)

// A change of the approved states at a start that cannot be audited is no change: the
// token is not taken into service until the line and the document are written.
func TestApprovalsChangeWithTheirLineOnly(t *testing.T) {
	for action, extended := range map[string]bool{"approvalPromoted": true, "approvalRemoved": false} {
		t.Run(action, func(t *testing.T) {
			log := new(record)
			faults, module := faultyToken(t)
			o := daemontest.Options{Log: log.add}
			module(&o)
			m := newMeasuredHost(t, o)
			m.succeeds(nil, "reseal", "--pcr", "11="+after())
			m.reboot()
			if extended {
				m.extend(11)
			}
			faults.Fail("C_Login", pkcs11.CKR_DEVICE_REMOVED)
			before := len(log.all())
			m.start()
			mend := refuseWrites(t, m.Host, m.AuditLog(), "write:error=ENOSPC")
			faults.Clear("C_Login")
			c := m.dial()
			await(t, "a start that cannot write its line", func() bool { return startMetFullDisk(t, c) || served(log.all()[before:]) })
			mend(t)
			awaitSignature(t, c, m.made.WalletID)
			m.stop()
			m.audited("approvalAhead", action)
			if _, output := m.succeeds(nil, "reseal"); strings.Contains(output, "ahead:") || strings.Count(output, "approved:") != 1 {
				t.Errorf("the approved states are:\n%s", output)
			}
		})
	}
}

// startMetFullDisk says whether the token is kept out of service by what a full disk
// refused, and not only that a probe of the daemon's found the disk full.
func startMetFullDisk(t *testing.T, c *ipc.Client) bool {
	t.Helper()
	s, err := c.Status(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(s.Reasons, func(r ipc.StatusReason) bool {
		return strings.HasPrefix(r.Reason, "token") && strings.Contains(r.Detail, "no space left")
	})
}

// served says whether the token came into service.
func served(lines []string) bool {
	return slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, "the token can be used") })
}
