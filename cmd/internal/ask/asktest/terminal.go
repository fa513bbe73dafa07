// Package asktest plays the person at the terminal: it runs a program on a
// pseudo-terminal of its own, waits for its questions and answers them.
package asktest

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds each step of the program.
const patience = 20 * time.Second

// Terminal is the controlling terminal of a running program.
type Terminal struct {
	t        testing.TB
	cmd      *exec.Cmd
	keyboard *os.File // the master side
	screen   *os.File // the slave side, kept open so that its settings stay
	before   unix.Termios

	mu     sync.Mutex
	output strings.Builder
	seen   int           // how much of output Expect has gone past
	fresh  chan struct{} // closed and replaced when output grows
	closed chan struct{} // closed when output is complete
}

// Start runs cmd with a fresh controlling terminal, which is also its standard
// input, output and error where cmd does not name others. The program is killed
// when the test ends.
func Start(t testing.TB, cmd *exec.Cmd) *Terminal {
	t.Helper()
	term := &Terminal{t: t, cmd: cmd, fresh: make(chan struct{}), closed: make(chan struct{})}
	if err := term.open(); err != nil {
		t.Fatalf("pseudo-terminal: %v", err)
	}
	term.before = term.Settings()
	term.attach()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go term.read()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = term.screen.Close()
		_ = term.keyboard.Close()
	})
	return term
}

func (term *Terminal) open() (err error) {
	if term.keyboard, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return err
	}
	number := uint32(0)
	err = control(term.keyboard, func(fd int) (err error) {
		if err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err == nil {
			number, err = unix.IoctlGetUint32(fd, unix.TIOCGPTN)
		}
		return err
	})
	if err != nil {
		return err
	}
	term.screen, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	return err
}

func (term *Terminal) attach() {
	c := term.cmd
	if c.Stdin == nil {
		c.Stdin = term.screen
	}
	if c.Stdout == nil {
		c.Stdout = term.screen
	}
	if c.Stderr == nil {
		c.Stderr = term.screen
	}
	c.ExtraFiles = append(c.ExtraFiles, term.screen)
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 2 + len(c.ExtraFiles)}
}

// control runs f on a descriptor without making it blocking, as Fd would.
func control(f *os.File, run func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	inner := raw.Control(func(fd uintptr) { err = run(int(fd)) })
	if inner != nil {
		return inner
	}
	return err
}

func (term *Terminal) read() {
	defer close(term.closed)
	buffer := make([]byte, 4096)
	for {
		n, err := term.keyboard.Read(buffer)
		term.mu.Lock()
		term.output.Write(buffer[:n])
		close(term.fresh)
		term.fresh = make(chan struct{})
		term.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Expect waits until the program has shown text after what the last Expect
// found.
func (term *Terminal) Expect(text string) {
	term.t.Helper()
	timeout := time.After(patience)
	for {
		fresh, found := term.find(text)
		if found {
			return
		}
		select {
		case <-fresh:
		case <-timeout:
			term.t.Fatalf("the program did not show %q, only:\n%s", text, term.Output())
		}
	}
}

func (term *Terminal) find(text string) (fresh chan struct{}, found bool) {
	term.mu.Lock()
	defer term.mu.Unlock()
	at := strings.Index(term.output.String()[term.seen:], text)
	if at >= 0 {
		term.seen += at + len(text)
	}
	return term.fresh, at >= 0
}

// Send types text; "\r" is Enter, "\x03" Ctrl-C.
func (term *Terminal) Send(text string) {
	term.t.Helper()
	if _, err := term.keyboard.WriteString(text); err != nil {
		term.t.Fatal(err)
	}
}

// Output is all that the terminal has shown, the echo of keys included.
func (term *Terminal) Output() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.output.String()
}

// Before are the settings that the terminal had before the program started.
func (term *Terminal) Before() unix.Termios { return term.before }

// Settings are the terminal's at this moment.
func (term *Terminal) Settings() unix.Termios {
	term.t.Helper()
	var settings *unix.Termios
	err := control(term.screen, func(fd int) (err error) {
		settings, err = unix.IoctlGetTermios(fd, unix.TCGETS)
		return err
	})
	if err != nil {
		term.t.Fatal(err)
	}
	return *settings
}

// Wait returns the exit code of the program, -1 if a signal ended it, and all
// that the terminal has shown. The terminal is gone afterwards.
func (term *Terminal) Wait() (code int, output string) {
	term.t.Helper()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = term.cmd.Wait() // the exit code says it
	}()
	term.await(ended)
	_ = term.screen.Close()
	term.await(term.closed)
	return term.cmd.ProcessState.ExitCode(), term.Output()
}

func (term *Terminal) await(done <-chan struct{}) {
	term.t.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		term.t.Fatalf("the program did not end, it shows:\n%s", term.Output())
	}
}
