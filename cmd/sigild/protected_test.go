package main

import (
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/hsm/hsmtest"
)

// TestCommandsMemoryIsOutOfReach stops each command that gives the token its PIN in
// its log-in, and finds it as out of reach as the daemon is (TestMemoryIsOutOfReach).
func TestCommandsMemoryIsOutOfReach(t *testing.T) {
	faults, module := faultyToken(t)
	h := newHost(t, module)
	code := provision(t, h)
	for name, c := range map[string]struct {
		args  []string
		input []byte
	}{
		"recover": {[]string{"recover", "--code-fd", "0"}, code},
		"reseal":  {[]string{"reseal"}, nil},
		"check":   {[]string{"check"}, nil},
		"probe":   {[]string{"probe", h.Module, "--label", h.Label, "--pin-fd", "0"}, h.TokenPIN()},
	} {
		t.Run(name, func(t *testing.T) {
			faults.Hang("C_Login")
			pid := inLogin(t, h, faults, string(c.input)+"\n", c.args...)
			if soft, hard := coreLimits(t, pid); soft != "0" || hard != "0" {
				t.Errorf("core files may have %s and %s bytes", soft, hard)
			}
			if own == 0 && kilobytes(t, pid, "VmLck") == 0 {
				t.Error("its memory may be swapped out")
			}
		})
		faults.Clear("C_Login")
		if code, said := command(t, h, "", "forget-refusal"); code != 0 {
			t.Fatalf("forget-refusal: %s", said)
		}
	}
}

// inLogin starts a command and gives its process once it is logging in, where it
// hangs. It is killed when the test ends.
func inLogin(t *testing.T, h *daemontest.Host, faults *hsmtest.Faults, input string, args ...string) (pid int) {
	t.Helper()
	before := faults.Calls("C_Login")
	cmd := h.Command(testContext(t), args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), io.Discard, io.Discard
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := waiting(cmd)
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	await(t, "a log-in", func() bool {
		select {
		case <-ended:
			t.Fatalf("sigild %v ended", args)
		default:
		}
		return faults.Calls("C_Login") > before
	})
	return cmd.Process.Pid
}

// waiting gives a channel that is closed when a command has ended.
func waiting(cmd *exec.Cmd) <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // killed
	}()
	return ended
}
