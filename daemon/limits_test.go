package daemon

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/sigild/sigild/daemon/config"
	"github.com/sigild/sigild/ipc"
)

const leastConfig = `
[token]
module = "/usr/lib/softhsm/libsofthsm2.so"
label = "sigild"
[tpm]
profile = "uki"
[kms]
region = "eu-central-1"
[limits]
`

// What check-config accepts can be served: a start that fails later logs in to the
// token each time.
func TestAcceptedLimitsCanBeServed(t *testing.T) {
	keys := []string{"message_bytes", "depth", "batch", "in_flight", "in_flight_per_uid", "in_flight_bytes_per_uid", "connections", "connections_per_uid"}
	values := []int{1, 3, 8, 10, 64, 128, 500, 1000, 1024, 4096, 16384, 1 << 20, 16 << 20}
	accepted := 0
	for range 2000 {
		text := leastConfig
		for _, key := range keys {
			if rand.N(3) == 0 {
				text += fmt.Sprintf("%s = %d\n", key, values[rand.N(len(values))])
			}
		}
		c, err := config.Parse([]byte(text))
		if err != nil {
			continue
		}
		accepted++
		if err := limits(c.Limits).Validate(); err != nil {
			t.Fatalf("check-config accepts this, and it cannot be served: %v%s", err, text)
		}
	}
	if accepted < 20 {
		t.Errorf("%d of 2000 were accepted: this tries nothing", accepted)
	}
}

// What is wrong with the configuration and shows only at serving must be mended
// too: a supervisor must not try it again and again.
func TestFaultsAtServingMustBeMended(t *testing.T) {
	_, unknown := groupID("socket.group", "no-such-group-here")
	for _, err := range []error{unknown, ipc.ErrLimits, ipc.ErrNotSocket, ipc.ErrUnsafeDirectory, ipc.ErrSocketPath} {
		if code := ExitCode(fmt.Errorf("listen: %w", err)); code != ExitConfig {
			t.Errorf("%v: exit code %d", err, code)
		}
	}
	if code := ExitCode(ipc.ErrInUse); code != ExitFailed {
		t.Errorf("a socket in use, which may pass: exit code %d", code)
	}
	if !errors.Is(unknown, ErrConfig) {
		t.Errorf("an unknown group: %v", unknown)
	}
}
