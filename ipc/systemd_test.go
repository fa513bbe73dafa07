package ipc_test

import (
	"bytes"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sigild/sigild/ipc"
	"github.com/sigild/sigild/ipc/ipctest"
)

func TestFromSystemdWithoutActivation(t *testing.T) {
	t.Setenv("LISTEN_FDS", "")
	if ln, ok, err := ipc.FromSystemd(); ln != nil || ok || err != nil {
		t.Fatalf("got %v, %v, %v", ln, ok, err)
	}
	t.Setenv("LISTEN_FDS", "1")
	t.Setenv("LISTEN_PID", "1")
	if ln, ok, err := ipc.FromSystemd(); ln != nil || ok || err != nil {
		t.Fatalf("another process's descriptors: got %v, %v, %v", ln, ok, err)
	}
	if _, there := os.LookupEnv("LISTEN_FDS"); there {
		t.Error("LISTEN_FDS is still set")
	}
}

func TestFromSystemdServesTheSocket(t *testing.T) {
	path := filepath.Join(ipctest.Directory(t), "s")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	file, err := ln.File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd := child(t, "activate", "LISTEN_FDS=1", "LISTEN_FDNAMES=sigild.socket")
	cmd.ExtraFiles = []*os.File{file}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	conn := ipctest.Connect(t, path)
	if _, err := io.WriteString(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	_ = conn.CloseWrite()
	echo, err := io.ReadAll(conn)
	if waitErr := cmd.Wait(); waitErr != nil || err != nil || string(echo) != "hello" {
		t.Fatalf("got %q, %v, %v: %s", echo, err, waitErr, out.String())
	}
	stat(t, path) // the manager's file stays
}

func TestFromSystemdRefusesOtherDescriptors(t *testing.T) {
	dir := ipctest.Directory(t)
	for name, test := range map[string]struct {
		file func(t *testing.T) *os.File
		fds  string
		role string
		want string
	}{
		"another process":  {unixListener(dir + "/a"), "1", "activate-other", "none"},
		"two sockets":      {unixListener(dir + "/b"), "2", "activate", "exactly one"},
		"not a number":     {unixListener(dir + "/c"), "one", "activate", "exactly one"},
		"a TCP socket":     {tcpListener, "1", "activate", "not a Unix socket"},
		"a datagram":       {unixDatagram(dir + "/d"), "1", "activate", "not a stream socket"},
		"a connection":     {unixConnection(dir + "/e"), "1", "activate", "does not listen"},
		"a file":           {plainFile(dir + "/f"), "1", "activate", "non-socket"},
		"no descriptor":    {nil, "1", "activate", "unusable socket activation"},
		"nothing to hand":  {nil, "", "activate", "none"},
		"negative numbers": {nil, "-1", "activate", "exactly one"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := child(t, test.role, "LISTEN_FDS="+test.fds)
			if test.file != nil {
				cmd.ExtraFiles = []*os.File{test.file(t)}
			}
			out, err := cmd.CombinedOutput()
			if _, isExit := err.(*exec.ExitError); err != nil && !isExit {
				t.Fatal(err)
			}
			if !strings.Contains(string(out), test.want) {
				t.Fatalf("got %q, want %q", out, test.want)
			}
		})
	}
}

// filer is a socket of package net.
type filer interface{ File() (*os.File, error) }

// fileOf returns a copy of the descriptor, for as long as the test runs.
func fileOf(t *testing.T, socket any, err error) *os.File {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.(io.Closer).Close() })
	f, err := socket.(filer).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func unixListener(path string) func(*testing.T) *os.File {
	return func(t *testing.T) *os.File {
		ln, err := net.Listen("unix", path)
		return fileOf(t, ln, err)
	}
}

func unixDatagram(path string) func(*testing.T) *os.File {
	return func(t *testing.T) *os.File {
		conn, err := net.ListenPacket("unixgram", path)
		return fileOf(t, conn, err)
	}
}

func unixConnection(path string) func(*testing.T) *os.File {
	return func(t *testing.T) *os.File {
		unixListener(path)(t)
		conn, err := net.Dial("unix", path)
		return fileOf(t, conn, err)
	}
}

func tcpListener(t *testing.T) *os.File {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	return fileOf(t, ln, err)
}

func plainFile(path string) func(*testing.T) *os.File {
	return func(t *testing.T) *os.File {
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
}
