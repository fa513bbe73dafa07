//go:build system

package systemd_test

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sigild/sigild/daemon/entropy/kmstest"
	"github.com/sigild/sigild/tpm/tpmtest"
)

const userPIN = "402916"

// buildPackage builds the Debian package of a version.
func buildPackage(t *testing.T, version string) string {
	t.Helper()
	t.Setenv("VERSION", version)
	run(t, "deb/build")
	found, err := filepath.Glob("../dist/sigild_" + strings.TrimPrefix(version, "v") + "_*.deb")
	if err != nil || len(found) != 1 {
		t.Fatalf("packages of %s: %v, %v", version, found, err)
	}
	return found[0]
}

// buildPrevious builds the package of the latest release, from its own source.
// Where nothing was released yet, the upgrade is one between two builds of this
// tree: it crosses the package's scripts and a live database, and no change of
// the program. What releases leave behind is opened by TestGolden.
func buildPrevious(t *testing.T) string {
	t.Helper()
	tag := ""
	if tags, err := exec.CommandContext(t.Context(), "git", "tag", "--merged", "HEAD", "--list", "v[0-9]*", "--sort=-version:refname").Output(); err == nil {
		tag, _, _ = strings.Cut(string(tags), "\n")
	}
	if tag == "" {
		t.Log("nothing was released yet: the upgrade is between two builds of this tree")
		return buildPackage(t, "v0.0.1")
	}
	t.Logf("the upgrade is from %s", tag)
	tree := filepath.Join(t.TempDir(), "released")
	run(t, "git", "worktree", "add", "--detach", tree, tag)
	t.Cleanup(func() { run(t, "git", "worktree", "remove", "--force", tree) })
	t.Setenv("VERSION", tag)
	run(t, filepath.Join(tree, "systemd/deb/build"))
	found, err := filepath.Glob(filepath.Join(tree, "dist/sigild_*.deb"))
	if err != nil || len(found) != 1 {
		t.Fatalf("packages of %s: %v, %v", tag, found, err)
	}
	return found[0]
}

// host is a machine with a token, a TPM and KMS, on which sigild is installed.
type host struct {
	*machine
	whole    *testing.T // the test, which outlives its steps
	chip     *tpmtest.Process
	kms      *kmstest.Server
	tokenPIN string
	code     string // recovery code
	walletID string
}

// TestRealSystemd installs the package, and runs, breaks, upgrades and removes
// the service under a real systemd. The steps build on each other.
func TestRealSystemd(t *testing.T) {
	old, next := buildPrevious(t), buildPackage(t, "v99.0.0")
	root := newRootFolder(t)
	install(t, old, filepath.Join(root, "old.deb"), 0o644)
	install(t, next, filepath.Join(root, "next.deb"), 0o644)
	h := &host{machine: boot(t, root), whole: t}
	for _, step := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"install", h.install}, {"unprovisioned", h.unprovisioned}, {"provision", h.provision}, {"sign", h.sign},
		{"confined", h.confined}, {"reload", h.reload}, {"killed", h.killed}, {"watchdog", h.watchdog}, {"wrong token PIN", h.wrongTokenPIN},
		{"credential", h.credential}, {"another kernel", h.anotherKernel}, {"support bundle", h.supportBundle}, {"upgrade", h.upgrade}, {"remove", h.remove},
	} {
		if !t.Run(step.name, func(t *testing.T) { h.t = t; step.run(t) }) {
			return
		}
	}
}

// examples is where the package has its examples.
const examples = "/usr/share/doc/sigild/examples/"

