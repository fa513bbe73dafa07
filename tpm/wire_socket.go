package tpm

import (
	"net"
	"time"
)

// socketWire talks to a TPM emulator behind a Unix socket. swtpm serves one
// connection at a time, so each command uses a connection of its own: a program
// that keeps one open would lock out every other.
type socketWire struct {
	path string
}

func (w *socketWire) exchange(command []byte, deadline time.Time) ([]byte, error) {
	dialer := net.Dialer{Deadline: deadline}
	c, err := dialer.Dial("unix", w.path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(deadline); err != nil {
		return nil, err
	}
	if _, err := c.Write(command); err != nil {
		return nil, err
	}
	return readResponse(c)
}

func (w *socketWire) close() {}
