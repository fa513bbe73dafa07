package daemontest

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"

	"github.com/sigild/sigild/tpm/tpmtest"
)

// RebootTPM shuts the TPM down in good order and starts it again: the PCRs are
// as after a reset, what was provisioned stays. sigild must not be running.
func (h *Host) RebootTPM(ctx context.Context) (err error) {
	if err := h.TPM.Shutdown(); err != nil {
		return err
	}
	return h.BootTPM(ctx)
}

// measured are the PCRs that a boot of this host extends: Secure Boot's state
// (7), the unified kernel image (11), its command line (12) and MOK (14).
var measured = []int{7, 11, 12, 14}

// BootTPM starts the TPM, on the state that it left, and measures what a boot of this host measures.
func (h *Host) BootTPM(ctx context.Context) (err error) {
	if h.TPM, err = tpmtest.Start(context.WithoutCancel(ctx), filepath.Join(h.Dir, "tpm")); err != nil {
		return err
	}
	for _, pcr := range measured {
		if err := h.TPM.Extend(pcr, sha256.Sum256(fmt.Appendf(nil, "measured into %d", pcr))); err != nil {
			return err
		}
	}
	return nil
}

// StopTPM ends the TPM at once, as a power cut does. BootTPM starts it again.
func (h *Host) StopTPM() { h.TPM.Kill() }

// device is what sigild is told to use as its TPM.
func (h *Host) device() string {
	if h.tap != nil {
		return h.tap.listener.Addr().String()
	}
	return h.TPM.Device
}

// Tap stands between sigild and the TPM. It passes every command on, after
// telling whoever watches.
type Tap struct {
	device   string
	listener net.Listener
	running  sync.WaitGroup

	mu     sync.Mutex
	watch  func(code uint32)
	answer func(code uint32) (response uint32, ok bool)
	closed bool
	open   map[net.Conn]bool
}

// TapTPM puts a tap in front of the TPM and writes the configuration anew.
func (h *Host) TapTPM() (*Tap, error) {
	listener, err := net.Listen("unix", filepath.Join(h.Dir, "tap.sock"))
	if err != nil {
		return nil, err
	}
	h.tap = &Tap{device: h.TPM.Device, listener: listener, open: map[net.Conn]bool{}}
	h.tap.running.Go(h.tap.serve)
	return h.tap, h.WriteConfig()
}

// Watch has f called with the code of each command (TPM_CC) before the TPM gets
// it. The command waits for f to return. A nil f ends that.
func (t *Tap) Watch(f func(code uint32)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.watch = f
}

// Answer has f answer commands in place of the TPM, with a bare response code
// (TPM_RC), where it says ok. A nil f ends that.
func (t *Tap) Answer(f func(code uint32) (response uint32, ok bool)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.answer = f
}

// answered gives the response of whoever answers in place of the TPM, or nil.
func (t *Tap) answered(code uint32) []byte {
	t.mu.Lock()
	f := t.answer
	t.mu.Unlock()
	if f == nil {
		return nil
	}
	response, ok := f(code)
	if !ok {
		return nil
	}
	const noSessions, size = 0x8001, 10
	b := binary.BigEndian.AppendUint16(nil, noSessions)
	b = binary.BigEndian.AppendUint32(b, size)
	return binary.BigEndian.AppendUint32(b, response)
}

// close ends the tap. Nothing may be waiting in what watches it.
func (t *Tap) close() error {
	t.mu.Lock()
	t.closed = true
	for c := range t.open {
		_ = c.Close()
	}
	t.mu.Unlock()
	err := t.listener.Close()
	t.running.Wait()
	return err
}

func (t *Tap) serve() {
	for {
		c, err := t.listener.Accept()
		if err != nil {
			return // closed
		}
		t.running.Go(func() { t.client(c) })
	}
}

func (t *Tap) client(c net.Conn) {
	defer func() { _ = c.Close() }()
	if !t.enter(c) {
		return
	}
	defer t.leave(c)
	for {
		command, err := tpmtest.ReadMessage(c)
		if err != nil {
			return
		}
		code := binary.BigEndian.Uint32(command[6:])
		t.tell(code)
		response := t.answered(code)
		if response == nil {
			if response, err = t.forward(command); err != nil {
				return
			}
		}
		if _, err := c.Write(response); err != nil {
			return
		}
	}
}

func (t *Tap) enter(c net.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open[c] = true
	return !t.closed
}

func (t *Tap) leave(c net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, c)
}

func (t *Tap) tell(code uint32) {
	t.mu.Lock()
	f := t.watch
	t.mu.Unlock()
	if f != nil {
		f(code)
	}
}

// forward uses a connection for each command, as swtpm takes one client at a
// time.
func (t *Tap) forward(command []byte) (response []byte, err error) {
	c, err := net.Dial("unix", t.device)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if _, err := c.Write(command); err != nil {
		return nil, err
	}
	return tpmtest.ReadMessage(c)
}
