package main

import (
	"os"
	"testing"
)

// TestMain lets the test binary be sigild, so that tests run the real process.
func TestMain(m *testing.M) {
	if os.Getenv("SIGILD_TEST_MAIN") == "1" {
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}
