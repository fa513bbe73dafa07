package main

import (
	"crypto/rand"
	"fmt"

	"github.com/spf13/cobra"
)

// requestID names a call that changes something, so that it can be repeated
// without being carried out twice.
type requestID struct{ id string }

func (r *requestID) flag(c *cobra.Command) {
	c.Flags().StringVar(&r.id, "request-id", "", "makes a retry safe: the same id is the same request (default: a new one, which is shown first)")
}

// show makes an id if there is none. It is shown before anything happens, so
// that it is known even if the program dies half-way.
func (r *requestID) show(c *cobra.Command, a *app) error {
	if c.Flags().Changed("request-id") {
		if r.id == "" {
			return usage(c, "--request-id must not be empty")
		}
		return nil
	}
	r.id = rand.Text()
	fmt.Fprintf(a.stderr, "request id: %s (after a failure, repeat with --request-id %s)\n", r.id, r.id)
	return nil
}

// retry puts the id into the advice for a call that may succeed the next time,
// or may have been carried out already.
func (r *requestID) retry(err error) error {
	if err == nil {
		return nil
	}
	f := explain(err)
	repeatable := f.exit == exitUnavailable || f.wire.Reason == reasonInterrupted
	if repeatable && f.wire.Reason != reasonUnreachable {
		f.next = "repeat with --request-id " + plain(r.id) + ", nothing is done twice; if it stays so: journalctl -u sigild"
	}
	return f
}
