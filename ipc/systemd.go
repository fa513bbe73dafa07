package ipc

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// ErrActivation is returned when the service manager handed over something
// other than one listening Unix stream socket.
var ErrActivation = errors.New("ipc: unusable socket activation")

// firstFD is SD_LISTEN_FDS_START (sd_listen_fds(3)).
const firstFD = 3

// FromSystemd returns the listener that the service manager handed over by
// socket activation (sd_listen_fds(3)). It reports false if there is none for
// this process: LISTEN_FDS is absent or LISTEN_PID is another process. It
// removes the variables, so that children do not take them for their own, and
// closes the descriptor that was handed over, of which the listener has a copy.
// The socket's file belongs to the manager and is never removed.
//
// Call it once, at start, before other goroutines read the environment.
func FromSystemd() (net.Listener, bool, error) {
	pid, count := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS")
	for _, name := range []string{"LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		if err := os.Unsetenv(name); err != nil {
			return nil, false, fmt.Errorf("%w: %v", ErrActivation, err)
		}
	}
	if count == "" || pid != strconv.Itoa(os.Getpid()) {
		return nil, false, nil
	}
	if count != "1" {
		return nil, false, fmt.Errorf("%w: LISTEN_FDS is %q, give exactly one ListenStream=", ErrActivation, count)
	}
	ln, err := listenerOf(firstFD)
	if err != nil {
		return nil, false, err
	}
	return ln, true, nil
}

func listenerOf(fd int) (net.Listener, error) {
	unix.CloseOnExec(fd)
	if err := checkListening(fd); err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "LISTEN_FD_3")
	defer file.Close()
	ln, err := net.FileListener(file)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrActivation, err)
	}
	return ln, nil
}

// checkListening makes sure that fd is a Unix stream socket that listens.
func checkListening(fd int) error {
	for _, want := range []struct {
		option, value int
		problem       string
	}{
		{unix.SO_DOMAIN, unix.AF_UNIX, "is not a Unix socket"},
		{unix.SO_TYPE, unix.SOCK_STREAM, "is not a stream socket, use ListenStream="},
		{unix.SO_ACCEPTCONN, 1, "does not listen, use Accept=no"},
	} {
		got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, want.option)
		if err != nil {
			return fmt.Errorf("%w: descriptor %d: %v", ErrActivation, fd, err)
		}
		if got != want.value {
			return fmt.Errorf("%w: descriptor %d %s", ErrActivation, fd, want.problem)
		}
	}
	return nil
}
