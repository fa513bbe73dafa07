package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/ipc"
)

// The PINs of this test: longer than what would turn up in a log by chance.
const (
	secretPIN  = "Q7vR2kXw9pZ4"
	secretNew  = "M3jT8nYb5sDf"
	secretSlip = "H6gL1cWe0uVx" // sent where no PIN belongs
)

// methodNames reads the names of all methods from the wire types' source, so
// that a new one cannot be forgotten here.
func methodNames(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../../ipc/*.go")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range regexp.MustCompile(`(?m)^\s+Method\w+\s+= "(\w+)"$`).FindAllSubmatch(text, -1) {
			names = append(names, string(found[1]))
		}
	}
	if len(names) < 10 || !slices.Contains(names, ipc.MethodSignMessage) {
		t.Fatalf("methods: %v", names)
	}
	return names
}

// forms are the spellings in which a secret could get into a log.
func forms(secret []byte) [][]byte {
	upper := bytes.ToUpper([]byte(hex.EncodeToString(secret)))
	return [][]byte{secret, []byte(hex.EncodeToString(secret)), upper, []byte(base64.StdEncoding.EncodeToString(secret)),
		[]byte(base64.RawURLEncoding.EncodeToString(secret)), fmt.Appendf(nil, "%v", secret)}
}

// leaks names the secrets that a text holds.
func leaks(text []byte, secrets map[string][]byte) []string {
	var found []string
	for name, secret := range secrets {
		for _, form := range forms(secret) {
			if bytes.Contains(text, form) {
				found = append(found, name)
				break
			}
		}
	}
	return found
}

func TestLeaksAreFound(t *testing.T) {
	secrets := map[string][]byte{"pin": []byte(secretPIN)}
	for _, form := range forms([]byte(secretPIN)) {
		if len(leaks(append([]byte("msg=request x="), form...), secrets)) != 1 {
			t.Errorf("%s is not found", form)
		}
	}
}

// feed sends every method parameters that hold secrets, right and wrong, and
// lines that are no requests at all.
func feed(t *testing.T, m *measured) {
	t.Helper()
	c := m.dial()
	id := m.made.WalletID
	requests := []map[string]any{
		{"pin": secretPIN}, {"walletId": id, "pin": secretPIN}, {"walletId": id, "pin": secretSlip, "message": "0x01"},
		{"walletId": id, "pin": secretPIN, "newPin": secretNew}, {"walletId": id, "pin": []int{1}, "Pin": secretSlip},
		{"walletId": secretSlip, "pin": secretPIN}, {"owner": "bob", "requestId": "9", "pin": secretPIN, secretSlip: 1},
		{"owner": "bob", "requestId": "9", "pin": map[string]string{"value": secretSlip}},
	}
	for _, method := range methodNames(t) {
		for _, params := range requests {
			_ = c.Call(m.ctx, method, params, new(json.RawMessage)) // most are errors, and all are logged
		}
	}
	for _, line := range []string{
		secretSlip + "\n", `{"jsonrpc":"2.0","id":1,"method":"` + secretSlip[:4] + `","params":["` + secretSlip + `"]}`,
		`{"jsonrpc":"2.0","id":"` + secretSlip + `","method":"sigild_signMessage","params":[{"pin":"` + secretSlip, "{\"pin\":\"" + secretSlip + "\"}",
	} {
		conn, err := net.Dial("unix", m.Socket)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write([]byte(line))
		_ = conn.Close()
	}
}

// Whatever is sent, at the most talkative level, in either form of the log.
func TestNoSecretsInLogs(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			log := new(record)
			m := &measured{t: t, ctx: testContext(t)}
			m.Host = newHost(t, withConfig(map[string]string{"log": fmt.Sprintf("level = \"debug\"\nformat = %q", format)}),
				func(o *daemontest.Options) { o.Log, o.Progress = log.add, log.add })
			m.code = provision(t, m.Host)
			m.start()
			made, err := m.dial().CreateWallet(m.ctx, ipc.CreateWalletParams{RequestID: "1", Owner: "alice", PIN: ipc.Secret(secretPIN)})
			if err != nil {
				t.Fatal(err)
			}
			m.made = made.Wallet
			feed(t, m)
			bundle := supportBundle(t, m, log.all())
			m.stop()
			_, out, _ := m.sigild(m.code, "recover", "--code-fd", "3")
			_, wrong, _ := m.sigild(bytes.ToLower(m.code[:len(m.code)-2]), "recover", "--code-fd", "3")
			_, list, _ := m.sigild(nil, "reseal")
			m.holdsNone(log, out+wrong+list, bundle)
		})
	}
}

// supportBundle gives the files of a support bundle of a running host: with its
// own log as the journal, and with units and a configuration into which somebody
// wrote the secrets.
func supportBundle(t *testing.T, m *measured, journal []string) []byte {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.CommandContext(m.ctx, "go", "build", "-o", dir+"/sigilctl", "../sigilctl").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	config, err := os.ReadFile(m.ConfigPath())
	if err != nil {
		t.Fatal(err)
	}
	unit := "[Service]\nRestart=always\n# " + secretPIN + "\n Environment = " + secretPIN + " \\\n " + secretNew + "\n#Environment=" + string(m.TokenPIN()) +
		"\nExecStart=/usr/bin/env A=" + secretSlip + " sigild run\n"
	for _, assignment := range m.KMS.Env() {
		unit += "Environment=" + assignment + "\n"
	}
	for name, text := range map[string]string{
		"journalctl": "#!/bin/sh\ncat " + dir + "/journal\n", "systemctl": "#!/bin/sh\ncat " + dir + "/unit\n", "unit": unit,
		"journal":     strings.Join(journal, "\n") + "\n",
		"sigild.toml": strings.Replace(string(config), "[token]\n", "[token] # "+secretPIN+"\npin = \""+string(m.TokenPIN())+"\"\n", 1),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(m.ctx, dir+"/sigilctl", "--socket", m.Socket, "support-bundle", "--config", dir+"/sigild.toml", "--metrics", "unix:"+dir+"/none", dir+"/out.tar.gz")
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("support-bundle: %v\n%s", err, out)
	}
	text, err := exec.CommandContext(m.ctx, "tar", "-xzOf", dir+"/out.tar.gz").Output()
	if err != nil {
		t.Fatal(err)
	}
	mustContain(t, string(text), "sigild_signMessage", "Restart=always", "module = ", `"state": "ready"`)
	return text
}

// holdsNone looks into everything that the host wrote.
func (m *measured) holdsNone(log *record, output string, bundle []byte) {
	m.t.Helper()
	secrets := map[string][]byte{"PIN": []byte(secretPIN), "new PIN": []byte(secretNew), "stray PIN": []byte(secretSlip),
		"token PIN": m.TokenPIN(), "recovery code": m.code, "recovery code in part": m.code[:14]}
	for _, assignment := range m.KMS.Env() {
		if name, value, _ := strings.Cut(assignment, "="); name == "AWS_SECRET_ACCESS_KEY" {
			secrets["AWS secret key"] = []byte(value)
		}
	}
	written := map[string][]byte{"the log": []byte(strings.Join(log.all(), "\n")), "what commands say": []byte(output),
		"the support bundle": bundle}
	for name, path := range map[string]string{"the audit log": m.AuditLog(), "the database": m.Database()} {
		text, err := os.ReadFile(path)
		if err != nil {
			m.t.Fatal(err)
		}
		written[name] = text
	}
	if lines := log.all(); len(lines) < 50 {
		m.t.Errorf("only %d lines were logged", len(lines))
	}
	for where, text := range written {
		for _, secret := range leaks(text, secrets) {
			m.t.Errorf("%s holds the %s", where, secret)
		}
	}
}
