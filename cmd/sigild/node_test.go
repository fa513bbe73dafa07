package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/sigild/sigild/ipc/ipctest"
)

// clientsDir has the libraries' lock file and the scripts.
const clientsDir = "../../testdata/clients"

// installLibraries runs npm, unless the lock file's packages are there.
func installLibraries(t *testing.T) {
	t.Helper()
	lock, err := os.ReadFile(filepath.Join(clientsDir, "package-lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	stamp := filepath.Join(clientsDir, "node_modules", ".sigild-lock")
	if done, err := os.ReadFile(stamp); err == nil && bytes.Equal(done, lock) {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = clientsDir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	if err := os.WriteFile(stamp, lock, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestNodeLibraries runs ethers and viem, unchanged, on sigild's socket; they
// verify what they got. OpenRPC's own meta-schema judges rpc.discover's answer.
func TestNodeLibraries(t *testing.T) {
	if !ipctest.Node(t) {
		return
	}
	installLibraries(t)
	h, c, w := unlocked(t)
	locked := create(t, c, "2")
	for _, script := range []string{"ethers.mjs", "viem.mjs", "openrpc.mjs"} {
		t.Run(script, func(t *testing.T) {
			cmd := exec.CommandContext(testContext(t), "node", script, h.Socket, w.Accounts[0].Address, locked.Accounts[0].Address)
			cmd.Dir = clientsDir
			out, err := cmd.CombinedOutput()
			t.Logf("%s", out)
			if err != nil || bytes.Count(out, []byte("ok ")) < 15 {
				t.Errorf("%s: %v", script, err)
			}
		})
	}
}
