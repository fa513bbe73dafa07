package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"time"

	"github.com/sigild/sigild/daemon/entropy"
	"github.com/sigild/sigild/daemon/guard"
	"github.com/sigild/sigild/daemon/metrics"
	"github.com/sigild/sigild/daemon/wallet"
	"github.com/sigild/sigild/ipc"
)

// openMetrics makes the set of metrics, before anything that is counted.
func (d *Daemon) openMetrics() {
	d.metrics = metrics.New(d.metricLabels())
	d.metrics.Counter("sigild_token_sessions_opened_total", "PKCS#11 sessions opened.",
		func() float64 { return float64(d.lines.token.Stats().Opened) })
	d.metrics.Counter("sigild_token_sessions_closed_total", "PKCS#11 sessions closed, most of them after a failure.",
		func() float64 { return float64(d.lines.token.Stats().Closed) })
	d.metrics.Counter("sigild_token_sessions_replaced_total", "PKCS#11 sessions opened in the place of one that failed or was lost.",
		func() float64 { return float64(d.lines.token.Stats().Replaced) })
	d.metrics.Gauge("sigild_token_sessions_open", "PKCS#11 sessions that are open.",
		func() float64 { s := d.lines.token.Stats(); return float64(s.Opened - s.Closed) })
	d.metrics.Gauge("sigild_unlocked_wallets", "Wallets whose keys stay in the token by an unlock.",
		func() float64 { return float64(d.wallets.Unlocks()) })
	d.metrics.Gauge("sigild_unlocked_wallets_limit", "How many wallets may be unlocked at a time.",
		func() float64 { return float64(d.config.Limits.Unlocks) })
	d.metrics.Gauge("sigild_unlocked_wallets_of_one_uid", "Unlocked wallets of the uid that has most of them.",
		func() float64 { return float64(d.wallets.UnlocksOfOne()) })
	d.metrics.Gauge("sigild_unlocked_wallets_of_one_uid_limit", "How many wallets of one uid may be unlocked at a time.",
		func() float64 { return float64(d.config.Limits.UnlocksOfUID()) })
	d.anchorMetrics()
}

// metricLabels are the values that labels may have, all of them known beforehand.
func (d *Daemon) metricLabels() metrics.Labels {
	l := metrics.Labels{Version: d.options.Version, Methods: slices.Collect(maps.Keys(d.methods())), Sources: d.config.Sources()}
	for _, a := range advices() {
		l.Errors = append(l.Errors, a.reason)
	}
	for _, c := range conditions() {
		l.Conditions = append(l.Conditions, c.reason)
	}
	for _, r := range entropy.Reasons() {
		l.SourceReasons = append(l.SourceReasons, r.String())
	}
	return l
}

// orderlyFlush is how many steps of an orderly counter known TPMs take between
// two writes to flash.
const orderlyFlush = 256

// anchorMetrics tell of the TPM's counters; before the database was compared
// with them all are 0.
func (d *Daemon) anchorMetrics() {
	anchored := func(value func(*guard.Status) float64) func() float64 {
		return func() float64 {
			if s := d.guarded.status(); s != nil {
				return value(s)
			}
			return 0
		}
	}
	d.metrics.Counter("sigild_anchor_steps_total", "Steps of the TPM's counter by this process.",
		anchored(func(s *guard.Status) float64 { return float64(s.Increments) }))
	d.metrics.Gauge("sigild_anchor_value", "Value of the TPM's counter that anchors the database.",
		anchored(func(s *guard.Status) float64 { return float64(s.Counter) }))
	d.metrics.Gauge("sigild_anchor_flash_writes", "Writes to the TPM's flash that the counter's value stands for, about.",
		anchored(func(s *guard.Status) float64 {
			if s.Orderly {
				return float64(s.Counter) / orderlyFlush
			}
			return float64(s.Counter)
		}))
	d.metrics.Gauge("sigild_anchor_unclean_starts", "Starts after a power cut since an operator acknowledged; 3 are allowed.",
		anchored(func(s *guard.Status) float64 { return float64(s.Unclean) }))
}

// meter puts the clocks around the service's parts.
func (d *Daemon) meter(c wallet.Config) wallet.Config {
	c.Token, c.Store = meteredToken{c.Token, d.metrics}, meteredStore{c.Store, d.metrics}
	c.Guard, c.Audit = meteredGuard{c.Guard, d.metrics}, meteredAudit{c.Audit, d.metrics}
	c.Entropy = meteredEntropy{c.Entropy, d.metrics}
	c.Observe = func(s wallet.Stage, took time.Duration) { d.metrics.Took(metrics.Stage(s), took) }
	return c
}

// countRequest is the part of logRequest that is for the metrics.
func (d *Daemon) countRequest(r ipc.RequestInfo) {
	result := metrics.OK
	if r.Err != nil {
		if result = ipc.ReasonOf(r.Err); result == "" {
			result = ipc.ReasonInternal
		}
	}
	d.metrics.Request(r.Method, result, r.Duration)
}

// observed keeps in the metrics which conditions hold.
func (d *Daemon) observed(found []finding) {
	holds := map[string]bool{}
	for _, f := range found {
		holds[f.reason] = true
	}
	for _, c := range conditions() {
		d.metrics.Degraded(c.reason, holds[c.reason])
	}
	d.metrics.Ready(stateOf(found) != stateFailing)
}

// serveMetrics answers scrapes until ctx ends, where the configuration wants it.
func (d *Daemon) serveMetrics(ctx context.Context) error {
	listener, err := d.listenMetrics()
	if err != nil || listener == nil {
		return err
	}
	d.log.Info("metrics", "listen", d.config.Metrics.Listen)
	return d.metrics.Serve(ctx, listener, d.log)
}

func (d *Daemon) listenMetrics() (net.Listener, error) {
	c := d.config.Metrics
	network, address := c.Address()
	switch network {
	case "":
		return nil, nil
	case "tcp":
		return net.Listen(network, address)
	}
	gid, err := groupID("metrics.group", c.Group)
	if err != nil {
		return nil, err
	}
	l, err := ipc.Listen(address, c.FileMode(), gid)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return l, nil
}

// observe runs what watches the daemon, next to the socket, until ctx ends. A
// listener for metrics that fails is no reason to stop signing.
func (d *Daemon) observe(ctx context.Context) {
	if err := d.serveMetrics(ctx); err != nil && !errors.Is(err, net.ErrClosed) {
		d.log.Error("metrics are not served", "error", err)
	}
}
