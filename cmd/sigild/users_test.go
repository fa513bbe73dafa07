package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/ipc/ipctest"
)

// Two relays beside the test's own user.
const (
	relayUID    = 12345
	strangerUID = 12346
)

// playing is the environment of a test program that plays sigild.
func playing() []string {
	env := []string{role + "=sigild", "GORACE=atexit_sleep_ms=0"}
	if own != 0 {
		env = append(env, lookable+"=1")
	}
	return env
}

// operating is the configuration of the socket that makes the test's user an
// operator, as root is by itself.
func operating() string {
	if own == 0 {
		return ""
	}
	return fmt.Sprintf("operators = [0, %d]", own)
}

// uids writes a list of users for the configuration.
func uids(list ...int) string { return strings.ReplaceAll(fmt.Sprint(list), " ", ", ") }

// own is the user that tests run as, and the daemon with them.
var own = os.Getuid()

// sudoAsksNothing says whether this user may run programs as root.
var sudoAsksNothing = sync.OnceValue(func() bool { return exec.Command("sudo", "-n", "true").Run() == nil })

// canBeOthers says whether this test can have processes of other users: as root, or
// through sudo. Where it cannot, which in CI is an error, a test shows what one user
// can show of the same.
func canBeOthers(t *testing.T) bool {
	t.Helper()
	if own == 0 || sudoAsksNothing() {
		return true
	}
	if os.Getenv("CI") != "" {
		t.Fatal("other users are needed: run this as root, or where sudo asks for no password")
	}
	t.Log("NOT RUN with other users: run this as root, or where sudo asks for no password")
	return false
}

// relayCommand is the test program as a relay of a user, which copies between its
// standard streams and the socket.
func relayCommand(t testing.TB, h *daemontest.Host, uid int) *exec.Cmd {
	t.Helper()
	env := []string{role + "=relay", fmt.Sprintf("RELAY_UID=%d", uid), "RELAY_SOCKET=" + h.Socket, "GORACE=atexit_sleep_ms=0"}
	if own == 0 || uid == own {
		cmd := exec.CommandContext(testContext(t), self(t))
		cmd.Env = append(os.Environ(), env...)
		return cmd
	}
	args := append(append([]string{"-n", "env"}, env...), self(t))
	return exec.CommandContext(testContext(t), "sudo", args...)
}

// giveTo gives a file or folder to a user.
func giveTo(t *testing.T, path string, uid int) {
	t.Helper()
	args := []string{"chown", strconv.Itoa(uid), path}
	if own != 0 {
		args = append([]string{"sudo", "-n"}, args...)
	}
	if out, err := exec.CommandContext(testContext(t), args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// become changes the uid of this process: the other user may not even read the
// test program.
func become(uid int) error {
	if uid == os.Getuid() {
		return nil
	}
	for _, drop := range []func() error{
		func() error { return syscall.Setgroups(nil) },
		func() error { return syscall.Setgid(uid) },
		func() error { return syscall.Setuid(uid) },
	} {
		if err := drop(); err != nil {
			return err
		}
	}
	return nil
}

// socketAs gives a socket whose connections reach the daemon's as a user's.
func socketAs(t *testing.T, h *daemontest.Host, uid int) string {
	t.Helper()
	if uid == own {
		return h.Socket
	}
	path := filepath.Join(h.Dir, fmt.Sprintf("as%d.sock", uid))
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(func() {
		_ = listener.Close()
		serving.Wait()
	})
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // closed
			}
			serving.Go(func() { passOn(t, h, uid, conn) })
		}
	})
	return path
}

// passOn hands a connection over to a relay.
func passOn(t *testing.T, h *daemontest.Host, uid int, conn net.Conn) {
	defer conn.Close()
	file, err := conn.(*net.UnixConn).File()
	if err != nil {
		t.Error(err)
		return
	}
	defer file.Close()
	cmd := relayCommand(t, h, uid)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = file, file, os.Stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) { // it ends with the connection, however that ends
		t.Error(err)
	}
}

// connectAs connects as a user.
func connectAs(t *testing.T, h *daemontest.Host, uid int) net.Conn {
	t.Helper()
	if uid == own {
		return ipctest.Connect(t, h.Socket)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]net.Conn
	for n, fd := range pair {
		file := os.NewFile(uintptr(fd), "socket")
		if ends[n], err = net.FileConn(file); err != nil {
			t.Fatal(err)
		}
		_ = file.Close() // FileConn has a descriptor of its own
	}
	var passing sync.WaitGroup
	passing.Go(func() { passOn(t, h, uid, ends[1]) })
	t.Cleanup(func() {
		_ = ends[0].Close()
		passing.Wait()
	})
	return ends[0]
}

// playRelay becomes a user and copies standard input to the socket, and what comes
// back to standard output.
func playRelay(uid int, socket string) error {
	if err := become(uid); err != nil {
		return err
	}
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(conn, os.Stdin) // it ends with the connection
		_ = conn.CloseWrite()
	}()
	if _, err = io.Copy(os.Stdout, conn); errors.Is(err, syscall.ECONNRESET) {
		return nil // turned away, after the answer
	}
	return err
}

// lookable, in the environment of a sigild that the test program plays, has it stay
// within reach of processes of its own user: of strace, and of a test that reads
// what it has in /proc. Root needs no such permission.
const lookable = "SIGILD_TEST_LOOKABLE"

// stayLookable makes prctl(PR_SET_DUMPABLE) of this process do nothing and say that
// it went well, by a seccomp filter, and lets any process of the user trace it.
func stayLookable() error {
	const loadWord, jumpIfEqual, give = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	const number, firstArgument = 0, 16 // offsets in struct seccomp_data
	filter := []unix.SockFilter{
		{Code: loadWord, K: number},
		{Code: jumpIfEqual, K: unix.SYS_PRCTL, Jf: 3},
		{Code: loadWord, K: firstArgument},
		{Code: jumpIfEqual, K: unix.PR_SET_DUMPABLE, Jf: 1},
		{Code: give, K: unix.SECCOMP_RET_ERRNO},
		{Code: give, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC,
		uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return errno
	}
	const anybody = ^uintptr(0) // PR_SET_PTRACER_ANY
	err := unix.Prctl(unix.PR_SET_PTRACER, anybody, 0, 0, 0)
	if errors.Is(err, unix.EINVAL) { // no Yama: nothing to ask for
		return nil
	}
	return err
}
