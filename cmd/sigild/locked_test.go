package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sigild/sigild/daemon/daemontest"
)

// TestMemoryIsLocked runs sigild as another user: where it may lock everything it
// does, and says so; where a limit would end it at its next large allocation it
// locks nothing, and says that. Locking makes it no larger.
func TestMemoryIsLocked(t *testing.T) {
	resident := map[bool]int{}
	for name, c := range map[string]struct {
		options []string
		locked  bool
	}{
		"with CAP_IPC_LOCK": {[]string{"--inh-caps", "+ipc_lock", "--ambient-caps", "+ipc_lock"}, true},
		"with a limit":      {[]string{"--inh-caps", "-all", "--bounding-set", "-all"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			h := lockedOrNot(t, c.locked, c.options)
			if h == nil {
				return
			}
			client := dial(t, h.Socket)
			s, err := client.Status(testContext(t))
			if err != nil {
				t.Fatal(err)
			}
			if swapped := strings.Contains(fmt.Sprint(s.Notes), "may be swapped out"); swapped == c.locked {
				t.Errorf("status says %q", s.Notes)
			}
			w := create(t, client, "1")
			for range 8 {
				if _, err := tryPIN(t, client, w.WalletID, rightPIN); err != nil {
					t.Error(err)
				}
			}
			locked := memoryOf(t, h, "VmLck")
			resident[c.locked] = memoryOf(t, h, "VmRSS")
			if (locked > 0) != c.locked || c.locked && locked < resident[true] {
				t.Errorf("%d KiB are locked, %d are there", locked, resident[c.locked])
			}
			t.Logf("%d KiB there, %d locked", resident[c.locked], locked)
		})
	}
	if own == 0 && resident[true] > 2*resident[false] {
		t.Errorf("%d KiB there when locked, %d when not", resident[true], resident[false])
	}
}

// lockedOrNot is a host whose sigild may lock its memory, or not. Only root can give
// that permission; for others there is the second half.
func lockedOrNot(t *testing.T, locked bool, options []string) *daemontest.Host {
	t.Helper()
	switch {
	case own == 0:
		return servingAs(t, relayUID, options...)
	case locked:
		return nil
	}
	h, _ := serving(t)
	return h
}
