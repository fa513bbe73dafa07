package tpmtest

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"
)

// Handler answers a command in place of the TPM. Forward passes a command on to
// the TPM and gives its response. A nil answer hangs up.
type Handler func(command []byte, forward func([]byte) []byte) []byte

// Tap sits between a client and the TPM, where a probe on the bus would: it
// records what passes, and may change it.
type Tap struct {
	Device string // absolute path of its Unix socket

	device  string
	mu      sync.Mutex
	handler Handler
	passed  bytes.Buffer
}

// Tap starts a tap on the TPM. It ends with the test.
func (i *Instance) Tap(t testing.TB) *Tap {
	t.Helper()
	return i.process.Tap(t)
}

// Tap starts a tap on the TPM, beside its own socket. It ends with the test.
func (p *Process) Tap(t testing.TB) *Tap {
	t.Helper()
	tap := &Tap{Device: filepath.Join(filepath.Dir(p.Device), "tap.sock"), device: p.Device}
	listener, err := net.Listen("unix", tap.Device)
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() { tap.serve(listener, &running) })
	t.Cleanup(func() {
		_ = listener.Close()
		running.Wait()
	})
	return tap
}

// Handle lets handler answer from now on; nil passes everything on.
func (p *Tap) Handle(handler Handler) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.handler = handler
}

// Passed returns every byte that passed so far, in both directions.
func (p *Tap) Passed() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes.Clone(p.passed.Bytes())
}

func (p *Tap) serve(listener net.Listener, running *sync.WaitGroup) {
	for {
		c, err := listener.Accept()
		if err != nil {
			return
		}
		running.Go(func() { p.client(c) })
	}
}

func (p *Tap) client(c net.Conn) {
	defer func() { _ = c.Close() }()
	for {
		command, err := ReadMessage(c)
		if err != nil {
			return
		}
		p.mu.Lock()
		handler := p.handler
		p.passed.Write(command)
		p.mu.Unlock()
		if handler == nil {
			handler = func(command []byte, forward func([]byte) []byte) []byte { return forward(command) }
		}
		response := handler(command, p.forward)
		if response == nil {
			return
		}
		if _, err := c.Write(response); err != nil {
			return
		}
	}
}

// forward gives nil when the TPM does not answer.
func (p *Tap) forward(command []byte) []byte {
	c, err := net.Dial("unix", p.device)
	if err != nil {
		return nil
	}
	defer func() { _ = c.Close() }()
	if _, err := c.Write(command); err != nil {
		return nil
	}
	response, err := ReadMessage(c)
	if err != nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.passed.Write(response)
	return response
}

// ReadMessage reads one command or response: tag (2 bytes), size of all (4), code (4),
// the rest (TPM 2.0 Part 1, section 18). It takes at most 4,096 bytes.
func ReadMessage(r io.Reader) ([]byte, error) {
	header := make([]byte, 10)
	if _, err := io.ReadFull(r, header); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(header[2:])
	if size < 10 || size > 4096 {
		return nil, io.ErrUnexpectedEOF
	}
	message := append(header, make([]byte, size-10)...)
	_, err := io.ReadFull(r, message[10:])
	return message, err
}
