package metrics_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sigild/sigild/daemon/metrics"
)

func labels() metrics.Labels {
	return metrics.Labels{Version: "v1", Methods: []string{"sigild_status"}, Errors: []string{"methodNotFound", "tokenFault"},
		Conditions: []string{"tpm"}, Sources: []string{"kms"}, SourceReasons: []string{"timeout", "constant"}}
}

func filled() *metrics.Metrics {
	m := metrics.New(labels())
	m.Request("sigild_status", "ok", time.Millisecond)
	for _, s := range metrics.Stages() {
		m.Took(s, 200*time.Microsecond)
	}
	m.Charged()
	m.Checked(metrics.Failed, true)
	m.RefusedLocked()
	m.SourceFailed("kms", "timeout")
	m.Degraded("tpm", true)
	m.Ready(false)
	m.Gauge("sigild_unlocked_wallets", "Unlocked.", func() float64 { return 3 })
	m.Counter("sigild_token_sessions_opened_total", "Opened.", func() float64 { return 4 })
	return m
}

func TestLint(t *testing.T) {
	problems, err := testutil.GatherAndLint(filled().Gatherer())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// A caller who makes up method names must not make up series.
func TestUnknownMethodsShareALabel(t *testing.T) {
	m := metrics.New(labels())
	for _, method := range []string{"a", "b", "sigild_status ", ""} {
		m.Request(method, "methodNotFound", time.Millisecond)
	}
	n, err := testutil.GatherAndCount(m.Gatherer(), "sigild_request_duration_seconds")
	if err != nil || n != 2 { // and the one of sigild_status
		t.Errorf("%d series, %v, want 2", n, err)
	}
}

// Alerts on what never happened so far need its series at 0.
func TestSeriesBeginAtZero(t *testing.T) {
	want := `# HELP sigild_degraded 1 while this is wrong, as in the reasons of sigild_status.
# TYPE sigild_degraded gauge
sigild_degraded{reason="tpm"} 0
# HELP sigild_request_errors_total Requests that were answered by an error, by its reason.
# TYPE sigild_request_errors_total counter
sigild_request_errors_total{reason="methodNotFound"} %d
sigild_request_errors_total{reason="tokenFault"} 0
# HELP sigild_entropy_failures_total Creations that a source of randomness stopped.
# TYPE sigild_entropy_failures_total counter
sigild_entropy_failures_total{reason="constant",source="kms"} 0
sigild_entropy_failures_total{reason="timeout",source="kms"} 0
`
	m := metrics.New(labels())
	for n := range 2 {
		err := testutil.GatherAndCompare(m.Gatherer(), strings.NewReader(fmt.Sprintf(want, n)),
			"sigild_degraded", "sigild_request_errors_total", "sigild_entropy_failures_total")
		if err != nil {
			t.Error(err)
		}
		m.Request("sigild_status", metrics.OK, time.Millisecond)
		m.Request("x", "methodNotFound", time.Millisecond)
	}
}

// scrape gets one path over a connection of its own.
func scrape(t *testing.T, address, method, path string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func TestServe(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- filled().Serve(ctx, listener, slog.New(slog.DiscardHandler)) }()
	address := listener.Addr().String()
	code, body := scrape(t, address, http.MethodGet, "/metrics")
	for _, want := range []string{
		`sigild_stage_duration_seconds_bucket{stage="tpm",le="0.0001"} 0`,
		`sigild_stage_duration_seconds_bucket{stage="tpm",le="0.0002"} 1`,
		`sigild_entropy_failures_total{reason="timeout",source="kms"} 1`,
		`sigild_degraded{reason="tpm"} 1`, "sigild_unlocked_wallets 3", "sigild_wallet_locks_total 1",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the scrape lacks %q", want)
		}
	}
	if code != http.StatusOK {
		t.Errorf("status %d", code)
	}
	if code, _ := scrape(t, address, http.MethodPost, "/metrics"); code != http.StatusMethodNotAllowed {
		t.Errorf("POST: status %d", code)
	}
	if code, _ := scrape(t, address, http.MethodGet, "/debug/pprof/"); code != http.StatusNotFound {
		t.Errorf("another path: status %d", code)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func TestConcurrentUse(t *testing.T) {
	m := filled()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 100 {
				m.Request("sigild_status", "ok", time.Millisecond)
				m.Checked(metrics.Passed, false)
				if _, err := m.Gatherer().Gather(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}
