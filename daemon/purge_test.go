package daemon

import (
	"context"
	"slices"
	"testing"
	"time"
)

// A clock that is wrong at the start and set afterwards destroys nothing.
func TestPurgeDistrustsAClockThatWasSet(t *testing.T) {
	const grace, twoMonths = 30 * 24 * time.Hour, 60 * 24 * time.Hour
	start := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	type look struct {
		wall      time.Duration // since start
		monotonic time.Duration
		want      string
	}
	purge := func(longer time.Duration) string { return (grace + longer).String() }
	looks := []look{
		{0, 0, ""}, // a start alone purges nothing
		{time.Hour, time.Hour, purge(0)},
		{2*time.Hour + 43*time.Second, 2 * time.Hour, purge(0)},                     // slewed
		{3*time.Hour + twoMonths, 3 * time.Hour, "step"},                            // set two months ahead
		{4*time.Hour + twoMonths, 4 * time.Hour, purge(twoMonths - 43*time.Second)}, // which did not pass
		{5 * time.Hour, 5 * time.Hour, "step"},                                      // set back
		{6 * time.Hour, 6 * time.Hour, purge(twoMonths - 43*time.Second)},           // what was deleted between is dated ahead
		{6*time.Hour + 20*time.Minute, 7 * time.Hour, "step"},                       // slow by 40 minutes
		{7*time.Hour + 19*time.Minute + 30*time.Second, 8 * time.Hour, // slow by 30 seconds
			purge(twoMonths - 43*time.Second)},
		{7*time.Hour + 20*time.Minute + grace, 2*time.Hour + grace, "step"},                              // ahead by six hours
		{8*time.Hour + 20*time.Minute + grace, 3*time.Hour + grace, purge(6*time.Hour + 30*time.Second)}, // the two months count no more
		{200 * 365 * 24 * time.Hour, 4*time.Hour + grace, "step"},                                        // absurdly far ahead
		{200*365*24*time.Hour + time.Hour, 5*time.Hour + grace, purge(maxLeap)},
	}
	n, did := 0, []string{""}
	rounds := purgeRounds{
		clocks: func() (time.Time, time.Duration) {
			l := looks[n]
			n++
			return start.Add(l.wall), l.monotonic
		},
		pause:   func(context.Context) bool { return n < len(looks) },
		grace:   func() time.Duration { return grace },
		purge:   func(_ context.Context, grace time.Duration) { did = append(did, grace.String()) },
		stepped: func(time.Duration) { did = append(did, "step") },
	}
	rounds.run(t.Context())
	var want []string
	for _, l := range looks {
		want = append(want, l.want)
	}
	if !slices.Equal(did, want) {
		t.Errorf("did %q, want %q", did, want)
	}
}
