package hsmtest

import (
	"bufio"
	"bytes"
	_ "embed" // for the source of the module
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

//go:embed testdata/faulty.c
var faultySource []byte

const (
	faultsVariable = "SIGILD_TEST_FAULTS"
	moduleVariable = "SIGILD_TEST_MODULE"
)

// Forever is a number of calls without an end.
const Forever = -1

// Faults tells a module in front of SoftHSM to fail, for what a healthy token
// cannot be made to do. Functions are named as in PKCS#11: "C_Sign". What is set
// before the module is loaded holds when it is, and what is set for ever holds
// after a restart of its process too. Methods are safe for concurrent use.
type Faults struct {
	Module string // the library to load

	t        testing.TB
	socket   string
	listener net.Listener

	mu       sync.Mutex
	standing []string // commands that a new connection gets first
	module   *bufio.ReadWriter
}

// build compiles the module, once in a process, and returns the library. It
// needs a C compiler, like every cgo package.
var build = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "faulty")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	source, module := filepath.Join(dir, "faulty.c"), filepath.Join(dir, "faulty.so")
	if err := os.WriteFile(source, faultySource, 0o600); err != nil {
		return nil, err
	}
	// It stays loaded after dlclose: a thread of it waits for commands.
	out, err := exec.Command("cc", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-O1", "-Wl,-z,nodelete",
		"-o", module, source, "-ldl", "-lpthread").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("build the faulty module: %w: %s", err, out)
	}
	return os.ReadFile(module)
})

// NewFaults makes a faulty module in dir, which has a short absolute path. A
// process that loads it needs Env. It ends with the test.
func NewFaults(t testing.TB, dir string) *Faults {
	t.Helper()
	library, err := build()
	if err != nil {
		t.Fatal(err)
	}
	f := &Faults{t: t, Module: filepath.Join(dir, "faulty.so"), socket: filepath.Join(dir, "faults.sock")}
	if err := os.WriteFile(f.Module, library, 0o600); err != nil {
		t.Fatal(err)
	}
	if f.listener, err = net.Listen("unix", f.socket); err != nil {
		t.Fatal(err)
	}
	go f.accept()
	t.Cleanup(func() { _ = f.listener.Close() })
	return f
}

// Env returns the environment of a process that loads the module.
func (f *Faults) Env() []string {
	return []string{faultsVariable + "=" + f.socket, moduleVariable + "=" + SoftHSM}
}

// accept takes the module's connection, of one process after the other.
func (f *Faults) accept() {
	for {
		c, err := f.listener.Accept()
		if err != nil {
			return
		}
		f.connected(bufio.NewReadWriter(bufio.NewReader(c), bufio.NewWriter(c)))
	}
}

// connected gives the module what stands, and lets it begin.
func (f *Faults) connected(module *bufio.ReadWriter) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.module = module
	for _, command := range append(append([]string(nil), f.standing...), "go") {
		if err := f.ask(command); err != nil {
			f.module = nil
			return
		}
	}
}

// ask sends one command to the module and waits until it is obeyed.
func (f *Faults) ask(command string) error {
	if _, err := f.module.WriteString(command + "\n"); err != nil {
		return err
	}
	if err := f.module.Flush(); err != nil {
		return err
	}
	line, err := f.module.ReadString('\n')
	if err != nil {
		return err
	}
	if line != "ok\n" {
		return errors.New("the faulty module does not know " + command)
	}
	return nil
}

// tell has a command obeyed, now and by processes to come.
func (f *Faults) tell(stands bool, format string, args ...any) {
	f.t.Helper()
	command := fmt.Sprintf(format, args...)
	f.mu.Lock()
	defer f.mu.Unlock()
	if stands || f.module == nil {
		f.standing = append(f.standing, command)
	}
	if f.module == nil {
		return
	}
	if err := f.ask(command); err != nil {
		f.module = nil // its process ended
		if strings.Contains(err.Error(), "does not know") {
			f.t.Error(err)
		}
	}
}

// Fail makes the function return the code without doing anything, until Clear.
func (f *Faults) Fail(function string, code uint) { f.FailTimes(function, code, Forever) }

// FailOnce does so for one call.
func (f *Faults) FailOnce(function string, code uint) { f.FailTimes(function, code, 1) }

// FailTimes does so for a number of calls.
func (f *Faults) FailTimes(function string, code uint, n int) {
	f.t.Helper()
	f.tell(n < 0, "fail %s %d %d", function, code, n)
}

// FailAfter makes the function do its work and then return the code, until
// Clear.
func (f *Faults) FailAfter(function string, code uint) {
	f.t.Helper()
	f.tell(true, "after %s %d %d", function, code, Forever)
}

// Hang makes the function wait until Clear, and then do its work.
func (f *Faults) Hang(function string) { f.HangTimes(function, Forever) }

// HangTimes does so for a number of calls.
func (f *Faults) HangTimes(function string, n int) {
	f.t.Helper()
	f.tell(n < 0, "hang %s %d", function, n)
}

// FailTwice makes the next call of the function and the one after the next return code
// without doing anything: what a token does that refuses one key and takes another.
func (f *Faults) FailTwice(function string, code uint) {
	f.t.Helper()
	f.tell(false, "twice %s %d", function, code)
}

// Spare lets the next n calls of the function go on in spite of what Fail and Hang set
// after it.
func (f *Faults) Spare(function string, n int) {
	f.t.Helper()
	f.tell(false, "spare %s %d", function, n)
}

// Slow makes each call of the function take longer, until Clear.
func (f *Faults) Slow(function string, d time.Duration) {
	f.t.Helper()
	f.tell(true, "slow %s %d", function, d.Milliseconds())
}

