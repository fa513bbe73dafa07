package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/ipc"
)

const monitoring = "../../systemd/monitoring/"

// newMonitored is a running host with a metrics socket, and what scrapes it.
func newMonitored(t *testing.T) (*measured, func() string) {
	t.Helper()
	config := map[string]string{}
	m := newDevices(t, daemontest.Options{Config: config})
	path := filepath.Join(m.Dir, "metrics.sock")
	config["metrics"] = `listen = "unix:` + path + `"`
	if err := m.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	m.prepare()
	m.start()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	return m, func() string { return scrapeBy(t, client) }
}

// scrapeBy gives the metrics as they are now.
func scrapeBy(t *testing.T, client *http.Client) string {
	t.Helper()
	response, err := client.Get("http://sigild/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("scrape: status %d, %v", response.StatusCode, err)
	}
	return string(body)
}

func (m *measured) sign(pin string) error {
	_, err := m.dial().SignMessage(m.ctx, ipc.SignMessageParams{WalletID: m.made.WalletID,
		Message: ipc.Hex("hello"), PIN: ipc.Secret(pin)})
	return err
}

func TestMetricsOfRealRequests(t *testing.T) {
	m, scrape := newMonitored(t)
	if err := m.sign(testPIN); err != nil {
		t.Fatal(err)
	}
	if err := m.sign("739105"); ipc.ReasonOf(err) != "wrongPin" {
		t.Fatal(err)
	}
	text := scrape()
	for _, want := range []string{
		`sigild_request_duration_seconds_count{method="sigild_signMessage",result="ok"} 1`,
		`sigild_request_duration_seconds_count{method="sigild_signMessage",result="wrongPin"} 1`,
		"sigild_pin_charges_total 2", `sigild_pin_checks_total{result="passed"} 1`, `sigild_pin_checks_total{result="failed"} 1`,
		`sigild_stage_duration_seconds_count{stage="pin"} 2`, `sigild_stage_duration_seconds_count{stage="tpm"} 2`,
		`sigild_stage_duration_seconds_count{stage="policy"} 2`, `sigild_stage_duration_seconds_count{stage="queue"} 4`,
		"sigild_ready 1", `sigild_degraded{reason="token"} 0`, "sigild_unlocked_wallets 0",
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("the scrape lacks %q", want)
		}
	}
	for _, stage := range []string{"token", "store", "audit"} {
		if strings.Contains(text, `sigild_stage_duration_seconds_count{stage="`+stage+`"} 0`) {
			t.Errorf("the stage %s was not timed", stage)
		}
	}
	known := names(text)
	for _, file := range []string{"sigild.rules.yml", "sigild.dashboard.json"} {
		asks, err := os.ReadFile(monitoring + file)
		if err != nil {
			t.Fatal(err)
		}
		for name := range names(string(asks)) {
			if !known[name] && !known[series(name)] {
				t.Errorf("%s asks for %s, which sigild does not have", file, name)
			}
		}
	}
	everyReasonHasAnAlert(t, text)
	m.stop()
}

// everyReasonHasAnAlert wants a rule for each reason for which sigild can be
// degraded.
func everyReasonHasAnAlert(t *testing.T, text string) {
	t.Helper()
	rules, err := os.ReadFile(monitoring + "sigild.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	reasons := regexp.MustCompile(`sigild_degraded\{(reason="\w+")\}`).FindAllStringSubmatch(text, -1)
	if len(reasons) < 10 {
		t.Errorf("%d reasons", len(reasons))
	}
	for _, r := range reasons {
		if !strings.Contains(string(rules), "sigild_degraded{"+r[1]+"}") {
			t.Errorf("no alert for %s", r[1])
		}
	}
}

// names are the metrics in a text, with the suffixes of histograms.
func names(text string) map[string]bool {
	found := map[string]bool{}
	for _, name := range regexp.MustCompile(`\bsigild_[a-z_]+\b`).FindAllString(text, -1) {
		if !strings.HasPrefix(name, "sigild_sign") && name != "sigild_status" {
			found[name] = true
		}
	}
	return found
}

// series takes a histogram's suffix off; a metric without a value yet shows its
// HELP line only.
func series(name string) string {
	for _, suffix := range []string{"_bucket", "_count", "_sum"} {
		name = strings.TrimSuffix(name, suffix)
	}
	return name
}

var alert = regexp.MustCompile(`(?m)^ +- alert: (\w+)$`)

// An alert that nobody knows what to do about wakes somebody for nothing.
func TestEveryAlertIsInTheRunbook(t *testing.T) {
	rules, err := os.ReadFile(monitoring + "sigild.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	book, err := os.ReadFile("../../docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	alerts := alert.FindAllSubmatch(rules, -1)
	if len(alerts) < 10 {
		t.Fatalf("%d alerts", len(alerts))
	}
	for _, a := range alerts {
		if !strings.Contains(string(book), "\n### "+string(a[1])+"\n") {
			t.Errorf("docs/runbook.md has no section %s", a[1])
		}
	}
}

func TestDashboardIsJSON(t *testing.T) {
	text, err := os.ReadFile(monitoring + "sigild.dashboard.json")
	if err != nil || !json.Valid(text) {
		t.Fatalf("the dashboard is not JSON (%v)", err)
	}
}

// promtool comes with Prometheus and is not everywhere.
func TestRulesPassPromtool(t *testing.T) {
	program, err := exec.LookPath("promtool")
	if err != nil {
		t.Log("promtool is not installed: the rules' expressions are not parsed")
		return
	}
	if out, err := exec.CommandContext(t.Context(), program, "check", "rules", monitoring+"sigild.rules.yml").CombinedOutput(); err != nil {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}
