package ipc_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/sigild/sigild/ipc"
)

// childRole makes a copy of the test program play another process.
const childRole = "SIGILD_IPC_TEST_CHILD"

func TestMain(m *testing.M) {
	switch role := os.Getenv(childRole); role {
	case "":
		os.Exit(m.Run())
	case "connect":
		os.Exit(report(childConnect()))
	case "activate", "activate-other":
		os.Exit(report(childActivate(role == "activate-other")))
	default:
		os.Exit(report(fmt.Errorf("unknown role %q", role)))
	}
}

func report(err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// child prepares a copy of the test program in a role.
func child(t *testing.T, role string, env ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), append(env, childRole+"="+role, "GORACE=atexit_sleep_ms=0")...)
	return cmd
}

// childConnect becomes another user, sends standard input to the socket and
// copies what comes back. It changes its uid itself: the other user may not
// even read the test program.
func childConnect() error {
	uid, err := strconv.Atoi(os.Getenv("CHILD_UID"))
	if err != nil {
		return err
	}
	if uid != os.Geteuid() {
		if err := syscall.Setgroups(nil); err != nil {
			return err
		}
		if err := syscall.Setgid(uid + 1); err != nil {
			return err
		}
		if err := syscall.Setuid(uid); err != nil {
			return err
		}
	}
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: os.Getenv("CHILD_SOCKET"), Net: "unix"})
	if err != nil {
		return err
	}
	defer conn.Close()
	// A server that turns this user away may do so before the request is sent.
	_, _ = io.Copy(conn, os.Stdin)
	_ = conn.CloseWrite()
	// The kernel reports a reset, behind the answer, if the request was not read.
	answer, err := io.ReadAll(conn)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		return err
	}
	_, err = os.Stdout.Write(answer)
	return err
}

// childActivate takes the socket at descriptor 3, as under systemd, and echoes
// one line. The manager sets LISTEN_PID between fork and exec, which a Go
// parent cannot.
func childActivate(other bool) error {
	pid := os.Getpid()
	if other {
		pid++
	}
	if err := os.Setenv("LISTEN_PID", strconv.Itoa(pid)); err != nil {
		return err
	}
	ln, ok, err := ipc.FromSystemd()
	if err != nil {
		return err
	}
	for _, entry := range os.Environ() {
		if strings.HasPrefix(entry, "LISTEN_") {
			return fmt.Errorf("%s is still set", entry)
		}
	}
	if !ok {
		fmt.Println("none")
		return nil
	}
	defer ln.Close()
	if err := closedOnExec(); err != nil {
		return err
	}
	conn, err := ln.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = io.Copy(conn, conn)
	return err
}

// closedOnExec makes sure that no socket of this process would be inherited.
func closedOnExec() error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil || !strings.HasPrefix(target, "socket:") {
			continue
		}
		info, err := os.ReadFile("/proc/self/fdinfo/" + e.Name())
		if err != nil {
			return err
		}
		var flags int64
		for line := range strings.Lines(string(info)) {
			if text, ok := strings.CutPrefix(line, "flags:"); ok {
				flags, err = strconv.ParseInt(strings.TrimSpace(text), 8, 64)
			}
		}
		if err != nil || flags&syscall.O_CLOEXEC == 0 {
			return fmt.Errorf("descriptor %s: flags %o, error %v: want O_CLOEXEC", e.Name(), flags, err)
		}
	}
	return nil
}
