package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// defaultMetrics is where the packaged configuration's example listens.
const defaultMetrics = "unix:/run/sigild/metrics.sock"

// maxScrape is the most that is read of the metrics: some 50 KiB are usual.
const maxScrape = 8 << 20

// snapshot is what the metrics said at one moment.
type snapshot struct {
	at       time.Time
	families map[string]*dto.MetricFamily
}

// scrape reads the metrics at an address as metrics.listen has it.
func scrape(ctx context.Context, listen string) (*snapshot, error) {
	text, err := fetchMetrics(ctx, listen)
	if err != nil {
		return nil, err
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(string(text)))
	if err != nil {
		return nil, fmt.Errorf("the metrics at %s cannot be read: %w", listen, err)
	}
	return &snapshot{at: time.Now(), families: families}, nil
}

func fetchMetrics(ctx context.Context, listen string) ([]byte, error) {
	network, address, ok := strings.Cut(listen, ":")
	if !ok || network != "unix" && network != "tcp" {
		return nil, errors.New(`--metrics is not "unix:/path" or "tcp:HOST:PORT"`)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		}}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://sigild/metrics", nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("no metrics at %s (metrics.listen in the daemon's configuration): %w", listen, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("no metrics at %s: %s", listen, response.Status)
	}
	return io.ReadAll(io.LimitReader(response.Body, maxScrape))
}

// label gives the value of a metric's label, or "".
func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// numeric is the value of a counter or a gauge, and 0 of anything else.
func numeric(m *dto.Metric) float64 {
	return m.GetCounter().GetValue() + m.GetGauge().GetValue() + m.GetUntyped().GetValue()
}

// value is the sum of a family's counters and gauges that match.
func (s *snapshot) value(name string, match func(*dto.Metric) bool) float64 {
	sum := 0.0
	for _, m := range s.families[name].GetMetric() {
		if match == nil || match(m) {
			sum += numeric(m)
		}
	}
	return sum
}

// spread is a histogram, or the difference of two.
type spread struct {
	count  float64
	bounds []float64 // upper bounds in seconds, ascending
	below  []float64 // how many lie at or below each
}

// spreads adds up a family's histograms by a label's value.
func (s *snapshot) spreads(name, by string) map[string]*spread {
	found := map[string]*spread{}
	for _, m := range s.families[name].GetMetric() {
		key := label(m, by)
		if found[key] == nil {
			found[key] = &spread{}
		}
		found[key].add(m.GetHistogram(), 1)
	}
	return found
}

func (d *spread) add(h *dto.Histogram, sign float64) {
	d.count += sign * float64(h.GetSampleCount())
	for n, b := range h.GetBucket() {
		if n == len(d.bounds) {
			d.bounds, d.below = append(d.bounds, b.GetUpperBound()), append(d.below, 0)
		}
		d.below[n] += sign * float64(b.GetCumulativeCount())
	}
}

// since subtracts what was counted before.
func (d *spread) since(before *spread) *spread {
	if before == nil || before.count > d.count { // the daemon was restarted in between
		return d
	}
	after := &spread{count: d.count - before.count, bounds: d.bounds}
	for n, below := range d.below {
		if n < len(before.below) {
			below -= before.below[n]
		}
		after.below = append(after.below, below)
	}
	return after
}

// quantile is the upper bound of the bucket in which it lies.
func (d *spread) quantile(q float64) time.Duration {
	if d.count == 0 {
		return 0
	}
	for n, below := range d.below {
		if below >= q*d.count && !math.IsInf(d.bounds[n], 1) {
			return time.Duration(d.bounds[n] * float64(time.Second))
		}
	}
	return time.Duration(math.MaxInt64)
}
