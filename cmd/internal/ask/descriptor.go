package ask

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

func fromDescriptor(ctx context.Context, fd int) ([]byte, error) {
	if fd < 0 {
		return nil, fmt.Errorf("%w: %d is no file descriptor", ErrDescriptor, fd)
	}
	if term.IsTerminal(fd) {
		return nil, ErrEchoes
	}
	w, err := newWaiter(ctx)
	if err != nil {
		return nil, err
	}
	defer w.close()
	return w.line(fd)
}

// line reads one line, byte by byte: what follows it belongs to the next
// secret, or to another program that inherits the descriptor.
func (w *waiter) line(fd int) (line []byte, err error) {
	buffer := make([]byte, MaxBytes+len("\r\n"))
	defer func() {
		if err != nil {
			clear(buffer)
		}
	}()
	for n := range buffer {
		more, err := w.readByte(fd, buffer[n:n+1])
		if err != nil {
			return nil, err
		}
		if !more || buffer[n] == '\n' {
			return checked(buffer[:n])
		}
	}
	return nil, ErrTooLong
}

// checked takes a carriage return off the end and checks the length.
func checked(line []byte) ([]byte, error) {
	n := len(line)
	if n > 0 && line[n-1] == '\r' {
		n--
	}
	switch {
	case n == 0:
		return nil, ErrEmpty
	case n > MaxBytes:
		return nil, ErrTooLong
	}
	return line[:n:n], nil
}

// readByte reads one byte, and reports false at the end of the input.
func (w *waiter) readByte(fd int, b []byte) (bool, error) {
	for {
		if err := w.wait(fd, unix.POLLIN); err != nil {
			return false, err
		}
		n, err := unix.Read(fd, b)
		switch {
		case err == unix.EINTR, err == unix.EAGAIN:
		case err != nil:
			return false, fmt.Errorf("%w: descriptor %d: %v", ErrDescriptor, fd, err)
		default:
			return n == 1, nil
		}
	}
}
