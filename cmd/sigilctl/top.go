package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/spf13/cobra"
)

// figures are what top shows: what happened between two moments.
type figures struct {
	Ready    bool           `json:"ready"`
	Failing  []string       `json:"failing"`
	Requests []methodFigure `json:"requests"`
	Stages   []stageFigure  `json:"stages"`
	Passed   float64        `json:"pinsPassed"`
	Failed   float64        `json:"pinsFailed"`
	Sessions float64        `json:"tokenSessions"`
	Unlocked float64        `json:"unlockedWallets"`
}

type methodFigure struct {
	Method string  `json:"method"`
	Rate   float64 `json:"perSecond"`
	Errors float64 `json:"errorsPerSecond"`
	P50    float64 `json:"p50Seconds"`
	P99    float64 `json:"p99Seconds"`
}

type stageFigure struct {
	Stage string  `json:"stage"`
	Rate  float64 `json:"perSecond"`
	P50   float64 `json:"p50Seconds"`
	P99   float64 `json:"p99Seconds"`
}

func (a *app) topCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "top",
		Short: "Show what the daemon does now: requests, latencies by stage, PINs",
		Long: "Reads the daemon's metrics twice and shows what happened in between, again and again until it is\n" +
			"interrupted. Latencies are upper bounds of the buckets in which they lie.",
		Args: arguments(),
	}
	listen := c.Flags().String("metrics", defaultMetrics, "where the daemon's metrics are: unix:/path or tcp:HOST:PORT")
	every := c.Flags().Duration("every", 2*time.Second, "time between two looks")
	once := c.Flags().Bool("once", false, "show one interval and end")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *every < 100*time.Millisecond {
			return usage(c, "--every must be at least 100ms")
		}
		return a.top(c.Context(), *listen, *every, *once)
	}
	return c
}

func (a *app) top(ctx context.Context, listen string, every time.Duration, once bool) error {
	before, err := scrape(ctx, listen)
	if err != nil {
		return fail(exitUnavailable, reasonUnreachable, "set metrics.listen in the daemon's configuration", "%v", err)
	}
	turn := time.NewTicker(every)
	defer turn.Stop()
	for {
		select {
		case <-turn.C:
		case <-ctx.Done():
			return nil
		}
		now, err := scrape(ctx, listen)
		if err != nil {
			return fail(exitUnavailable, reasonUnreachable, "", "%v", err)
		}
		if err := a.showFigures(between(before, now), once); err != nil || once {
			return err
		}
		before = now
	}
}

func (a *app) showFigures(f *figures, once bool) error {
	raw, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return a.print(raw, func() string {
		if once {
			return f.text()
		}
		return "\x1b[H\x1b[2J" + f.text() // a fresh screen
	})
}

// between computes what happened from one snapshot to the next.
func between(before, now *snapshot) *figures {
	seconds := now.at.Sub(before.at).Seconds()
	f := &figures{Ready: now.value("sigild_ready", nil) == 1, Failing: []string{},
		Sessions: now.value("sigild_token_sessions_open", nil), Unlocked: now.value("sigild_unlocked_wallets", nil)}
	for _, m := range now.families["sigild_degraded"].GetMetric() {
		if numeric(m) == 1 {
			f.Failing = append(f.Failing, label(m, "reason"))
		}
	}
	f.Passed, f.Failed = checks(before, now, "passed"), checks(before, now, "failed")
	f.Requests, f.Stages = methodFigures(before, now, seconds), stageFigures(before, now, seconds)
	return f
}

func checks(before, now *snapshot, result string) float64 {
	match := func(m *dto.Metric) bool { return label(m, "result") == result }
	const name = "sigild_pin_checks_total"
	return max(now.value(name, match)-before.value(name, match), 0)
}

func methodFigures(before, now *snapshot, seconds float64) []methodFigure {
	const name = "sigild_request_duration_seconds"
	old, list := before.spreads(name, "method"), []methodFigure{}
	current := now.spreads(name, "method")
	wrong := errorCounts(now, name)
	for method, count := range errorCounts(before, name) {
		wrong[method] = max(wrong[method]-count, 0)
	}
	for _, method := range slices.Sorted(maps.Keys(current)) {
		d := current[method].since(old[method])
		if d.count > 0 {
			list = append(list, methodFigure{method, d.count / seconds, wrong[method] / seconds, inSeconds(d.quantile(0.5)), inSeconds(d.quantile(0.99))})
		}
	}
	return list
}

// errorCounts counts the requests of each method that were not answered "ok".
func errorCounts(s *snapshot, name string) map[string]float64 {
	counts := map[string]float64{}
	for _, m := range s.families[name].GetMetric() {
		if label(m, "result") != "ok" {
			counts[label(m, "method")] += float64(m.GetHistogram().GetSampleCount())
		}
	}
	return counts
}

func stageFigures(before, now *snapshot, seconds float64) []stageFigure {
	const name = "sigild_stage_duration_seconds"
	old, current, list := before.spreads(name, "stage"), now.spreads(name, "stage"), []stageFigure{}
	for _, stage := range slices.Sorted(maps.Keys(current)) {
		if d := current[stage].since(old[stage]); d.count > 0 {
			list = append(list, stageFigure{stage, d.count / seconds, inSeconds(d.quantile(0.5)), inSeconds(d.quantile(0.99))})
		}
	}
	return list
}

// inSeconds keeps a quantile beyond the last bucket as a number that JSON has.
func inSeconds(d time.Duration) float64 {
	if d == time.Duration(math.MaxInt64) {
		return math.MaxInt32
	}
	return d.Seconds()
}

func (f *figures) text() string {
	state := "ready"
	if !f.Ready {
		state = "NOT READY: " + strings.Join(f.Failing, ", ")
	}
	rows := [][]string{{"METHOD", "/S", "ERRORS/S", "P50", "P99"}}
	for _, m := range f.Requests {
		rows = append(rows, []string{m.Method, perSecond(m.Rate), perSecond(m.Errors), latency(m.P50), latency(m.P99)})
	}
	stages := [][]string{{"STAGE", "/S", "P50", "P99"}}
	for _, s := range f.Stages {
		stages = append(stages, []string{s.Stage, perSecond(s.Rate), latency(s.P50), latency(s.P99)})
	}
	return fmt.Sprintf("sigild %s   PINs right %.0f, wrong %.0f   token sessions %.0f   unlocked wallets %.0f\n\n%s\n%s",
		plain(state), f.Passed, f.Failed, f.Sessions, f.Unlocked, table(rows), table(stages))
}

func perSecond(n float64) string { return fmt.Sprintf("%.1f", n) }

func latency(seconds float64) string {
	if seconds >= math.MaxInt32 {
		return "> 26s"
	}
	return (time.Duration(seconds * float64(time.Second))).String()
}
