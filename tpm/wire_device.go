package tpm

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// deviceWire talks to a character device of Linux's TPM driver. The descriptor
// is non-blocking: the driver then runs the command in the background and poll
// tells when the response is there, which is what makes a deadline possible.
// The descriptor is kept out of Go's poller, which takes the driver's empty
// read ("not yet") for the end of the file.
type deviceWire struct {
	fd int
}

func openDevice(path string) (*deviceWire, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, unavailable(&os.PathError{Op: "open", Path: path, Err: err})
	}
	return &deviceWire{fd: fd}, nil
}

func (w *deviceWire) exchange(command []byte, deadline time.Time) ([]byte, error) {
	n, err := unix.Write(w.fd, command)
	if err != nil {
		return nil, os.NewSyscallError("write", err)
	}
	if n != len(command) {
		return nil, io.ErrShortWrite
	}
	return readResponse(&deviceReader{fd: w.fd, deadline: deadline})
}

// close returns at once. Closing waits in the driver for a command that still
// runs, so a TPM that hangs would hang its caller here.
func (w *deviceWire) close() {
	go func(fd int) { _ = unix.Close(fd) }(w.fd)
}

// deviceReader reads what the device has, waiting for it until the deadline.
type deviceReader struct {
	fd       int
	deadline time.Time
}

// readAgain is the pause before the next look at a device whose poll announced
// data and whose read had none, as drivers before Linux 5.2 do.
const readAgain = time.Millisecond

func (r *deviceReader) Read(p []byte) (int, error) {
	for {
		if err := r.await(unix.POLLIN, time.Until(r.deadline)); err != nil {
			return 0, err
		}
		n, err := unix.Read(r.fd, p)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
		case err != nil:
			return 0, os.NewSyscallError("read", err)
		case n > 0:
			return n, nil
		}
		if err := r.await(0, readAgain); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, err
		}
	}
}

// await waits for one of the events, and fails when there is none within d.
func (r *deviceReader) await(events int16, d time.Duration) error {
	until := time.Now().Add(d)
	for {
		left := time.Until(until)
		if left <= 0 {
			return fmt.Errorf("no response: %w", os.ErrDeadlineExceeded)
		}
		fds := []unix.PollFd{{Fd: int32(r.fd), Events: events}}
		n, err := unix.Poll(fds, int((left+time.Millisecond-1)/time.Millisecond))
		switch {
		case err != nil && !errors.Is(err, unix.EINTR):
			return os.NewSyscallError("poll", err)
		case n > 0 && fds[0].Revents&events != 0:
			return nil
		case n > 0:
			return fmt.Errorf("the device reports poll events %#x: %w", fds[0].Revents, io.ErrUnexpectedEOF)
		}
	}
}
