package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// region is a piece of a process's memory.
type region struct {
	name  string
	start uint64
	data  []byte
}

// goMemory says whether a region is the Go runtime's heap, where its stacks are
// too: from 0xc000000000 on, or at a random address. Below is the program and
// libc's heap, above are mappings: SoftHSM's, OpenSSL's, the threads' stacks.
func (r region) goMemory() bool { return r.start>>36 > 0 && r.start < 0x7000_0000_0000 }

// largestRegion leaves out what the race detector reserves.
const largestRegion = 1 << 32

// snapshot reads all that a process has mapped writable, while it stands still.
func snapshot(t *testing.T, pid int) []region {
	t.Helper()
	defer hold(t, pid)()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	var list []region
	for line := range strings.Lines(string(maps)) {
		var start, end uint64
		var flags string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &start, &end, &flags); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(flags, "rw") || end-start > largestRegion {
			continue
		}
		r := region{name: strings.TrimSpace(line), start: start, data: make([]byte, end-start)}
		n, err := io.ReadFull(io.NewSectionReader(mem, int64(start), int64(end-start)), r.data)
		if err != nil && n == 0 {
			continue // [vvar] and the like
		}
		list = append(list, r)
	}
	return list
}

// hold stops a process at a moment when no signal is on its way to one of its
// threads. The runtime overwrites what a signal that interrupted secret mode left
// on a signal stack by another signal, at the beginning of a collection, and does
// not wait until that arrived.
func hold(t *testing.T, pid int) (release func()) {
	t.Helper()
	release = func() { _ = syscall.Kill(pid, syscall.SIGCONT) }
	await(t, "a moment without a signal on its way", func() bool {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		await(t, "every thread to stand", func() bool { return everyThread(t, pid, stands) })
		quiet := everyThread(t, pid, expectsNoSignal)
		if !quiet {
			release()
		}
		return quiet
	})
	return release
}

func stands(status string) bool { return strings.Contains(status, "\nState:\tT") }

func expectsNoSignal(status string) bool {
	return strings.Contains(status, "\nSigPnd:\t0000000000000000\n")
}

// everyThread looks at each thread's status.
func everyThread(t *testing.T, pid int, holds func(status string) bool) bool {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(files) == 0 {
		t.Fatalf("threads of %d: %v, %v", pid, files, err)
	}
	return !slices.ContainsFunc(files, func(name string) bool {
		status, err := os.ReadFile(name)
		return err == nil && !holds(string(status)) // an error: that thread has ended
	})
}

// found counts where a value is: in Go's memory, and elsewhere.
func found(memory []region, value []byte) (inGo, elsewhere int) {
	for _, r := range memory {
		n := bytes.Count(r.data, value)
		if r.goMemory() {
			inGo += n
		} else {
			elsewhere += n
		}
	}
	return inGo, elsewhere
}

// places says where a value is, for whoever looks for the reason.
func places(memory []region, value []byte) string {
	var b strings.Builder
	for _, r := range memory {
		for at := 0; ; at++ {
			n := bytes.Index(r.data[at:], value)
			if n < 0 {
				break
			}
			at += n
			kind := "memory"
			if inSignalFrame(r.data[:at]) {
				kind = "registers that a signal's frame holds"
			}
			fmt.Fprintf(&b, "\n\t%#x, %s, in %s", r.start+uint64(at), kind, r.name)
		}
	}
	return b.String()
}

// inSignalFrame tells whether what follows is in the registers of a signal frame
// of x86-64, by the magic number that Linux puts before the extended ones
// (FP_XSTATE_MAGIC1).
func inSignalFrame(before []byte) bool {
	const magic, most = 0x46505853, 3 << 10
	near := before[max(len(before)-most, 0):]
	return bytes.Contains(near, binary.LittleEndian.AppendUint32(nil, magic))
}
