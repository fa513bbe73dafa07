package main_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
)

// scraped is what a daemon says before and after ten signatures, of which two
// met a wrong PIN; eight took under 2 ms.
var scraped = [2]string{`
sigild_ready 1
sigild_degraded{reason="tpmAway"} 0
sigild_pin_checks_total{result="passed"} 100
sigild_pin_checks_total{result="failed"} 7
# TYPE sigild_request_duration_seconds histogram
sigild_request_duration_seconds_bucket{method="sigild_signMessage",result="ok",le="0.002"} 100
sigild_request_duration_seconds_bucket{method="sigild_signMessage",result="ok",le="0.5"} 100
sigild_request_duration_seconds_bucket{method="sigild_signMessage",result="ok",le="+Inf"} 100
sigild_request_duration_seconds_count{method="sigild_signMessage",result="ok"} 100
sigild_request_duration_seconds_sum{method="sigild_signMessage",result="ok"} 1
`, `
sigild_ready 0
sigild_degraded{reason="tpmAway"} 1
sigild_pin_checks_total{result="passed"} 108
sigild_pin_checks_total{result="failed"} 9
sigild_token_sessions_open 4
# TYPE sigild_request_duration_seconds histogram
sigild_request_duration_seconds_bucket{method="sigild_signMessage",result="ok",le="0.002"} 108
sigild_request_duration_seconds_bucket{method="sigild_signMessage",result="ok",le="0.5"} 108
sigild_request_duration_seconds_bucket{method="sigild_signMessage",result="ok",le="+Inf"} 108
sigild_request_duration_seconds_count{method="sigild_signMessage",result="ok"} 108
sigild_request_duration_seconds_sum{method="sigild_signMessage",result="ok"} 1
sigild_request_duration_seconds_bucket{method="sigild_signMessage",result="wrongPin",le="0.002"} 0
sigild_request_duration_seconds_bucket{method="sigild_signMessage",result="wrongPin",le="0.5"} 2
sigild_request_duration_seconds_bucket{method="sigild_signMessage",result="wrongPin",le="+Inf"} 2
sigild_request_duration_seconds_count{method="sigild_signMessage",result="wrongPin"} 2
sigild_request_duration_seconds_sum{method="sigild_signMessage",result="wrongPin"} 1
`}

// runTop runs sigilctl top once against a daemon that says this.
func runTop(t *testing.T, says [2]string, args ...string) (string, error) {
	t.Helper()
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(strings.TrimPrefix(says[min(asked.Add(1)-1, 1)], "\n")))
	}))
	defer server.Close()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := t.TempDir() + "/sigilctl"
	if err := os.Symlink(binary, program); err != nil { // what testscript.Main goes by
		t.Fatal(err)
	}
	address := "tcp:" + strings.TrimPrefix(server.URL, "http://")
	cmd := exec.CommandContext(t.Context(), program, append([]string{"top", "--once", "--every", "100ms", "--metrics", address}, args...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	return out.String(), err
}

func TestTop(t *testing.T) {
	out, err := runTop(t, scraped)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{"NOT READY: tpmAway", "PINs right 8, wrong 2", "token sessions 4", "sigild_signMessage", "2ms", "500ms"} {
		if !strings.Contains(out, want) {
			t.Errorf("top does not show %q:\n%s", want, out)
		}
	}
}

func TestTopAsJSON(t *testing.T) {
	out, err := runTop(t, scraped, "--json")
	var f struct {
		Failing  []string
		Requests []struct{ P50Seconds, P99Seconds, PerSecond, ErrorsPerSecond float64 }
	}
	if err != nil || json.Unmarshal([]byte(out), &f) != nil || len(f.Requests) != 1 || len(f.Failing) != 1 {
		t.Fatalf("%v: %s", err, out)
	}
	if r := f.Requests[0]; r.P50Seconds != 0.002 || r.P99Seconds != 0.5 || r.PerSecond < 4*r.ErrorsPerSecond || r.ErrorsPerSecond <= 0 {
		t.Errorf("%+v", r)
	}
}

// After a restart the daemon counts from zero: what it shows is not negative.
func TestTopOverARestart(t *testing.T) {
	out, err := runTop(t, [2]string{scraped[1], scraped[0]})
	if err != nil || strings.Contains(out, "-") || !strings.Contains(out, "sigild ready") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestTopWithoutMetrics(t *testing.T) {
	out, err := runTop(t, [2]string{"", ""}, "--metrics", "unix:"+t.TempDir()+"/none")
	if err == nil || !strings.Contains(out, "metrics.listen") {
		t.Errorf("%v: %s", err, out)
	}
}
