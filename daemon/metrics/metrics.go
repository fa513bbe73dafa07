package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Stage is a part of a request that is timed on its own.
type Stage string

// The stages. Queue is the wait for a turn and for a free PIN check; PIN is the
// stretching; Store and Audit include their fsync.
const (
	Queue  Stage = "queue"
	PIN    Stage = "pin"
	Policy Stage = "policy"
	Token  Stage = "token"
	TPM    Stage = "tpm"
	Store  Stage = "store"
	Audit  Stage = "audit"
)

// Stages lists them.
func Stages() []Stage { return []Stage{Queue, PIN, Policy, Token, TPM, Store, Audit} }

// Check is how one charged PIN check ended.
type Check string

// The outcomes. A voided check gave its attempt back, because a device failed.
const (
	Passed Check = "passed"
	Failed Check = "failed"
	Voided Check = "voided"
)

// buckets run from 0.1 ms to 26 s.
func buckets() []float64 { return prometheus.ExponentialBuckets(0.0001, 2, 19) }

// Metrics is one daemon's set. It is safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	methods  map[string]bool

	requests *prometheus.HistogramVec
	stages   *prometheus.HistogramVec
	checks   *prometheus.CounterVec
	charges  prometheus.Counter
	locks    prometheus.Counter
	refusals prometheus.Counter
	sources  *prometheus.CounterVec
	degraded *prometheus.GaugeVec
	ready    prometheus.Gauge
}

// New makes an empty set. Only the named methods become label values; anything
// else that a caller writes is "other". Sources are those of randomness.
func New(version string, methods, sources []string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), methods: map[string]bool{}}
	for _, name := range methods {
		m.methods[name] = true
	}
	m.requests = histogram("sigild_request_duration_seconds", "Time from a request's decoding to its answer.", "method", "result")
	m.stages = histogram("sigild_stage_duration_seconds", "Time of one step of a request, by the part that took it.", "stage")
	m.checks = counters("sigild_pin_checks_total", "PIN checks, by how they ended.", "result")
	m.charges = counter("sigild_pin_charges_total", "Attempts charged on disk before a PIN was checked.")
	m.locks = counter("sigild_wallet_locks_total", "Wallets that a wrong PIN locked.")
	m.refusals = counter("sigild_locked_refusals_total", "PIN checks refused because no attempt was left.")
	m.sources = counters("sigild_entropy_failures_total", "Creations that a source of randomness stopped.", "source", "reason")
	m.degraded = gauges("sigild_degraded", "1 while this part fails its probe.", "reason")
	m.ready = gauge("sigild_ready", "1 while every probe passes.")
	build := gauges("sigild_build_info", "1; the version is in the label.", "version")
	build.WithLabelValues(version).Set(1)
	m.registry.MustRegister(m.requests, m.stages, m.checks, m.charges, m.locks, m.refusals, m.sources, m.degraded, m.ready, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.begin(sources)
	return m
}

// begin makes the series whose absence would look like health.
func (m *Metrics) begin(sources []string) {
	for _, s := range Stages() {
		m.stages.WithLabelValues(string(s))
	}
	for _, s := range sources {
		m.sources.WithLabelValues(s, "failed")
		m.sources.WithLabelValues(s, "timeout")
	}
	for _, c := range []Check{Passed, Failed, Voided} {
		m.checks.WithLabelValues(string(c))
	}
}

func histogram(name, help string, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets()}, labels)
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
}

func gauges(name, help string, labels ...string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
}

func gauge(name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
}

// Request counts an answered request; result is "ok" or the error's reason.
func (m *Metrics) Request(method, result string, took time.Duration) {
	m.requests.WithLabelValues(m.Method(method), result).Observe(took.Seconds())
}

// Method gives back the name of a method that exists, and "other" for whatever
// else a caller wrote.
func (m *Metrics) Method(name string) string {
	if m.methods[name] {
		return name
	}
	return "other"
}

// Took counts one step of a stage.
func (m *Metrics) Took(s Stage, took time.Duration) {
	m.stages.WithLabelValues(string(s)).Observe(took.Seconds())
}

// Charged counts an attempt that was charged.
func (m *Metrics) Charged() { m.charges.Inc() }

// Checked counts the end of a charged check; locked says that it was the last.
func (m *Metrics) Checked(c Check, locked bool) {
	m.checks.WithLabelValues(string(c)).Inc()
	if locked {
		m.locks.Inc()
	}
}

// RefusedLocked counts a check that a locked wallet did not get.
func (m *Metrics) RefusedLocked() { m.refusals.Inc() }

// SourceFailed counts a creation that a source of randomness stopped.
func (m *Metrics) SourceFailed(source, reason string) {
	m.sources.WithLabelValues(source, reason).Inc()
}

// Degraded says whether a part fails now.
func (m *Metrics) Degraded(reason string, is bool) {
	m.degraded.WithLabelValues(reason).Set(number(is))
}

// Ready says whether every part works now.
func (m *Metrics) Ready(is bool) { m.ready.Set(number(is)) }

func number(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// Gauge adds a value that is read at each scrape.
func (m *Metrics) Gauge(name, help string, value func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
}

// Counter adds a count that is read at each scrape.
func (m *Metrics) Counter(name, help string, value func() float64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, value))
}
