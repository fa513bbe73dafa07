package tpmtest

import (
	"context"
	"crypto/sha256"
	"os"
	"testing"
)

// Instance is a TPM of one test.
type Instance struct {
	Device string // absolute path of its Unix socket; stays the same over Restart

	t       testing.TB
	dir     string
	process *Process
}

// New starts a fresh TPM that ends with the test. The test must have closed
// whatever it opened on it by then: objects and sessions that are still loaded
// fail the test.
func New(t testing.TB) *Instance {
	t.Helper()
	dir, err := os.MkdirTemp("", "swtpm") // not t.TempDir: a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	i := &Instance{t: t, dir: dir}
	t.Cleanup(i.cleanup)
	i.start()
	return i
}

func (i *Instance) start() {
	i.t.Helper()
	process, err := Start(context.Background(), i.dir)
	if err != nil {
		i.t.Fatal(err)
	}
	i.process, i.Device = process, process.Device
}

func (i *Instance) cleanup() {
	defer func() { _ = os.RemoveAll(i.dir) }()
	if i.process == nil {
		return
	}
	defer i.process.Kill()
	i.CheckLeaks(i.t)
}

// CheckLeaks fails the test when the TPM holds objects or sessions.
func (i *Instance) CheckLeaks(t testing.TB) {
	t.Helper()
	loaded, err := i.process.Loaded()
	if err != nil {
		t.Errorf("look for leaked handles: %v", err)
	}
	for _, handle := range loaded {
		t.Errorf("handle %#x is still loaded in the TPM", handle)
	}
}

// Loaded returns the handles of the objects and sessions in the TPM.
func (i *Instance) Loaded(t testing.TB) []uint32 {
	t.Helper()
	loaded, err := i.process.Loaded()
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

// Restart ends the TPM and starts it with the state it has on disk: a reboot.
// Clean announces the end to it first; otherwise it is a power cut.
func (i *Instance) Restart(clean bool) {
	i.t.Helper()
	i.Stop(clean)
	i.start()
}

// Stop ends the TPM as Restart does, and leaves it off until Restart.
func (i *Instance) Stop(clean bool) {
	i.t.Helper()
	if i.process == nil {
		return
	}
	process := i.process
	i.process = nil
	if !clean {
		process.Kill()
		return
	}
	if err := process.Shutdown(); err != nil {
		i.t.Fatal(err)
	}
}

// Extend measures data into a PCR: it is extended by SHA-256(data).
func (i *Instance) Extend(t testing.TB, pcr int, data []byte) {
	t.Helper()
	if err := i.process.Extend(pcr, sha256.Sum256(data)); err != nil {
		t.Fatal(err)
	}
}
