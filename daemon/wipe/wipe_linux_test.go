package wipe_test

import (
	"crypto/rand"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"testing"

	sys "golang.org/x/sys/unix"

	"github.com/sigild/sigild/daemon/wipe"
	"github.com/sigild/sigild/daemon/wipe/wipetest"
)

// size of a secret here. Go copies 33 to 64 bytes by vector registers: the last 32
// stay in two of them.
const size = 61

// secret is one that the test remembers masked.
type secret struct{ masked wipetest.Masked }

func newSecret() *secret {
	var b [size]byte
	rand.Read(b[:])
	return &secret{b[:]} // as good as any other
}

// move copies the secret from one buffer to another, both of which it clears, and
// has a signal interrupt its thread directly after that.
//
//go:noinline
func (s *secret) move() {
	from, to := new([size]byte), new([size]byte)
	s.masked.Unmask(from[:])
	copyAndSignal(to[:], from[:])
	clear(from[:])
	clear(to[:])
}

//go:noinline
func copyAndSignal(to, from []byte) {
	copy(to, from)
	_, _, _ = sys.RawSyscall(sys.SYS_TGKILL, uintptr(os.Getpid()), uintptr(sys.Gettid()), uintptr(sys.SIGURG))
}

// spread leaves copies of the secret in frames deep below its caller's.
//
//go:noinline
func (s *secret) spread(deep int) byte {
	var copied [size]byte
	s.masked.Unmask(copied[:])
	if deep == 0 {
		return copied[size-1]
	}
	return copied[deep%size] + s.spread(deep-1)
}

// left counts how often the last 32 bytes are in memory, which is what a copy
// leaves in registers.
func (s *secret) left(t *testing.T) int {
	t.Helper()
	return len(s.masked[size-32:].Places(t))
}

// aside runs f on a thread and a stack of its own, which nothing else uses before
// the test ends.
func aside(t *testing.T, f func()) {
	t.Helper()
	done, end := make(chan struct{}), make(chan struct{})
	go func() {
		runtime.LockOSThread() // the thread ends with its goroutine
		f()
		close(done)
		<-end
	}()
	<-done
	t.Cleanup(func() { close(end) })
}

// collect has the runtime overwrite the stacks of signals that interrupted Do, and
// that signal, which a collection does not wait for, behind it.
func collect() {
	runtime.GC()
	runtime.GC()
}

// A signal that comes just after a copy has the kernel store the registers, and so
// the secret, on the signal's stack. That stays where nothing is done about it, and
// not after Do and Quiet.
func TestSignalsStoreNoSecret(t *testing.T) {
	if !wipe.Enabled() {
		t.Log("NOT RUN: this build erases nothing; use make test, or set GOEXPERIMENT=runtimesecret")
		return
	}
	for name, run := range map[string]func(func()){"Do": wipe.Do, "Quiet": wipe.Quiet} {
		s := newSecret()
		aside(t, func() { run(s.move) })
		collect()
		if n := s.left(t); n > 0 {
			t.Errorf("%s: the secret is in memory %d times", name, n)
		}
	}
	s := newSecret()
	aside(t, s.move)
	collect()
	if n := s.left(t); n == 0 && runtime.GOARCH == "amd64" {
		t.Error("the secret is not found where it must be: this test proves nothing")
	}
}

// What is left in the unused part of the stack goes too.
func TestQuietErasesTheStack(t *testing.T) {
	if !wipe.Enabled() {
		t.Log("NOT RUN: this build erases nothing; use make test, or set GOEXPERIMENT=runtimesecret")
		return
	}
	for name, run := range map[string]func(func()){"Quiet": wipe.Quiet, "nothing": func(f func()) { f() }} {
		s, other := newSecret(), newSecret()
		aside(t, func() {
			other.spread(80) // so that the stack is large enough: what it grew out of is not erased
			run(func() { s.spread(40) })
		})
		collect()
		if n := s.left(t); (n > 0) != (name == "nothing") {
			t.Errorf("after %s the secret is in memory %d times", name, n)
		}
	}
}

// The signals come when f has ended.
func TestQuietHoldsSignals(t *testing.T) {
	came := make(chan os.Signal, 1)
	signal.Notify(came, sys.SIGUSR1)
	defer signal.Stop(came)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pending := func() bool {
		status, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/status", sys.Gettid()))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(status), "\nSigPnd:\t")
		held, err := strconv.ParseUint(rest[:16], 16, 64) // the scheduler's own signal may wait too
		if err != nil {
			t.Fatal(err)
		}
		return held&(1<<(sys.SIGUSR1-1)) != 0
	}
	wipe.Quiet(func() {
		if err := sys.Tgkill(os.Getpid(), sys.Gettid(), sys.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		if !pending() {
			t.Error("a signal came in Quiet")
		}
	})
	if <-came; pending() {
		t.Error("the signal is still pending")
	}
}
