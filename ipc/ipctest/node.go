package ipctest

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// JavaScript is the folder of the JavaScript client.
func JavaScript() string {
	_, here, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(here), "..", "js")
}

// Program reports whether a program that a test needs is installed. Where it is
// not, the test's log says so; in CI, where the variable CI is set, the test
// fails.
func Program(t testing.TB, name string) bool {
	t.Helper()
	_, err := exec.LookPath(name)
	if err != nil && os.Getenv("CI") != "" {
		t.Fatalf("%v: CI installs it by testdata/install-deps (apt-get install nodejs npm)", err)
	}
	if err != nil {
		t.Logf("NOT RUN: %v", err)
	}
	return err == nil
}

// Node reports whether Node and npm are there, as Program does, and gives Node
// 18, which is Debian 12's, the global object crypto that later ones have.
func Node(t testing.TB) bool {
	t.Helper()
	if !Program(t, "node") || !Program(t, "npm") {
		return false
	}
	version, err := exec.CommandContext(t.Context(), "node", "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(string(version), "v18.") {
		t.Setenv("NODE_OPTIONS", "--experimental-global-webcrypto")
	}
	return true
}

// JavaScriptClient reports whether Node can run the JavaScript client, and
// installs what that needs from its lock file.
func JavaScriptClient(t testing.TB) bool {
	t.Helper()
	if !Node(t) {
		return false
	}
	if err := install(); err != nil {
		t.Fatal(err)
	}
	return true
}

// install runs npm ci once, also when several test programs ask for it.
func install() error {
	lock, err := os.Open(filepath.Join(JavaScript(), "package-lock.json"))
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(JavaScript(), "node_modules", ".package-lock.json")); err == nil {
		return nil
	}
	cmd := exec.Command("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent")
	cmd.Dir = JavaScript()
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return cmd.Run()
}
