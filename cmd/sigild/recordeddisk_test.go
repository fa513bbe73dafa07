package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/ipc/ipctest"
)

// fullDisks has the kernel refuse what sigild writes to one of its files.
func fullDisks(t *testing.T) ipctest.Recorded {
	h, _ := serving(t, custody())
	var mend func(*testing.T)
	return hooked(h, map[string]func(*testing.T){
		"the audit log's disk is full":      func(t *testing.T) { mend = refuseWrites(t, h, h.AuditLog(), "write:error=ENOSPC") },
		"the database's disk is full":       func(t *testing.T) { mend = refuseWrites(t, h, h.Database(), "pwrite64:error=ENOSPC") },
		"the database fails in another way": func(t *testing.T) { mend = refuseWrites(t, h, h.Database(), "pwrite64:error=ENOMEM") },
		"there is room again":               func(t *testing.T) { mend(t) },
	})
}

// refuseWrites makes a system call of the running sigild on one file fail, until
// the function that it gives is called.
func refuseWrites(t *testing.T, h *daemontest.Host, file, how string) (mend func(*testing.T)) {
	t.Helper()
	call, _, _ := strings.Cut(how, ":")
	cmd := exec.Command("strace", "-f", "-p", fmt.Sprint(h.PID()), "-P", file, "-e", "trace="+call,
		"-e", "inject="+how, "-e", "signal=none", "-o", os.DevNull)
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(said)
	for lines.Scan() && !strings.Contains(lines.Text(), " attached") {
		t.Log(lines.Text())
	}
	go func() {
		for lines.Scan() { // until it has let go
		}
	}()
	return func(t *testing.T) {
		t.Helper()
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // interrupted
	}
}

// keysGone has an installation that lost the host key which its records need.
func keysGone(t *testing.T) ipctest.Recorded {
	h, _ := serving(t, custody())
	return hooked(h, map[string]func(*testing.T){"the host key has another number": func(t *testing.T) {
		stop(t, h)
		renumberHostKey(t, h)
		start(t, h)
	}})
}

// renumberHostKey gives the only host key another number.
func renumberHostKey(t *testing.T, h *daemontest.Host) {
	t.Helper()
	changeInstallation(t, h, true, func(c *coder, body map[int]cbor.RawMessage) {
		const hostKeys, number = 9, 1 // docs/format.md
		var keys []map[int]cbor.RawMessage
		c.decode(body[hostKeys], &keys)
		keys[0][number] = c.encode(2)
		body[hostKeys] = c.encode(keys)
	})
}