// Clear ends what is set for a function.
func (f *Faults) Clear(function string) {
	f.t.Helper()
	f.forget(function)
	f.tell(false, "clear %s", function)
}

// ClearAll ends every fault; a token that was pulled out is back.
func (f *Faults) ClearAll() {
	f.t.Helper()
	f.forget("")
	f.tell(false, "clear *")
}

// forget drops the standing commands about a function, or all.
func (f *Faults) forget(function string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var keep []string
	for _, command := range f.standing {
		if function != "" && strings.Fields(command)[1] != function {
			keep = append(keep, command)
		}
	}
	f.standing = keep
}

// LoseSessions closes every session, which logs out, as a token does that was
// reset.
func (f *Faults) LoseSessions() { f.t.Helper(); f.tell(false, "losesessions 0") }

// LogOut logs out, as another part of the process may.
func (f *Faults) LogOut() { f.t.Helper(); f.tell(false, "logout 0") }

// Vanish pulls the token out: its sessions die and its slot is empty.
func (f *Faults) Vanish() { f.t.Helper(); f.tell(true, "vanish 0") }

// Return puts it in again, in a slot whose number is higher by offset.
func (f *Faults) Return(offset uint) { f.t.Helper(); f.tell(true, "return %d", offset) }

// LockAfter makes the token count wrong user PINs, as real ones do, and lock the
// PIN at n in a row.
func (f *Faults) LockAfter(n int) { f.t.Helper(); f.tell(true, "locks %d", n) }

// LockPIN locks the user PIN.
func (f *Faults) LockPIN() { f.t.Helper(); f.tell(true, "locked 1") }

// Hide takes a mechanism away.
func (f *Faults) Hide(mechanism uint) { f.t.Helper(); f.tell(true, "hide %d", mechanism) }

// Rename gives a mechanism another number.
func (f *Faults) Rename(from, to uint) { f.t.Helper(); f.tell(true, "rename %d %d", from, to) }

// RefuseTemplates makes the token refuse keys with CKA_UNWRAP_TEMPLATE.
func (f *Faults) RefuseTemplates() { f.t.Helper(); f.tell(true, "notemplates 1") }

// RefuseCustody makes the token refuse private keys and AES keys from outside
// with a code; 0 lets them in again.
func (f *Faults) RefuseCustody(code uint) { f.t.Helper(); f.tell(true, "nocreate %d", code) }

// WrongSignatures spoils the next n ECDSA signatures: after LearnRoots those by the
// remembered keys, so that a probe of the daemon's own does not meet it.
func (f *Faults) WrongSignatures(n int) { f.t.Helper(); f.tell(n < 0, "wrong %d", n) }

// KeepRandom has the module keep the random bytes that the token gives; LastRandom
// returns the latest.
func (f *Faults) KeepRandom() { f.t.Helper(); f.tell(true, "keeprandom 1") }

// LastRandom returns what the latest C_GenerateRandom gave since KeepRandom.
func (f *Faults) LastRandom() []byte {
	f.t.Helper()
	b, err := os.ReadFile(f.socket + ".random")
	if err != nil {
		f.t.Fatal(err)
	}
	return b
}

// LearnRoots makes the module remember the values of the session key pairs made
// from now on, which RepeatNonces needs.
func (f *Faults) LearnRoots() { f.t.Helper(); f.tell(true, "learn 1") }

// RepeatNonces makes each signature by a remembered secp256k1 key use the same
// nonce. The signatures are valid.
func (f *Faults) RepeatNonces(on bool) {
	f.t.Helper()
	n := 0
	if on {
		n = 1
	}
	f.tell(true, "nonce %d", n)
}

// Measure counts the open sessions and the session objects of the process that
// has the module loaded.
func (f *Faults) Measure() (sessions, objects int) {
	f.t.Helper()
	f.tell(false, "measure 0")
	return f.Calls("sessions"), f.Calls("objects")
}

// Try has the module do, in the process that has it loaded, what it has no
// business to: "read" or "create" a file, "run" a program, "connect" to a TCP
// port of this host. It returns what a thread of the module's own got, which is
// nil when it was done. TriedByCall says what the next call of a function did.
func (f *Faults) Try(what, argument string) error {
	f.t.Helper()
	f.tell(false, "try %s %s", what, argument)
	return tried(f.Calls("tried"))
}

// TriedByCall is what the first call of a function after Try got when it tried
// the same; false when there was none yet.
func (f *Faults) TriedByCall() (got error, was bool) {
	f.t.Helper()
	n := f.Calls("tried.call")
	return tried(n), n != 0
}

// tried reads the module's tally, where 1000 stands for success.
func tried(n int) error {
	if n == 1000 {
		return nil
	}
	return syscall.Errno(n)
}

// Memory counts the bytes that C code has allocated in the process that has the
// module loaded, and those that its allocator holds, free ones included. Go's
// memory is not among them.
func (f *Faults) Memory() (allocated, held int) {
	f.t.Helper()
	f.tell(false, "memory 0")
	return f.Calls("allocated"), f.Calls("held")
}

// Calls returns how often the function was called, by all processes.
func (f *Faults) Calls(function string) int {
	f.t.Helper()
	const nameSize, size = 24, 32
	table, err := os.ReadFile(f.socket + ".calls")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.t.Fatal(err)
	}
	for ; len(table) >= size; table = table[size:] {
		if string(bytes.TrimRight(table[:nameSize], "\x00")) == function {
			return int(binary.NativeEndian.Uint64(table[nameSize:]))
		}
	}
	return 0
}
