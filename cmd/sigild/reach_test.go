package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	sys "golang.org/x/sys/unix"

	"github.com/sigild/sigild/daemon/daemontest"
)

// TestMemoryIsOutOfReach: no core dump, and no debugger of the user that sigild
// runs as. Another process of that user shows that the same look finds one that
// does not hide.
func TestMemoryIsOutOfReach(t *testing.T) {
	if own != 0 {
		outOfReachOfOneUser(t)
		return
	}
	h := servingAs(t, relayUID)
	if soft, hard := coreLimits(t, h.PID()); soft != "0" || hard != "0" {
		t.Errorf("core files may have %s and %s bytes", soft, hard)
	}
	if uid := memoryOwner(t, h.PID()); uid != 0 {
		t.Errorf("sigild's memory belongs to uid %d: it is dumpable", uid)
	}
	if said := debug(t, h, h.PID()); said != "mem: permission denied, ptrace: operation not permitted" {
		t.Errorf("a look into sigild: %s", said)
	}
	other := openProcess(t, h)
	if uid := memoryOwner(t, other); uid != relayUID {
		t.Fatalf("the memory of a process that does not hide belongs to uid %d", uid)
	}
	yama, _ := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope") // absent where the kernel has no Yama
	if said := debug(t, h, other); said != "mem: open, ptrace: open" && len(yama) == 0 {
		t.Errorf("a look into a process that does not hide: %s", said)
	}
}

// outOfReachOfOneUser is what a test that is not root's can show.
func outOfReachOfOneUser(t *testing.T) {
	t.Helper()
	h, _ := serving(t, func(o *daemontest.Options) {
		o.Env = slices.DeleteFunc(o.Env, func(v string) bool { return strings.HasPrefix(v, lookable) })
	})
	if soft, hard := coreLimits(t, h.PID()); soft != "0" || hard != "0" {
		t.Errorf("core files may have %s and %s bytes", soft, hard)
	}
	if _, err := os.Open(fmt.Sprintf("/proc/%d/mem", h.PID())); !errors.Is(err, os.ErrPermission) {
		t.Errorf("another process of the user opens its memory: %v", err)
	}
}

// asUser runs a program as another user, with options of setpriv(1).
func asUser(uid int, program string, options ...string) []string {
	id := strconv.Itoa(uid)
	return append(append([]string{"setpriv", "--reuid", id, "--regid", id, "--clear-groups"}, options...), program)
}

// servingAs is a host whose sigild runs as another user, to whom all of it
// belongs, with options of setpriv(1).
func servingAs(t *testing.T, uid int, options ...string) *daemontest.Host {
	t.Helper()
	if own != 0 {
		t.Fatal("only root can have sigild run as another user")
	}
	h := newHost(t, withConfig(map[string]string{"socket": "mode = \"0666\"\nallow = [0]", "pin": cheapPIN + "\nplain_from = [0]"}))
	provision(t, h)
	program, err := os.ReadFile(self(t)) // in a folder that the user may not enter
	if err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(h.Dir, "program")
	if err := os.WriteFile(own, program, 0o755); err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(h.Dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, uid)
	})
	if err != nil {
		t.Fatal(err)
	}
	h.Sigild = asUser(uid, own, options...)
	start(t, h)
	return h
}

func coreLimits(t *testing.T, pid int) (soft, hard string) {
	t.Helper()
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(limits)) {
		if rest, ok := strings.CutPrefix(line, "Max core file size"); ok {
			_, _ = fmt.Sscan(rest, &soft, &hard)
		}
	}
	return soft, hard
}

// memoryOwner is whom a process's memory belongs to: root, when it is not
// dumpable, whoever runs it (proc(5)).
func memoryOwner(t *testing.T, pid int) int {
	t.Helper()
	info, err := os.Stat(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	return int(info.Sys().(*syscall.Stat_t).Uid)
}

// openProcess starts a process of the user that sigild runs as.
func openProcess(t *testing.T, h *daemontest.Host) (pid int) {
	t.Helper()
	cmd := exec.CommandContext(testContext(t), h.Sigild[0], h.Sigild[1:]...)
	cmd.Env = append(os.Environ(), role+"=open process")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "here\n" {
		t.Fatalf("%q, %v", line, err)
	}
	return cmd.Process.Pid
}

// debug has a debugger of the user that sigild runs as look into a process.
func debug(t *testing.T, h *daemontest.Host, pid int) string {
	t.Helper()
	cmd := exec.CommandContext(testContext(t), h.Sigild[0], h.Sigild[1:]...)
	cmd.Env = append(os.Environ(), role+"=debugger", fmt.Sprintf("DEBUGGED=%d", pid))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// lookInto is the debugger.
func lookInto(pid string) {
	// PTRACE_SEIZE stops nobody, and ends with this process.
	mem, err := os.Open("/proc/" + pid + "/mem")
	_ = mem.Close()
	n, _ := strconv.Atoi(pid)
	fmt.Printf("mem: %s, ptrace: %s\n", refusal(err), refusal(sys.PtraceSeize(n)))
}

func refusal(err error) string {
	var path *fs.PathError
	switch {
	case err == nil:
		return "open"
	case errors.As(err, &path):
		return path.Err.Error()
	}
	return err.Error()
}
