package main_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// The client must build without cgo and without the daemon's own packages, so
// that it can be given to people who may not hold any of the devices.
func TestImports(t *testing.T) {
	const format = "{{if not .Standard}}{{.ImportPath}} {{len .CgoFiles}}{{end}}"
	out, err := exec.Command("go", "list", "-deps", "-f", format, ".").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	const module = "github.com/sigild/sigild/"
	allowed := []string{"cmd/sigilctl", "cmd/internal/ask", "cmd/internal/manual", "ipc", "daemon/audit", "daemon/seal", "daemon/seal/argon2",
		"daemon/channel", "daemon/wipe", "tpm/quote"}
	for line := range strings.Lines(string(out)) {
		path, cgo, _ := strings.Cut(strings.TrimSpace(line), " ")
		own, isOwn := strings.CutPrefix(path, module)
		if isOwn && !slices.Contains(allowed, own) {
			t.Errorf("sigilctl imports %s", path)
		}
		if cgo != "0" {
			t.Errorf("%s needs cgo", path)
		}
	}
}