func (h *host) install(t *testing.T) {
	h.must(nil, "dpkg", "-i", "/old.deb")
	for path, want := range map[string]string{
		"/usr/sbin/sigild": "755 root root", "/usr/bin/sigilctl": "755 root root",
		"/var/lib/sigild": "700 sigild sigild", "/etc/sigild": "750 root sigild", "/run/sigild": "755 sigild sigild",
		"/usr/lib/systemd/system/sigild.service": "644 root root", "/usr/share/man/man8/sigild.8.gz": "644 root root",
		"/usr/share/bash-completion/completions/sigilctl": "644 root root", "/usr/share/bash-completion/completions/sigild": "644 root root",
		"/usr/share/zsh/vendor-completions/_sigilctl": "644 root root", "/usr/share/zsh/vendor-completions/_sigild": "644 root root",
		"/usr/share/fish/vendor_completions.d/sigilctl.fish": "644 root root", "/usr/share/fish/vendor_completions.d/sigild.fish": "644 root root",
		"/usr/lib/systemd/system/sigild.socket": "644 root root", "/usr/share/man/man1/sigilctl.1.gz": "644 root root",
		examples + "sigild.toml": "644 root root", examples + "monitoring/sigild.rules.yml": "644 root root",
	} {
		if got := strings.TrimSpace(h.must(nil, "stat", "-c", "%a %U %G", path)); got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
	for _, dropin := range dropins(t) {
		h.must(nil, "test", "-s", examples+"dropins/"+filepath.Base(dropin))
	}
	for _, unit := range []string{"sigild.socket", "sigild.service"} {
		if out := strings.TrimSpace(h.must(nil, "systemctl", "is-enabled", unit)); out != "enabled" {
			t.Errorf("%s is %s", unit, out)
		}
	}
	// What the package brings as an example is a configuration.
	h.must(nil, "sigild", "check-config", "--config", examples+"sigild.toml")
	if out := h.must(nil, "dpkg", "--verify", "sigild"); strings.TrimSpace(out) != "" {
		t.Errorf("dpkg --verify: %s", out)
	}
	if out := h.must(nil, "id", "-nG", "sigild"); !strings.Contains(out, "tss") {
		t.Errorf("sigild is in %s", out)
	}
}

// Nothing starts before provisioning, also when it is asked for.
func (h *host) unprovisioned(t *testing.T) {
	h.must(nil, "systemctl", "start", "sigild.socket", "sigild.service")
	for _, unit := range []string{"sigild.socket", "sigild.service"} {
		if state, _ := h.try(nil, "systemctl", "is-active", unit); strings.TrimSpace(state) != "inactive" {
			t.Errorf("%s is %s", unit, state)
		}
	}
}

func (h *host) provision(t *testing.T) {
	h.must(nil, "useradd", "--system", "--create-home", "--groups", "sigild-client", "relay")
	h.must(nil, "useradd", "--system", "stranger")
	uid := strings.TrimSpace(h.must(nil, "id", "-u", "relay"))
	h.devices(uid)
	out := h.must([]byte(h.tokenPIN), "runuser", "-u", "sigild", "--", "sigild", "provision", "--pin-fd", "3", "--code-fd", "1")
	h.code = regexp.MustCompile("([0-9A-Z]{4}-){8}[0-9A-Z]{4}").FindString(out)
	if !strings.Contains(out, "provisioned") || h.code == "" {
		t.Fatal(out)
	}
	// As root the files would be out of the daemon's reach.
	for _, command := range []string{"reseal", "recover", "check", "compact", "clear-token-fault", "forget-refusal"} {
		if out, err := h.try(nil, "sigild", command); err == nil || !strings.Contains(out, "runuser -u sigild") {
			t.Errorf("sigild %s as root: %v, %s", command, err, out)
		}
	}
}

// devices gives the machine a SoftHSM token, a TPM and the KMS endpoint.
func (h *host) devices(relay string) {
	t := h.t
	kms, err := kmstest.Start(kmstest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	h.whole.Cleanup(func() { _ = kms.Close() })
	folder := filepath.Join(h.root, "var/lib/tpm")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	chip, err := tpmtest.Start(h.whole.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	h.whole.Cleanup(chip.Kill)
	for _, pcr := range []int{7, 11, 12, 14} { // what a boot measures
		if err := chip.Extend(pcr, sha256.Sum256(fmt.Appendf(nil, "measured into %d", pcr))); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(chip.Device, 0o777); err != nil {
		t.Fatal(err)
	}
	h.chip, h.kms = chip, kms
	pin := make([]byte, 16)
	rand.Read(pin)
	h.tokenPIN = hex.EncodeToString(pin)
	h.must(nil, "usermod", "--append", "--groups", "softhsm", "sigild")
	h.must(nil, "runuser", "-u", "sigild", "--", "softhsm2-util", "--init-token", "--free", "--label", "wallets",
		"--pin", h.tokenPIN, "--so-pin", "87654321")
	h.configure(relay, "tpm", kms)
	h.dropins()
}

// dropins are what this host adds to the unit: SoftHSM's, the credentials of the
// KMS endpoint, and a short watchdog.
func (h *host) dropins() {
	environment := "[Service]\nWatchdogSec=4\n"
	for _, assignment := range h.kms.Env() {
		environment += fmt.Sprintf("Environment=%q\n", assignment)
	}
	h.write("/etc/systemd/system/sigild.service.d/test.conf", environment, 0o644)
	dropin, err := os.ReadFile("dropins/softhsm.conf")
	if err != nil {
		h.t.Fatal(err)
	}
	h.write("/etc/systemd/system/sigild.service.d/softhsm.conf", string(dropin), 0o644)
	h.must(nil, "systemctl", "daemon-reload")
}

func (h *host) configure(relay, pin string, kms *kmstest.Server) {
	h.write("/etc/sigild/sigild.toml", fmt.Sprintf(`[socket]
allow = [0, %s]
[token]
module = "/usr/lib/softhsm/libsofthsm2.so"
label = "wallets"
pin = %q
[tpm]
device = "/var/lib/tpm/tpm.sock"
profile = "uki"
[kms]
region = %q
endpoint = %q
allow_http = true
[metrics]
listen = "unix:/run/sigild/metrics.sock"
`, relay, pin, kms.Region(), kms.Endpoint()), 0o644)
}

// relay runs sigilctl as the relay's user, with the wallet's PIN.
func (h *host) relay(args ...string) (map[string]any, error) {
	h.t.Helper()
	return h.asRelay([]byte(userPIN), append(args, "--pin-fd", "3")...)
}

func (h *host) asRelay(pin []byte, args ...string) (map[string]any, error) {
	h.t.Helper()
	out, said, err := h.run(pin, append([]string{"runuser", "-u", "relay", "--", "env", "HOME=/home/relay", "sigilctl", "--json"}, args...)...)
	if err != nil {
		return nil, fmt.Errorf("%w: %s%s", err, said, out)
	}
	var answer map[string]any
	return answer, json.Unmarshal([]byte(out), &answer)
}

// signs has the relay sign a message with its wallet.
func (h *host) signs() {
	h.t.Helper()
	answer, err := h.relay("sign", "message", h.walletID, "/etc/hostname")
	if err != nil || answer["signature"] == nil {
		h.t.Fatalf("sign: %v, %v", answer, err)
	}
}

func (h *host) sign(t *testing.T) {
	h.must(nil, "systemctl", "start", "sigild.socket", "sigild.service")
	if state, status := h.property("ActiveState"), h.property("StatusText"); state != "active" || status != "ready" {
		t.Errorf("the service is %s, %q", state, status)
	}
	made, err := h.relay("wallet", "create", "--owner", "alice", "--request-id", "1")
	if err != nil {
		t.Fatal(err)
	}
	h.walletID = made["wallet"].(map[string]any)["walletId"].(string)
	h.signs()
	if out, err := h.try(nil, "runuser", "-u", "stranger", "--", "sigilctl", "status"); err == nil {
		t.Errorf("a user outside the group reached the socket: %s", out)
	}
}

// confined looks at the running process as the kernel shows it.
func (h *host) confined(t *testing.T) {
	pid := h.property("MainPID")
	status := h.must(nil, "cat", "/proc/"+pid+"/status")
	for _, want := range []string{"CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !strings.Contains(status, want) {
			t.Errorf("/proc/PID/status lacks %q:\n%s", want, status)
		}
	}
	if limits := h.must(nil, "grep", "core file", "/proc/"+pid+"/limits"); !strings.Contains(limits, "0") {
		t.Errorf("core files: %s", limits)
	}
	h.memoryLocked(t, status)
	// The unit's filter lets the daemon confine itself further.
	answer, err := h.asRelay(nil, "status")
	if landlock, _ := answer["landlock"].(map[string]any); err != nil || landlock["abi"] == float64(0) {
		t.Errorf("Landlock is not in force: %v, %v", answer["landlock"], err)
	}
}

// memoryLocked wants all of the daemon's memory locked, as the unit lets it.
// systemd cannot give more than this host lets it have itself.
func (h *host) memoryLocked(t *testing.T, status string) {
	t.Helper()
	locked := regexp.MustCompile(`VmLck:\s+[1-9]`).MatchString(status)
	if exec.Command("prlimit", "--memlock=unlimited:unlimited", "true").Run() != nil {
		t.Log("NOT RUN: this host's own limit of locked memory cannot be raised (CAP_SYS_RESOURCE)")
	} else if !locked {
		t.Errorf("no memory is locked:\n%s", status)
	}
	if answer, err := h.asRelay(nil, "status"); err != nil || strings.Contains(fmt.Sprint(answer["notes"]), "may be swapped out") == locked {
		t.Errorf("memory is locked: %v, and status says %v, %v", locked, answer["notes"], err)
	}
}

// A reload keeps the process.
func (h *host) reload(t *testing.T) {
	before := h.property("MainPID")
	h.must(nil, "systemctl", "reload", "sigild.service")
	h.signs()
	if after := h.property("MainPID"); after != before {
		t.Errorf("the reload replaced process %s by %s", before, after)
	}
}

func (h *host) killed(t *testing.T) {
	before := h.property("MainPID")
	h.must(nil, "systemctl", "kill", "--signal=KILL", "--kill-who=main", "sigild.service")
	h.returned(before)
	h.signs()
}

// returned waits until another process serves.
func (h *host) returned(before string) {
	h.t.Helper()
	h.eventually(time.Minute, "the service is back", func() bool {
		pid := h.property("MainPID")
		return pid != before && pid != "0" && h.property("ActiveState") == "active"
	})
}

// A process that does nothing any more is replaced.
func (h *host) watchdog(t *testing.T) {
	before := h.property("MainPID")
	h.must(nil, "systemctl", "kill", "--signal=STOP", "--kill-who=main", "sigild.service")
	h.returned(before)
	if journal := h.must(nil, "journalctl", "-u", "sigild", "--no-pager"); !strings.Contains(journal, "Watchdog timeout") {
		t.Errorf("the journal does not tell of the watchdog:\n%s", journal)
	}
	h.signs()
}

func (h *host) upgrade(t *testing.T) {
	before := h.property("MainPID")
	h.must(nil, "dpkg", "-i", "/next.deb")
	h.returned(before)
	h.signs()
	if version := h.must(nil, "sigild", "--version"); !strings.Contains(version, "v99.0.0") {
		t.Errorf("after the upgrade: %s", version)
	}
	answer, err := h.asRelay(nil, "wallet", "list")
	if err != nil || len(answer["wallets"].([]any)) != 1 {
		t.Errorf("after the upgrade: %v, %v", answer, err)
	}
}

// A removal leaves everything, and so does a purge, unless somebody says that
// the wallets are to go.
func (h *host) remove(t *testing.T) {
	h.must(nil, "dpkg", "--remove", "sigild")
	if state, _ := h.try(nil, "systemctl", "is-active", "sigild.service"); strings.TrimSpace(state) == "active" {
		t.Error("the service still runs")
	}
	h.must(nil, "test", "-s", database)
	h.must(nil, "dpkg", "--purge", "sigild") // nobody is there to answer
	h.must(nil, "test", "-s", database)
	for _, step := range []struct{ what, before, answer, after string }{
		{"no", "test -s " + database, "false", "test -s " + database + " && test -s /etc/sigild/sigild.toml"},
		{"no answer, and no database any more", "rm " + database + " && touch " + database + ".schema-0.bak", "",
			"test -s /var/lib/sigild/audit.log && test -e " + database + ".schema-0.bak"},
		{"no answer, and the database lies elsewhere", "mv /var/lib/sigild /srv/kept && mkdir /var/lib/sigild", "",
			"test -s /srv/kept/audit.log && test -s /etc/sigild/sigild.toml"},
		{"no answer, and a link to it", "rmdir /var/lib/sigild && ln -s /srv/kept /var/lib/sigild", "",
			"test -s /var/lib/sigild/audit.log && test -s /etc/sigild/sigild.toml"},
		{"yes", "rm /var/lib/sigild && mv /srv/kept /var/lib/sigild && test -s /var/lib/sigild/audit.log", "true", "! test -e /var/lib/sigild && ! test -e /etc/sigild"},
		{"nothing is there to ask about", "rmdir /var/lib/sigild && mkdir /var/lib/sigild", "", "! test -e /var/lib/sigild"},
	} {
		h.must(nil, "dpkg", "-i", "/next.deb")
		h.must(nil, "dpkg", "--remove", "sigild")
		h.must(nil, "sh", "-c", step.before)
		if step.answer != "" {
			h.must(nil, "sh", "-c", "echo sigild sigild/purge-wallets boolean "+step.answer+" | debconf-set-selections")
		}
		h.must(nil, "dpkg", "--purge", "sigild")
		if out, err := h.try(nil, "sh", "-c", step.after); err != nil {
			left, _ := h.try(nil, "ls", "-la", "/var/lib/sigild", "/etc/sigild")
			t.Errorf("purged, %s: %v %s\n%s", step.what, err, out, left)
		}
	}
}

const database = "/var/lib/sigild/sigild.db"
