package main

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/ipc"
)

var hangFor = flag.Duration("hang", 3*time.Second, "how long a call hangs in TestLongHang; all of them hang for a tenth of it, at least 3 s")

// hangPace is how many requests a second are made while calls hang.
func hangPace() int {
	if raceDetector || loaded() {
		return 1
	}
	return 5
}

// hangSeen is what requests met while calls were hanging.
type hangSeen struct {
	served, refused int
	slowest         time.Duration // of all that were answered
	threads         int           // the most that there were
	states          []string      // in the order in which they were first seen
}

// TestLongHang has one call hang in the module for long while others serve, and
// then all. Both are reported, and end without a restart: a watchdog whose interval
// is shorter than that stays fed.
func TestLongHang(t *testing.T) {
	manager, env := newManager(t)
	h := newFaultHost(t, func(o *daemontest.Options) { o.Env = append(o.Env, env...) })
	start(t, h.Host)
	manager.await("READY=1")
	longest := manager.feeding()
	c := dial(t, h.Socket)
	w := create(t, c, "1")
	before, pid := resourcesOf(t, h.Host), h.PID()

	h.token.HangTimes("C_UnwrapKey", 1) // which no probe calls
	_, err := tryPIN(t, c, w.WalletID, rightPIN)
	wantReason(t, err, "timeout")
	one := h.during(c, w, *hangFor)
	if one.refused > 0 || !slices.Equal(one.states, []string{"degraded(tokenSlow)"}) {
		t.Errorf("beside one call that hangs: %+v", one)
	}
	h.token.ClearAll()
	await(t, "ready", func() bool { state, _ := reasonsOf(t, c); return state == "ready" })

	h.token.Hang(signing)
	await(t, "a refusal at once", func() bool {
		_, err := tryPIN(t, c, w.WalletID, rightPIN)
		return ipc.ReasonOf(err) == "tokenUnavailable"
	})
	every := h.during(c, w, max(*hangFor/10, 3*time.Second))
	if every.served > 0 || !slices.Contains(every.states, "failing(tokenHangs)") {
		t.Errorf("while all calls hang: %+v", every)
	}
	h.token.Clear(signing)
	ended := time.Now()
	await(t, "a signature", func() bool { _, err := tryPIN(t, c, w.WalletID, rightPIN); return err == nil })
	back := time.Since(ended)
	await(t, "ready", func() bool { state, _ := reasonsOf(t, c); return state == "ready" })

	if h.PID() != pid {
		t.Errorf("process %d became %d", pid, h.PID())
	}
	if unfed := longest(); unfed >= watchdog {
		t.Errorf("the watchdog was not fed for %v", unfed)
	}
	if most := max(one.threads, every.threads); most > before.threads+16 {
		t.Errorf("%d threads, %d before", most, before.threads)
	}
	t.Logf("one: %+v, all: %+v, back after %v", one, every, back)
	stop(t, h.Host)
	checkNothingCharged(t, h.Host)
	if *writeDocument {
		writeFaults(t, sectionHang, hangReport(before, one, every, back))
	}
}

// during signs at a steady pace for a while.
func (h *faultHost) during(c *ipc.Client, w ipc.WalletInfo, d time.Duration) (seen hangSeen) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), d)
	defer cancel()
	pace := hangPace()
	tick := time.NewTicker(time.Second / time.Duration(pace))
	defer tick.Stop()
	var mu sync.Mutex
	var group sync.WaitGroup
	defer group.Wait()
	for n := 0; ; n++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return seen
		}
		group.Go(func() {
			begun := time.Now()
			_, err := c.SignMessage(context.WithoutCancel(ctx), ipc.SignMessageParams{WalletID: w.WalletID,
				Message: ipc.Hex(fmt.Sprint("hello ", n)), PIN: ipc.Secret(rightPIN)})
			mu.Lock()
			defer mu.Unlock()
			seen.slowest = max(seen.slowest, time.Since(begun))
			if err == nil {
				seen.served++
			} else {
				seen.refused++
			}
		})
		if n%pace == 0 {
			state, reasons := reasonsOf(h.t, c)
			mu.Lock()
			seen.threads = max(seen.threads, resourcesOf(h.t, h.Host).threads)
			if text := fmt.Sprintf("%s(%s)", state, strings.Join(reasons, ", ")); !slices.Contains(seen.states, text) {
				seen.states = append(seen.states, text)
			}
			mu.Unlock()
		}
	}
}

func hangReport(before resources, one, every hangSeen, back time.Duration) string {
	return fmt.Sprintf(`
Written by `+"`make hang`, which runs `TestLongHang`"+` with a time-out of 1 s, 4 sessions
and %d signatures by PIN asked for in a second.

- **One call hung for %v.** Beside it %d signatures were made and %d requests refused; the
  slowest took %d ms. The state was %v.
- **All calls hung for %v.** %d requests were refused, the slowest after %d ms, once the
  daemon knew; none was charged. The state was %v.
- The service manager's watchdog, at an interval of %v, was fed all the time
  (%s is 15 minutes).
- The daemon had %d threads before and at most %d meanwhile. When the module answered
  again a signature was made after %d ms, by the same process.
`, hangPace(), *hangFor, one.served, one.refused, one.slowest.Milliseconds(), one.states,
		max(*hangFor/10, 3*time.Second), every.refused, every.slowest.Milliseconds(), every.states,
		watchdog, "`watchdog.device_hang`", before.threads, max(one.threads, every.threads), back.Milliseconds())
}
