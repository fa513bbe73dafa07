package ipc_test

import (
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inPieces writes each part when the peer has taken the one before out of the
// kernel, so that no read of the peer gets bytes of two.
func inPieces(t *testing.T, conn *net.UnixConn, parts ...string) {
	t.Helper()
	for n, part := range parts {
		if _, err := io.WriteString(conn, part); err != nil {
			t.Fatal(err)
		}
		if n < len(parts)-1 {
			untilRead(t, conn)
		}
	}
}

// untilRead waits until nothing that was written is left to the peer to read.
func untilRead(t *testing.T, conn *net.UnixConn) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); runtime.Gosched() {
		left := -1
		if controlErr := raw.Control(func(fd uintptr) { left, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }); controlErr != nil || err != nil {
			t.Fatalf("SIOCOUTQ: %v, %v", controlErr, err)
		}
		if left == 0 {
			return
		}
	}
	t.Fatal("the peer does not read")
}

// A piece is held back until the one before was read, or the tests that split
// requests would prove nothing.
func TestPiecesAreReadOneByOne(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	here, there := unixConn(t, pair[0]), unixConn(t, pair[1])
	done := make(chan struct{})
	go func() {
		defer close(done)
		inPieces(t, here, "a", "bc", "def")
	}()
	buffer := make([]byte, 16)
	for _, want := range []string{"a", "bc", "def"} {
		if n, err := there.Read(buffer); err != nil || string(buffer[:n]) != want {
			t.Errorf("read %q, %v, want %q", buffer[:n], err, want)
		}
	}
	<-done
}

func unixConn(t *testing.T, fd int) *net.UnixConn {
	t.Helper()
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "pair")
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(*net.UnixConn)
}
