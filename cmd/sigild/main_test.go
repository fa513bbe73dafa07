package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"
	"testing"
)

// role makes a copy of the test program play another process: sigild itself, or
// a relay of another user.
const role = "SIGILD_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "":
		os.Exit(m.Run())
	case "sigild":
		showMemoryOnRequest()
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	case "relay":
		if err := playRelay(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "open process":
		fmt.Println("here")
		_, _ = io.Copy(io.Discard, os.Stdin)
	case "debugger":
		lookInto(os.Getenv("DEBUGGED"))
	default:
		fmt.Fprintln(os.Stderr, "unknown role")
		os.Exit(1)
	}
}

// playRelay becomes another user and copies standard input to the socket, and
// what comes back to standard output. It changes its uid itself: the other user
// may not even read the test program.
func playRelay() error {
	uid, err := strconv.Atoi(os.Getenv("RELAY_UID"))
	if err != nil {
		return err
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
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: os.Getenv("RELAY_SOCKET"), Net: "unix"})
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
