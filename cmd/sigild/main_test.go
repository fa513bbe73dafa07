package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
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
		if os.Getenv(lookable) != "" {
			exitOn(stayLookable())
		}
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	case "relay":
		uid, err := strconv.Atoi(os.Getenv("RELAY_UID"))
		exitOn(err)
		exitOn(playRelay(uid, os.Getenv("RELAY_SOCKET")))
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

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
