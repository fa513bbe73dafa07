package ipctest

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

// JavaScript is the folder of the JavaScript client.
func JavaScript() string {
	_, here, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(here), "..", "js")
}

// Node reports whether Node can run the JavaScript client, and installs what
// that needs from its lock file. Without Node it says so in the test's log; in
// CI, where the variable CI is set, the test fails.
func Node(t testing.TB) bool {
	t.Helper()
	if _, err := exec.LookPath("npm"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("Node is not installed: apt-get install nodejs npm")
		}
		t.Log("NOT RUN: Node is not installed")
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
