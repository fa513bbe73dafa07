package systemd_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// units is what the package installs below /usr/lib/systemd/system.
var units = []string{"sigild.service", "sigild.socket"}

// newRoot is a root folder with the units and the programs that they start.
func newRoot(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	folder := filepath.Join(root, "usr/lib/systemd/system")
	for _, dir := range []string{folder, filepath.Join(root, "usr/sbin"), filepath.Join(root, "bin"), filepath.Join(root, "etc/systemd/system")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, u := range units {
		install(t, u, filepath.Join(folder, u), 0o644)
	}
	// The units that ours are ordered by, from the host.
	system, err := filepath.Glob("/usr/lib/systemd/system/*.target")
	if err != nil || len(system) == 0 {
		t.Fatalf("no targets of systemd on this host: %v", err)
	}
	for _, target := range system {
		install(t, target, filepath.Join(folder, filepath.Base(target)), 0o644)
	}
	for _, program := range []string{"usr/sbin/sigild", "bin/sh"} {
		if err := os.WriteFile(filepath.Join(root, program), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func install(t *testing.T, from, to string, mode os.FileMode) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, text, mode); err != nil {
		t.Fatal(err)
	}
}

func dropins(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob("dropins/*.conf")
	if err != nil || len(found) < 4 {
		t.Fatalf("drop-ins: %v, %v", found, err)
	}
	return found
}

// with installs a drop-in.
func with(t *testing.T, root, dropin string) {
	t.Helper()
	folder := filepath.Join(root, "etc/systemd/system/sigild.service.d")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	install(t, dropin, filepath.Join(folder, filepath.Base(dropin)), 0o644)
}

// verify runs systemd-analyze verify on the units and wants silence: an unknown
// directive or value is a warning and not a failure.
func verify(t *testing.T, root string) {
	t.Helper()
	args := []string{"verify", "--root=" + root, "--man=no"}
	out, err := exec.CommandContext(t.Context(), "systemd-analyze", append(args, units...)...).CombinedOutput()
	lines := slices.DeleteFunc(strings.Split(strings.TrimSpace(string(out)), "\n"), func(line string) bool {
		return line == "" || !strings.Contains(line, "sigild")
	})
	if err != nil || len(lines) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

func TestUnitsVerify(t *testing.T) {
	verify(t, newRoot(t))
	for _, d := range dropins(t) {
		root := newRoot(t)
		with(t, root, d)
		verify(t, root)
	}
}

// A misspelt directive must not pass.
func TestVerifyFindsMistakes(t *testing.T) {
	root := newRoot(t)
	file := filepath.Join(t.TempDir(), "wrong.conf")
	if err := os.WriteFile(file, []byte("[Service]\nProtectSytem=strict\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	with(t, root, file)
	out, _ := exec.CommandContext(t.Context(), "systemd-analyze", "verify", "--root="+root, "--man=no", "sigild.service").CombinedOutput()
	if !strings.Contains(string(out), "ProtectSytem") {
		t.Errorf("systemd-analyze verify says nothing of a misspelt directive:\n%s", out)
	}
}

var level = regexp.MustCompile(`Overall exposure level for sigild.service: ([0-9.]+)`)

// exposure is the score of systemd-analyze security, 0 to 10.
func exposure(t *testing.T, root string) float64 {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "systemd-analyze", "security", "--offline=true", "--no-pager", "--root="+root, "sigild.service").CombinedOutput()
	found := level.FindSubmatch(out)
	if err != nil || found == nil {
		t.Fatalf("systemd-analyze security: %v\n%s", err, out)
	}
	score, err := strconv.ParseFloat(string(found[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	return score
}

func TestExposure(t *testing.T) {
	if score := exposure(t, newRoot(t)); score > 1.5 {
		t.Errorf("exposure %.1f with KMS on", score)
	}
	for dropin, most := range map[string]float64{"softhsm.conf": 1.5, "network-hsm.conf": 1.5, "kms-endpoint.conf": 1.3, "no-kms.conf": 0.9} {
		root := newRoot(t)
		with(t, root, filepath.Join("dropins", dropin))
		if score := exposure(t, root); score > most {
			t.Errorf("exposure %.1f with %s, at most %.1f", score, dropin, most)
		}
	}
}

// What the unit must not have, and why it says so, and what its comments promise.
func TestUnitKeepsPeerCredentials(t *testing.T) {
	text, err := os.ReadFile("sigild.service")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"PrivateUsers=no", "RestartPreventExitStatus=78", "Type=notify", "WatchdogSec=60",
		"StartLimitIntervalSec=0", "IPAddressDeny=multicast link-local"} {
		if !slices.Contains(strings.Split(string(text), "\n"), line) {
			t.Errorf("sigild.service lacks %s", line)
		}
	}
}

func TestSysusersAndTmpfiles(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"etc", "usr/lib/sysusers.d", "usr/lib/tmpfiles.d"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	install(t, "sigild.sysusers", filepath.Join(root, "usr/lib/sysusers.d/sigild.conf"), 0o644)
	installTmpfiles(t, filepath.Join(root, "usr/lib/tmpfiles.d/sigild.conf"))
	if out, err := exec.CommandContext(t.Context(), "systemd-sysusers", "--root="+root, "sigild.conf").CombinedOutput(); err != nil {
		t.Fatalf("systemd-sysusers: %v\n%s", err, out)
	}
	groups, err := os.ReadFile(filepath.Join(root, "etc/group"))
	if err != nil || !regexp.MustCompile(`(?m)^tss:[^\n]*:sigild$`).Match(groups) || !strings.Contains(string(groups), "sigild-client:") {
		t.Errorf("groups: %v\n%s", err, groups)
	}
	if out, err := exec.CommandContext(t.Context(), "systemd-tmpfiles", "--root="+root, "--create", "sigild.conf").CombinedOutput(); err != nil {
		t.Fatalf("systemd-tmpfiles: %v\n%s", err, out)
	}
	for path, mode := range map[string]os.FileMode{"run/sigild": 0o755, "var/lib/sigild": 0o700, "etc/sigild": 0o750} {
		info, err := os.Stat(filepath.Join(root, path))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("/%s: %v, %v, want %v", path, info, err, mode)
		}
	}
}

// installTmpfiles gives the folders to the test's own user and group where that is
// not root, which alone may give them to others.
func installTmpfiles(t *testing.T, path string) {
	t.Helper()
	if os.Geteuid() == 0 {
		install(t, "sigild.tmpfiles", path, 0o644)
		return
	}
	lines, err := os.ReadFile("sigild.tmpfiles")
	if err != nil {
		t.Fatal(err)
	}
	to := fmt.Sprintf("$1 %d %d", os.Geteuid(), os.Getegid())
	changed := regexp.MustCompile(`(?m)^(d \S+ +\d+) +\S+ +\S+`).ReplaceAll(lines, []byte(to))
	if err := os.WriteFile(path, changed, 0o644); err != nil {
		t.Fatal(err)
	}
}
