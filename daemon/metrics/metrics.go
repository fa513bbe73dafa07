package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Stage is a part of a request that is timed on its own.
type Stage string

// The stages. Queue is the wait for a turn, for a free PIN check and for the
// changes before one's own; PIN is the stretching; Token and TPM are calls into
// the devices, of which several changes may share one; Store and Audit include
// their fsync.
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
	errors   *prometheus.CounterVec
	stages   *prometheus.HistogramVec
	checks   *prometheus.CounterVec
	charges  prometheus.Counter
	locks    prometheus.Counter
	refusals prometheus.Counter
	sources  *prometheus.CounterVec
	degraded *prometheus.GaugeVec
	ready    prometheus.Gauge
}

// Labels are the values that labels may have.
type Labels struct {
	Version string
	// Methods that exist; anything else that a caller writes is "other".
	Methods []string
	// Errors are the reasons that a caller can get.
	Errors []string
	// Conditions are what can be wrong.
	Conditions []string
	// Sources of randomness, and why one may be refused.
	Sources, SourceReasons []string
}

// New makes an empty set.
func New(l Labels) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), methods: map[string]bool{}}
	for _, name := range l.Methods {
		m.methods[name] = true
	}
	m.requests = histogram("sigild_request_duration_seconds", "Time from a request's decoding to its answer.", "method", "result")
	m.errors = counters("sigild_request_errors_total", "Requests that were answered by an error, by its reason.", "reason")
	m.stages = histogram("sigild_stage_duration_seconds", "Time of one step of a request, by the part that took it.", "stage")
	m.checks = counters("sigild_pin_checks_total", "PIN checks, by how they ended.", "result")
	m.charges = counter("sigild_pin_charges_total", "Attempts charged on disk before a PIN was checked.")
	m.locks = counter("sigild_wallet_locks_total", "Wallets that a wrong PIN locked.")
	m.refusals = counter("sigild_locked_refusals_total", "PIN checks refused because no attempt was left.")
	m.sources = counters("sigild_entropy_failures_total", "Creations that a source of randomness stopped.", "source", "reason")
	m.degraded = gauges("sigild_degraded", "1 while this is wrong, as in the reasons of sigild_status.", "reason")
	m.ready = gauge("sigild_ready", "1 while wallets can be used: sigild_status says ready or degraded, not failing.")
	build := gauges("sigild_build_info", "1; the version is in the label.", "version")
	build.WithLabelValues(l.Version).Set(1)
	m.registry.MustRegister(m.requests, m.errors, m.stages, m.checks, m.charges, m.locks, m.refusals, m.sources, m.degraded, m.ready, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.begin(l)
	return m
}

// begin makes the series of all that alerts look for: increase() does not see
// the first event of a series that it begins.
func (m *Metrics) begin(l Labels) {
	for _, s := range Stages() {
		m.stages.WithLabelValues(string(s))
	}
	for _, method := range l.Methods {
		m.requests.WithLabelValues(method, OK)
	}
	for _, reason := range l.Errors {
		m.errors.WithLabelValues(reason)
	}
	for _, c := range l.Conditions {
		m.Degraded(c, false)
	}
	for _, s := range l.Sources {
		for _, reason := range l.SourceReasons {
			m.sources.WithLabelValues(s, reason)
		}
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

// OK is the result of a request that was answered without an error.
const OK = "ok"

// Request counts an answered request; result is OK or the error's reason.
func (m *Metrics) Request(method, result string, took time.Duration) {
	m.requests.WithLabelValues(m.Method(method), result).Observe(took.Seconds())
	if result != OK {
		m.errors.WithLabelValues(result).Inc()
	}
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

// Degraded says whether something is wrong now.
func (m *Metrics) Degraded(reason string, is bool) {
	m.degraded.WithLabelValues(reason).Set(number(is))
}

// Ready says whether wallets can be used now.
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
