package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// report tells people on standard error and, with --json, programs on standard
// output. A flag that could not be parsed may stand before --json: the
// arguments are asked too.
func (a *app) report(err error, args []string) int {
	f := explain(err)
	if (a.json || slices.Contains(args, "--json")) && !f.answered {
		object, err := json.Marshal(f.wire)
		if err == nil {
			_, err = fmt.Fprintf(a.stdout, "%s\n", object)
		}
		if err != nil {
			fmt.Fprintf(a.stderr, "sigilctl: cannot write the error object: %v\n", err)
		}
	}
	fmt.Fprintf(a.stderr, "sigilctl: %s (%s)\n", plain(f.wire.Message), plain(f.wire.Reason))
	for _, line := range f.details() {
		fmt.Fprintf(a.stderr, "  %s\n", line)
	}
	return f.exit
}

// details are the lines below the message: what the failure cost, when to try
// again, what to do next.
func (f *failure) details() (lines []string) {
	add := func(format string, values ...any) { lines = append(lines, fmt.Sprintf(format, values...)) }
	e := f.wire
	if e.AttemptsLeft != nil {
		add("attempts left: %d", *e.AttemptsLeft)
	}
	if e.Charged != nil && *e.Charged {
		add("PIN attempt: used")
	} else if e.Charged != nil {
		add("PIN attempt: not used")
	}
	if e.LockedUntil != nil {
		add("locked until: %s", moment(*e.LockedUntil))
	}
	if e.RetryAfter != nil {
		add("retry after: %v", time.Duration(*e.RetryAfter*float64(time.Second)).Round(time.Millisecond))
	}
	if next := f.nextStep(); next != "" {
		add("next: %s", next)
	}
	return lines
}

func (f *failure) nextStep() string {
	switch {
	case f.next != "":
		return f.next
	case f.wire.LockedUntil != nil:
		return "wait until then: no PIN is taken before"
	}
	return advice(f.wire.Reason)
}
