package ask

import (
	"context"
	"errors"
	"fmt"
	"os/signal"

	"golang.org/x/sys/unix"
)

// echo says whether the terminal shows what is typed.
type echo bool

const (
	hidden echo = false
	shown  echo = true
)

// terminal is the controlling terminal, opened anew, so that its O_NONBLOCK is
// nobody else's, and so that a redirected standard input does not matter.
type terminal struct {
	fd     int
	before unix.Termios
	waiter *waiter
}

func onTerminal(ctx context.Context, question string, mode echo) ([]byte, error) {
	caught, stop := signal.NotifyContext(ctx, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT)
	defer stop()
	t, err := openTerminal(caught)
	if err != nil {
		return nil, err
	}
	defer t.close()
	answer, err := t.ask(question, mode)
	if caught.Err() == nil {
		return answer, err
	}
	clear(answer) // a signal is caught here only, so it must not be lost
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return nil, ErrInterrupted
}

func openTerminal(ctx context.Context) (*terminal, error) {
	fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, ErrNoTerminal
	}
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		_ = unix.Close(fd)
		return nil, ErrNoTerminal
	}
	w, err := newWaiter(ctx)
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return &terminal{fd: fd, before: *before, waiter: w}, nil
}

func (t *terminal) close() {
	t.waiter.close()
	_ = unix.Close(t.fd)
}

// ask changes the settings before it shows the question, so that nobody who
// waits for the question sees an echo.
func (t *terminal) ask(question string, mode echo) (answer []byte, err error) {
	if err := t.set(t.during(mode)); err != nil {
		return nil, fmt.Errorf("terminal settings: %w", err)
	}
	t.forget()
	defer func() {
		if failed := t.restore(err); failed != nil {
			clear(answer)
			answer, err = nil, errors.Join(err, failed)
		}
	}()
	if err := t.write(question + ": "); err != nil {
		return nil, err
	}
	return t.waiter.line(t.fd)
}

// during are the settings while a person types: whole lines, with the keys for
// erasing and for interrupting, but not the one for suspending, after which the
// shell would turn the echo on again. Of a hidden answer only Enter is shown.
func (t *terminal) during(mode echo) unix.Termios {
	s := t.before
	s.Iflag |= unix.ICRNL
	s.Lflag |= unix.ICANON | unix.ISIG | unix.ECHO | unix.ECHONL
	if mode == hidden {
		s.Lflag &^= unix.ECHO
	}
	s.Cc[unix.VSUSP] = 0 // _POSIX_VDISABLE
	return s
}

// restore brings the settings back. After a failure it throws away what was
// typed and not read: half a secret must not become the shell's next command.
func (t *terminal) restore(failure error) error {
	if failure != nil {
		t.forget()
		_, _ = unix.Write(t.fd, []byte("\n")) // Enter was not typed; only looks
	}
	if err := t.set(t.before); err != nil {
		return fmt.Errorf("the terminal's settings could not be restored, run \"stty sane\": %w", err)
	}
	return nil
}

// set takes effect at once: waiting for the output to drain could take for ever
// on a terminal that was stopped with Ctrl-S.
func (t *terminal) set(settings unix.Termios) error {
	for {
		if err := unix.IoctlSetTermios(t.fd, unix.TCSETS, &settings); err != unix.EINTR {
			return err
		}
	}
}

// forget throws away what was typed and not read yet.
func (t *terminal) forget() { _ = unix.IoctlSetInt(t.fd, unix.TCFLSH, unix.TCIFLUSH) }

// write waits for a terminal that takes no output, such as after Ctrl-S.
func (t *terminal) write(text string) error {
	for rest := []byte(text); len(rest) > 0; {
		if err := t.waiter.wait(t.fd, unix.POLLOUT); err != nil {
			return err
		}
		n, err := unix.Write(t.fd, rest)
		if err != nil && err != unix.EINTR && err != unix.EAGAIN {
			return fmt.Errorf("terminal: %w", err)
		}
		rest = rest[max(n, 0):]
	}
	return nil
}
