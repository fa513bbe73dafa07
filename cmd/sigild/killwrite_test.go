package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/sigild/sigild/daemon/daemontest"
)

// diskTrap kills sigild when the disk has carried out a number of its writes and
// syncs. strace stops the thread after each of them for long enough.
type diskTrap struct {
	tracer *exec.Cmd
	calls  *bufio.Scanner // a line for each
	hit    chan string    // gets the call after which it was killed, or nothing
}

// trapDisk traces writes to the database and the audit log of the running
// sigild from now on.
func trapDisk(t *testing.T, h *daemontest.Host, at int) *diskTrap {
	t.Helper()
	const disk = "pwrite64,write,ftruncate,fdatasync,fsync"
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	trap := &diskTrap{calls: bufio.NewScanner(read), hit: make(chan string, 1)}
	trap.tracer = exec.CommandContext(testContext(t), "strace", "-f", "-p", strconv.Itoa(h.PID()), "-P", h.Database(), "-P", h.AuditLog(),
		"-s", "8", "-e", "trace="+disk, "-e", "inject="+disk+":delay_exit=40000", "-e", "signal=none", "-o", "/proc/self/fd/3")
	trap.tracer.ExtraFiles = []*os.File{write}
	said, err := trap.tracer.StderrPipe()
	if err == nil {
		err = trap.tracer.Start()
	}
	_ = write.Close()
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(said)
	for lines.Scan() && !strings.Contains(lines.Text(), "attached") {
	}
	go func() {
		defer close(trap.hit)
		defer read.Close()
		for n := 0; trap.calls.Scan(); {
			if line := trap.calls.Text(); !strings.Contains(line, "DELAYED") {
				continue
			} else if n++; n == at {
				_ = syscall.Kill(h.PID(), syscall.SIGKILL) // it may have ended
				trap.hit <- line
				break
			}
		}
		_, _ = io.Copy(io.Discard, read)
	}()
	go func() { _, _ = io.Copy(io.Discard, said) }()
	return trap
}

// release ends the tracing and gives the call after which sigild was killed. The
// tracer is killed: one whose thread died in a delay waits for it for ever.
func (d *diskTrap) release(t *testing.T) string {
	t.Helper()
	_ = d.tracer.Process.Kill() // an error means that it ended with sigild
	_ = d.tracer.Wait()
	return <-d.hit
}

// P4, P7: sigild is killed after each write and sync of the database and the
// audit log in a PIN check, a creation and a PIN change. Few points by default;
// SIGILD_KILLS=1 takes all.
func TestP4KilledAtEachWrite(t *testing.T) {
	v := newVictim(t)
	points, step := 0, 5
	if os.Getenv("SIGILD_KILLS") != "" {
		step = 1
	}
	for what, try := range v.operations() {
		for n := 1; ; n += step {
			var trap *diskTrap
			before, err := v.try(try, 1000+n, func() { trap = trapDisk(t, v.h, n) })
			call := trap.release(t)
			v.recovers(what, fmt.Sprintf("%s (%v), point %d: %s", what, err, n, call), before, err)
			if call == "" {
				break // it needed fewer writes
			}
			points++
		}
	}
	t.Logf("killed at %d points", points)
	if points < 4 {
		t.Errorf("only %d points", points)
	}
}
