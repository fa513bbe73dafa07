//go:build system

package systemd_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// packagesInRoot are what the root folder has beside Debian's smallest set.
const packagesInRoot = "systemd,systemd-sysv,dbus,softhsm2,init-system-helpers,debconf"

// machine is a Debian whose systemd runs in namespaces.
type machine struct {
	t    *testing.T
	root string
	init string // process id of its systemd, outside
}

// newRootFolder copies a fresh Debian, which is made once and kept in the
// user's cache.
func newRootFolder(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test makes namespaces and a Debian root folder: run it as root")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	base := filepath.Join(cache, "sigild-test", "bookworm")
	if _, err := os.Stat(filepath.Join(base, "complete")); err != nil {
		if err := os.RemoveAll(base); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(base, 0o755); err != nil {
			t.Fatal(err)
		}
		run(t, "debootstrap", "--variant=minbase", "--include="+packagesInRoot, "bookworm", filepath.Join(base, "root"))
		if err := os.WriteFile(filepath.Join(base, "complete"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := os.MkdirTemp("", "sigild-root-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	root := filepath.Join(dir, "r")
	run(t, "cp", "-a", "--reflink=auto", filepath.Join(base, "root"), root)
	return root
}

// run runs a program of the host and gives what it said.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// boot starts the root folder's systemd and waits until it is up.
func boot(t *testing.T, root string) *machine {
	t.Helper()
	script, err := filepath.Abs("testdata/boot")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("unshare", "--pid", "--fork", "--kill-child", "--mount", "--uts", "--ipc", "--cgroup", script, root)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	m := &machine{t: t, root: root}
	m.eventually(time.Minute, "systemd is up", func() bool {
		select {
		case <-ended:
			t.Fatalf("systemd could not be booted in namespaces of this host (unshare, mount and cgroups must be allowed): %s", out.String())
		default:
		}
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid))
		if err != nil || len(bytes.Fields(children)) == 0 {
			return false
		}
		m.init = string(bytes.Fields(children)[0])
		state, _ := m.try(nil, "systemctl", "is-system-running")
		return strings.HasPrefix(state, "running") || strings.HasPrefix(state, "degraded")
	})
	return m
}

// eventually waits until done says so.
func (m *machine) eventually(within time.Duration, what string, done func() bool) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), within)
	defer cancel()
	turn := time.NewTicker(100 * time.Millisecond)
	defer turn.Stop()
	for !done() {
		select {
		case <-turn.C:
		case <-ctx.Done():
			journal := ""
			if m.init != "" {
				journal, _ = m.try(nil, "journalctl", "-n", "60", "--no-pager")
				status, _ := m.try(nil, "systemctl", "status", "--no-pager", "sigild.service", "sigild.socket")
				journal += status
			}
			m.t.Fatalf("not within %s: %s\n%s", within, what, journal)
		}
	}
}

// try runs a command inside, with a secret in descriptor 3, and gives all that
// it said.
func (m *machine) try(secret []byte, args ...string) (string, error) {
	m.t.Helper()
	stdout, stderr, err := m.run(secret, args...)
	return stderr + stdout, err
}

// commandPatience bounds one command inside.
const commandPatience = 2 * time.Minute

func (m *machine) run(secret []byte, args ...string) (stdout, stderr string, err error) {
	m.t.Helper()
	// The unit's start has no limit of its own: it waits for devices.
	ctx, cancel := context.WithTimeout(m.t.Context(), commandPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--target", m.init,
		"--mount", "--uts", "--ipc", "--pid", "--cgroup", "--root", "--wd=/", "--"}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8"}
	if secret != nil {
		read, write, err := os.Pipe()
		if err != nil {
			m.t.Fatal(err)
		}
		defer read.Close()
		if _, err := write.Write(append(bytes.Clone(secret), '\n')); err != nil {
			m.t.Fatal(err)
		}
		if err := write.Close(); err != nil {
			m.t.Fatal(err)
		}
		cmd.ExtraFiles = []*os.File{read}
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

func (m *machine) must(secret []byte, args ...string) string {
	m.t.Helper()
	out, err := m.try(secret, args...)
	if err != nil {
		journal, _ := m.try(nil, "journalctl", "-n", "40", "--no-pager")
		m.t.Fatalf("%v: %v\n%s\n%s", args, err, out, journal)
	}
	return out
}

// property reads one property of sigild.service.
func (m *machine) property(name string) string {
	m.t.Helper()
	return strings.TrimSpace(m.must(nil, "systemctl", "show", "sigild.service", "--value", "-p", name))
}

// write makes a file inside, readable for sigild.
func (m *machine) write(path, text string, mode os.FileMode) {
	m.t.Helper()
	full := filepath.Join(m.root, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(text), mode); err != nil {
		m.t.Fatal(err)
	}
}
