package daemon

import (
	"context"
	"slices"
	"testing"
	"time"
)

// A clock that is wrong at the start and set afterwards destroys nothing.
func TestPurgeDistrustsAClockThatWasSet(t *testing.T) {
	start := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	type look struct {
		wall      time.Duration // since start
		monotonic time.Duration
		want      string
	}
	looks := []look{
		{0, 0, ""}, // a start alone purges nothing
		{time.Hour, time.Hour, "purge"},
		{2*time.Hour + 43*time.Second, 2 * time.Hour, "purge"},                  // slewed
		{3*time.Hour + 60*24*time.Hour, 3 * time.Hour, "step"},                  // set two months ahead
		{4*time.Hour + 60*24*time.Hour, 4 * time.Hour, "purge"},                 // and left there: it is the time now
		{5 * time.Hour, 5 * time.Hour, "step"},                                  // set back
		{6 * time.Hour, 6 * time.Hour, "purge"},                                 //
		{6*time.Hour + 20*time.Minute, 7 * time.Hour, "step"},                   // slow by 40 minutes
		{7*time.Hour + 19*time.Minute + 30*time.Second, 8 * time.Hour, "purge"}, // slow by 30 seconds
	}
	n, did := 0, []string{""}
	rounds := purgeRounds{
		clocks: func() (time.Time, time.Duration) {
			l := looks[n]
			n++
			return start.Add(l.wall), l.monotonic
		},
		pause:   func(context.Context) bool { return n < len(looks) },
		purge:   func(context.Context) { did = append(did, "purge") },
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
