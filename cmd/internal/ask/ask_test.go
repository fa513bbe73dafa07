package ask_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sigild/sigild/cmd/internal/ask"
	"github.com/sigild/sigild/cmd/internal/ask/asktest"
)

// childVariable makes this test binary play a program that asks.
const childVariable = "ASK_TEST_CHILD"

// noRaceSleep spares the child the second that the race detector waits for
// further reports at its end.
const noRaceSleep = "GORACE=atexit_sleep_ms=0"

func TestMain(m *testing.M) {
	if part := os.Getenv(childVariable); part != "" {
		fmt.Println(play(part))
		return
	}
	os.Exit(m.Run())
}

// play is the child: what it got goes to standard output, which is a pipe, and
// not to the terminal.
func play(part string) string {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	source := &ask.Source{FD: ask.Terminal}
	switch part {
	case "deadline":
		ctx, cancel = context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
	case "notify":
		var stop func()
		ctx, stop = signal.NotifyContext(ctx, unix.SIGINT)
		defer stop()
	case "confirm":
		return fmt.Sprintf("%v", source.Confirm(ctx, "Type yes", []byte("yes")))
	}
	first, err := source.Secret(ctx, "First")
	if part != "two" || err != nil {
		return fmt.Sprintf("%q %v", first, err)
	}
	second, err := source.Secret(ctx, "Second")
	return fmt.Sprintf("%q %q %v", first, second, err)
}

// child starts the child on a terminal. answer holds what it got when it ended.
func child(t *testing.T, part string) (term *asktest.Terminal, answer *bytes.Buffer) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childVariable+"="+part, noRaceSleep)
	answer = new(bytes.Buffer)
	cmd.Stdout = answer
	return asktest.Start(t, cmd), answer
}

func TestTerminalHidesSecrets(t *testing.T) {
	term, answer := child(t, "two")
	before := term.Before()
	term.Expect("First: ")
	term.Send("hunter2-one\r")
	term.Expect("Second: ")
	term.Send("hunter2-twx\x7fo\r") // DEL erases
	term.Expect("\n")
	if code, shown := term.Wait(); code != 0 || strings.Contains(shown, "hunter2") {
		t.Fatalf("exit code %d, the terminal showed %q", code, shown)
	}
	if want := "\"hunter2-one\" \"hunter2-two\" <nil>\n"; answer.String() != want {
		t.Errorf("got %q, want %q", answer, want)
	}
	if before.Lflag&unix.ECHO == 0 {
		t.Error("the test's terminal has no echo to begin with")
	}
}

