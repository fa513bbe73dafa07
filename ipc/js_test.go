package ipc_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/sigild/sigild/ipc/ipctest"
)

// TestJavaScriptClient runs the tests of ipc/js.
func TestJavaScriptClient(t *testing.T) {
	if !ipctest.JavaScriptClient(t) {
		return
	}
	for _, script := range []string{"test", "types"} {
		cmd := exec.CommandContext(t.Context(), "npm", "run", "--silent", script)
		cmd.Dir = "js"
		out, err := cmd.CombinedOutput()
		if err != nil || script == "test" && !regexp.MustCompile(`# pass [1-9]`).Match(out) {
			t.Errorf("npm run %s: %v\n%s", script, err, out)
		}
	}
}

// The lock file names no host to download from, and has a digest of each package.
func TestJavaScriptLock(t *testing.T) {
	text, err := os.ReadFile("js/package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "://") {
		t.Error("package-lock.json has an address")
	}
	var lock struct {
		Packages map[string]struct{ Integrity string }
	}
	if err := json.Unmarshal(text, &lock); err != nil || len(lock.Packages) < 5 {
		t.Fatalf("%d packages, %v", len(lock.Packages), err)
	}
	for name, p := range lock.Packages {
		if name != "" && !strings.HasPrefix(p.Integrity, "sha512-") {
			t.Errorf("%s has no digest", name)
		}
	}
}
