package wipe_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"testing"

	sys "golang.org/x/sys/unix"

	"github.com/sigild/sigild/daemon/wipe"
)

// size of a secret here. Go copies 33 to 64 bytes by vector registers: the last 32
// stay in two of them.
const size = 61

// masked is a secret that the test remembers without keeping a copy of it.
type masked [size]byte

func newMasked() (m masked) {
	rand.Read(m[:])
	return m
}

// move copies the secret from one buffer to another, both of which it clears, and
// has signals interrupt its thread directly after that.
//
//go:noinline
func (m *masked) move() {
	from, to := new([size]byte), new([size]byte)
	for i := range m {
		from[i] = m[i] ^ 0x55
	}
	copyAndSignal(to[:], from[:])
	clear(from[:])
	clear(to[:])
}

//go:noinline
func copyAndSignal(to, from []byte) {
	copy(to, from)
	_, _, _ = sys.RawSyscall(sys.SYS_TGKILL, uintptr(os.Getpid()), uintptr(sys.Gettid()), uintptr(sys.SIGURG))
}

// places counts how often the secret's last 32 bytes are in memory that this
// process can write.
func (m *masked) places(t *testing.T) (n int) {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	buffer := make([]byte, 1<<16)
	for line := range strings.Lines(string(maps)) {
		var low, high uint64
		var flags string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &low, &high, &flags); err != nil {
			t.Fatal(err)
		}
		for at := low; strings.HasPrefix(flags, "rw") && at < high; at += uint64(len(buffer) - size) {
			read, _ := mem.ReadAt(buffer[:min(uint64(len(buffer)), high-at)], int64(at)) // parts may be unmapped meanwhile
			n += m.count(buffer[:read])
		}
	}
	return n
}

func (m *masked) count(b []byte) (n int) {
	want := m[size-32:]
	for {
		i := bytes.IndexByte(b, want[0]^0x55)
		if i < 0 || i+len(want) > len(b) {
			return n
		}
		same := true
		for k := range want {
			same = same && b[i+k]^0x55 == want[k]
		}
		if same {
			n++
		}
		b = b[i+1:]
	}
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
		m := newMasked()
		aside(t, func() { run(m.move) })
		collect()
		if n := m.places(t); n > 0 {
			t.Errorf("%s: the secret is in memory %d times", name, n)
		}
	}
	m := newMasked()
	aside(t, m.move)
	collect()
	if n := m.places(t); n == 0 && runtime.GOARCH == "amd64" {
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
		m, other := newMasked(), newMasked()
		aside(t, func() {
			other.spread(80) // so that the stack is large enough: what it grew out of is not erased
			run(func() { m.spread(40) })
		})
		collect()
		if n := m.places(t); (n > 0) != (name == "nothing") {
			t.Errorf("after %s the secret is in memory %d times", name, n)
		}
	}
}

// spread leaves copies of the secret in frames deep below its caller's.
//
//go:noinline
func (m *masked) spread(deep int) byte {
	var copied [size]byte
	for i := range m {
		copied[i] = m[i] ^ 0x55
	}
	if deep == 0 {
		return copied[size-1]
	}
	return copied[deep%size] + m.spread(deep-1)
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
		return strings.Contains(string(status), fmt.Sprintf("\nSigPnd:\t%016x\n", 1<<(sys.SIGUSR1-1)))
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
