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
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/ipc"
)

const monitoring = "../../systemd/monitoring/"

// newMonitored is a running host with a metrics socket, and what scrapes it.
func newMonitored(t *testing.T) (*measured, func() string) {
	t.Helper()
	m := newDevices(t, daemontest.Options{})
	scrape := monitored(t, m.Host)
	m.prepare()
	m.start()
	return m, scrape
}

// monitored gives a host a metrics socket, and what scrapes it while sigild runs.
func monitored(t *testing.T, h *daemontest.Host) func() string {
	t.Helper()
	path := filepath.Join(h.Dir, "metrics.sock")
	h.Config["metrics"] = `listen = "unix:` + path + `"`
	if err := h.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	return func() string {
		t.Helper()
		await(t, "the metrics", func() bool {
			c, err := dial(t.Context(), "", "")
			return err == nil && c.Close() == nil
		})
		return scrapeBy(t, client)
	}
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
		`sigild_request_errors_total{reason="wrongPin"} 1`, `sigild_request_errors_total{reason="tokenFault"} 0`,
		`sigild_stage_duration_seconds_count{stage="pin"} 2`, `sigild_stage_duration_seconds_count{stage="policy"} 2`,
		"sigild_ready 1", `sigild_degraded{reason="tokenProbe"} 0`, "sigild_unlocked_wallets 0",
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("the scrape lacks %q", want)
		}
	}
	for _, stage := range []string{"queue", "token", "tpm", "store", "audit"} {
		if strings.Contains(text, `sigild_stage_duration_seconds_count{stage="`+stage+`"} 0`) {
			t.Errorf("the stage %s was not timed", stage)
		}
	}
	everyReasonHasAnAlert(t, text)
	m.stop()
}

// selector is a metric with the values that are wanted of its labels.
var selector = regexp.MustCompile(`\b(sigild_[a-z_]+)(?:\{([^}]*)\})?`)

// wanted is one label's value, or several of them as alternatives.
var wanted = regexp.MustCompile(`(\w+)=~?\\?"([^"\\$]+)\\?"`)

// Rules and dashboard ask for metrics, and for values of labels, that a sigild
// has before anything happened: increase() is blind to a series' first value.
func TestRulesAskForWhatIsThere(t *testing.T) {
	m, scrape := newMonitored(t)
	text := scrape()
	m.stop()
	known, asked := names(text), 0
	for _, file := range []string{"top.go", "top_test.go"} { // what `sigilctl top` reads
		asks, err := os.ReadFile("../sigilctl/" + file)
		if err != nil {
			t.Fatal(err)
		}
		for name := range names(string(asks)) {
			if !known[name] && !known[series(name)] {
				t.Errorf("%s reads %s, which sigild does not have", file, name)
			}
		}
	}
	for _, file := range []string{"sigild.rules.yml", "sigild.dashboard.json"} {
		asks, err := os.ReadFile(monitoring + file)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range selector.FindAllStringSubmatch(string(asks), -1) {
			if !known[s[1]] && !known[series(s[1])] {
				t.Errorf("%s asks for %s, which sigild does not have", file, s[1])
			}
			for _, label := range wanted.FindAllStringSubmatch(s[2], -1) {
				for value := range strings.SplitSeq(label[2], "|") {
					asked++
					if has := regexp.MustCompile(`(?m)^` + s[1] + `\{(.*,)?` + label[1] + `="` + value + `"`); !has.MatchString(text) {
						t.Errorf("%s asks for %s with %s=%q, which a sigild that just started does not have", file, s[1], label[1], value)
					}
				}
			}
		}
	}
	if asked < 30 {
		t.Errorf("only %d values of labels were found in the rules", asked)
	}
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

// promtool comes with Prometheus and is not everywhere; in CI it must be.
func TestRulesPassPromtool(t *testing.T) {
	program, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("promtool is not installed: testdata/install-deps does that in CI")
		}
		t.Log("promtool is not installed: the rules are neither parsed nor tried out")
		return
	}
	for _, args := range [][]string{{"check", "rules", monitoring + "sigild.rules.yml"}, {"test", "rules", "../../systemd/testdata/alerts.yml"}} {
		if out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
}

// The time of a change is booked to what took it: the TPM's counter and the
// token's MAC are no part of the disk's time.
func TestLatencyIsBookedWhereItArises(t *testing.T) {
	h := newFaultHost(t)
	scrape := monitored(t, h.Host)
	start(t, h.Host)
	c := dial(t, h.Socket)
	w := create(t, c, "1").WalletID
	slow := 300 * time.Millisecond
	if raceDetector || loaded() {
		slow *= 2 // and so the disk has more time
	}
	spent := func(stage string) float64 {
		found := regexp.MustCompile(`(?m)^sigild_stage_duration_seconds_sum\{stage="` + stage + `"\} (\S+)$`).FindStringSubmatch(scrape())
		if found == nil {
			t.Fatalf("no time of the stage %s", stage)
		}
		seconds, err := strconv.ParseFloat(found[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		return seconds
	}
	for stage, delay := range map[string]struct{ begin, end func() }{
		"tpm": {func() {
			h.tap.Watch(func(code uint32) {
				if tpm2.TPMCC(code) == tpm2.TPMCCNVIncrement {
					<-time.After(slow)
				}
			})
		}, func() { h.tap.Watch(nil) }},
		"token": {func() { h.token.Slow("C_Sign", slow) }, func() { h.token.Clear("C_Sign") }},
	} {
		delay.begin()
		before := map[string]float64{}
		for _, s := range []string{"tpm", "token", "store"} {
			before[s] = spent(s)
		}
		if _, err := tryPIN(t, c, w, rightPIN); err != nil {
			t.Fatal(err)
		}
		delay.end()
		if took := spent(stage) - before[stage]; took < slow.Seconds() {
			t.Errorf("a slow %s: %.3f s were booked to it", stage, took)
		}
		if took := spent("store") - before["store"]; took >= slow.Seconds() {
			t.Errorf("a slow %s: %.3f s were booked to the disk", stage, took)
		}
	}
}