func TestTerminalForgetsWhatWasTypedBefore(t *testing.T) {
	term, answer := child(t, "two")
	term.Expect("First: ")
	term.Send("one\rtyped ahead\r")
	term.Expect("Second: ")
	term.Send("two\r")
	if code, _ := term.Wait(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	if want := "\"one\" \"two\" <nil>\n"; answer.String() != want {
		t.Errorf("got %q, want %q", answer, want)
	}
}

// The settings come back, and what was typed does not reach the next reader.
func TestTerminalIsRestored(t *testing.T) {
	for _, tt := range []struct {
		name, part string
		end        func(*asktest.Terminal, *os.Process)
		want       string
	}{
		{"enter", "one", func(term *asktest.Terminal, _ *os.Process) { term.Send("secret\r") }, `"secret" <nil>`},
		{"end of input", "one", func(term *asktest.Terminal, _ *os.Process) { term.Send("\x04") }, `"" ` + ask.ErrEmpty.Error()},
		{"empty line", "one", func(term *asktest.Terminal, _ *os.Process) { term.Send("\r") }, `"" ` + ask.ErrEmpty.Error()},
		{"too long", "one", func(term *asktest.Terminal, _ *os.Process) {
			term.Send(strings.Repeat("x", ask.MaxBytes+1) + "\r")
		}, `"" ` + ask.ErrTooLong.Error()},
		{"Ctrl-C", "one", func(term *asktest.Terminal, _ *os.Process) { term.Send("half\x03") }, `"" ` + ask.ErrInterrupted.Error()},
		{"SIGTERM", "one", signalled(unix.SIGTERM), `"" ` + ask.ErrInterrupted.Error()},
		{"SIGHUP", "one", signalled(unix.SIGHUP), `"" ` + ask.ErrInterrupted.Error()},
		{"SIGQUIT", "one", signalled(unix.SIGQUIT), `"" ` + ask.ErrInterrupted.Error()},
		{"deadline", "deadline", func(term *asktest.Terminal, _ *os.Process) { term.Send("half") }, `"" ` + context.DeadlineExceeded.Error()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.run=^$")
			cmd.Env = append(os.Environ(), childVariable+"="+tt.part, noRaceSleep)
			answer := new(bytes.Buffer)
			cmd.Stdout = answer
			term := asktest.Start(t, cmd)
			before := term.Before()
			term.Expect("First: ")
			if during := term.Settings(); during.Lflag&unix.ECHO != 0 {
				t.Error("the terminal echoes while it asks for a secret")
			}
			tt.end(term, cmd.Process)
			if err := cmd.Wait(); err != nil {
				t.Fatalf("the child: %v", err)
			}
			if after := term.Settings(); after != before {
				t.Errorf("settings were %+v, now %+v", before, after)
			}
			if got := strings.TrimSuffix(answer.String(), "\n"); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func signalled(s syscall.Signal) func(*asktest.Terminal, *os.Process) {
	return func(term *asktest.Terminal, p *os.Process) {
		term.Send("half")
		_ = p.Signal(s)
	}
}

func TestCallersOwnSignalHandling(t *testing.T) {
	term, answer := child(t, "notify")
	term.Expect("First: ")
	term.Send("\x03")
	term.Wait()
	if got := answer.String(); got != "\"\" context canceled\n" && got != "\"\" "+ask.ErrInterrupted.Error()+"\n" {
		t.Errorf("got %q", got)
	}
}

func TestSuspendKeyIsOff(t *testing.T) {
	term, answer := child(t, "one")
	term.Expect("First: ")
	term.Send("a\x1ab\r") // Ctrl-Z would stop the program
	if code, _ := term.Wait(); code != 0 || answer.String() != "\"a\\x1ab\" <nil>\n" {
		t.Errorf("exit code %d, got %q", code, answer)
	}
}

func TestConfirmShowsTheAnswer(t *testing.T) {
	for answer, want := range map[string]string{
		"yes": "<nil>\n", "no": "not confirmed\n", "": "not confirmed\n", "yes ": "not confirmed\n", "Yes": "not confirmed\n",
	} {
		t.Run(answer, func(t *testing.T) {
			term, got := child(t, "confirm")
			term.Expect("Type yes: ")
			term.Send(answer + "\r")
			if _, shown := term.Wait(); !strings.Contains(shown, "Type yes: "+answer) {
				t.Errorf("the terminal showed %q", shown)
			}
			if got.String() != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestNoTerminal(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childVariable+"=one", noRaceSleep)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // without a controlling terminal
	out, err := cmd.Output()
	if err != nil || string(out) != "\"\" "+ask.ErrNoTerminal.Error()+"\n" {
		t.Errorf("got %q, error %v", out, err)
	}
}

// descriptor returns the read end of a pipe that holds text.
func descriptor(t *testing.T, text string) int {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fds[0]) })
	if n, err := unix.Write(fds[1], []byte(text)); err != nil || n != len(text) {
		t.Fatalf("wrote %d bytes, error %v", n, err)
	}
	if err := unix.Close(fds[1]); err != nil {
		t.Fatal(err)
	}
	return fds[0]
}

func TestDescriptor(t *testing.T) {
	longest := strings.Repeat("x", ask.MaxBytes)
	for _, tt := range []struct {
		name, text string
		want       []string
		err        error
	}{
		{"in order", "one\ntwo\nthree\n", []string{"one", "two", "three"}, ask.ErrEmpty},
		{"CR LF", "one\r\ntwo\r\n", []string{"one", "two"}, ask.ErrEmpty},
		{"no newline at the end", "one\ntwo", []string{"one", "two"}, ask.ErrEmpty},
		{"bytes as they are", " a\rb\x00\xff \n", []string{" a\rb\x00\xff "}, ask.ErrEmpty},
		{"nothing", "", nil, ask.ErrEmpty},
		{"empty line", "\none\n", nil, ask.ErrEmpty},
		{"CR alone", "\r\n", nil, ask.ErrEmpty},
		{"longest", longest + "\r\n" + longest, []string{longest, longest}, ask.ErrEmpty},
		{"too long", "one\n" + longest + "x\ntwo\n", []string{"one"}, ask.ErrTooLong},
		{"far too long", longest + longest, nil, ask.ErrTooLong},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &ask.Source{FD: descriptor(t, tt.text)}
			for _, want := range tt.want {
				got, err := s.Secret(t.Context(), "PIN")
				if err != nil || string(got) != want {
					t.Fatalf("got %q, error %v, want %q", got, err, want)
				}
			}
			for range 2 { // an error stays: the line after a bad one is no secret
				if got, err := s.Secret(t.Context(), "PIN"); !errors.Is(err, tt.err) || got != nil {
					t.Fatalf("got %q, error %v, want %v", got, err, tt.err)
				}
			}
		})
	}
}

func TestDescriptorIsNotReadAhead(t *testing.T) {
	fd := descriptor(t, "one\ntwo\nrest")
	for _, want := range []string{"one", "two"} {
		got, err := (&ask.Source{FD: fd}).Secret(t.Context(), "")
		if err != nil || string(got) != want {
			t.Fatalf("got %q, error %v, want %q", got, err, want)
		}
	}
	rest := make([]byte, 16)
	if n, err := unix.Read(fd, rest); err != nil || string(rest[:n]) != "rest" {
		t.Fatalf("left %q, error %v", rest[:n], err)
	}
}

func TestDescriptorConfirm(t *testing.T) {
	s := &ask.Source{FD: descriptor(t, "secret\nyes\nno\n")}
	if _, err := s.Secret(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if err := s.Confirm(t.Context(), "", []byte("yes")); err != nil {
		t.Error(err)
	}
	for range 2 { // "no", and the end of the input
		if err := s.Confirm(t.Context(), "", []byte("yes")); !errors.Is(err, ask.ErrNotConfirmed) {
			t.Errorf("got %v", err)
		}
	}
	if err := (&ask.Source{FD: descriptor(t, "\n")}).Confirm(t.Context(), "", nil); !errors.Is(err, ask.ErrNotConfirmed) {
		t.Errorf("nothing confirmed nothing: %v", err)
	}
}

func TestUnusableDescriptors(t *testing.T) {
	directory, err := unix.Open(t.TempDir(), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(directory)
	for name, fd := range map[string]int{"closed": 1 << 20, "negative": -2, "directory": directory} {
		if _, err := (&ask.Source{FD: fd}).Secret(t.Context(), ""); !errors.Is(err, ask.ErrDescriptor) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestDescriptorThatIsATerminal(t *testing.T) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := (&ask.Source{FD: fd}).Secret(t.Context(), ""); !errors.Is(err, ask.ErrEchoes) {
		t.Errorf("got %v", err)
	}
}

// A descriptor that never answers does not hold up the end, and keeps its flags.
func TestDescriptorHonoursTheContext(t *testing.T) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	if _, err := unix.Write(fds[1], []byte("half")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := (&ask.Source{FD: fds[0]}).Secret(ctx, ""); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	flags, err := unix.FcntlInt(uintptr(fds[0]), unix.F_GETFL, 0)
	if err != nil || flags&unix.O_NONBLOCK != 0 {
		t.Errorf("flags %#x, error %v", flags, err)
	}
}

func TestCancelledBeforehand(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := &ask.Source{FD: descriptor(t, "secret\n")}
	if got, err := s.Secret(ctx, ""); !errors.Is(err, context.Canceled) || got != nil {
		t.Errorf("got %q, error %v", got, err)
	}
}
