package tpmtest_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sigild/sigild/tpm/tpmtest"
)

func TestProcessEndsWithItsContext(t *testing.T) {
	dir, err := os.MkdirTemp("", "swtpm")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ctx, cancel := context.WithCancel(t.Context())
	process, err := tpmtest.Start(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	if loaded, err := process.Loaded(); err != nil || len(loaded) != 0 {
		t.Errorf("%v, %v", loaded, err)
	}
	cancel()
	process.Kill() // waits
	if c, err := net.Dial("unix", process.Device); err == nil {
		_ = c.Close()
		t.Error("swtpm still accepts")
	}
}

func TestStartRefusesUnusableDirectories(t *testing.T) {
	for _, dir := range []string{"relative", "/" + strings.Repeat("x", 100), filepath.Join(t.TempDir(), "missing")} {
		if process, err := tpmtest.Start(t.Context(), dir); err == nil {
			process.Kill()
			t.Errorf("%q is accepted", dir)
		}
	}
}
