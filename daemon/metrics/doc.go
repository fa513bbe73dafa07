// Package metrics keeps what a monitoring system asks of sigild, in the text
// format of Prometheus, and serves it on a Unix socket or on the loopback.
// Values are counts and durations: no wallet, address, owner or request content
// becomes a label.
package metrics
