package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/daemon/guard"
	"github.com/sigild/sigild/ipc"
)

// guesser has the database file and every restart of sigild in its hands, but neither token, TPM nor root's rights over the process.
// Each check that it gets costs one HMAC of the TPM, which is what is counted:
// what it is told does not matter.
type guesser struct {
	t       *testing.T
	reboots bool // of the host, with or without a power cut, in its hands too
	h       *daemontest.Host
	c       *ipc.Client
	wallet  ipc.Hex
	trying  atomic.Bool // a start needs an HMAC as well
	checks  atomic.Int64
	latest  []byte   // the file that the daemon left last
	copies  [][]byte // earlier ones
	turns   int
	refused int            // copies that were not served
	told    map[string]int // outcomes of the guesses
}

func newGuesser(t *testing.T, reboots bool) *guesser {
	t.Helper()
	h := newHost(t)
	provision(t, h)
	tap, err := h.TapTPM()
	if err != nil {
		t.Fatal(err)
	}
	start(t, h)
	g := &guesser{t: t, reboots: reboots, h: h, c: dial(t, h.Socket), told: map[string]int{}}
	g.wallet = create(t, g.c, "victim").WalletID
	g.end(false)
	g.copies = [][]byte{g.latest}
	tap.Watch(func(code uint32) {
		if code == uint32(tpm2.TPMCCHMAC) && g.trying.Load() {
			g.checks.Add(1)
		}
	})
	g.begin()
	return g
}

// end stops or kills sigild and keeps the file.
func (g *guesser) end(killed bool) {
	g.t.Helper()
	if killed {
		kill(g.t, g.h)
	} else {
		stop(g.t, g.h)
	}
	g.latest = g.read()
}

func (g *guesser) read() []byte {
	g.t.Helper()
	data, err := os.ReadFile(g.h.Database())
	if err != nil {
		g.t.Fatal(err)
	}
	return data
}

func (g *guesser) put(data []byte) {
	g.t.Helper()
	if err := os.WriteFile(g.h.Database(), data, 0o600); err != nil {
		g.t.Fatal(err)
	}
}

// begin starts sigild on what lies there. A file that it does not serve at all,
// such as one that was copied while it was written, makes room for the latest.
func (g *guesser) begin() {
	g.t.Helper()
	if err := g.h.Start(testContext(g.t)); err == nil {
		return
	}
	g.put(g.latest)
	start(g.t, g.h)
}

// reboot restarts the host; power is cut or it goes down in good order.
func (g *guesser) reboot(cut bool) {
	g.t.Helper()
	var err error
	if cut {
		g.h.StopTPM()
		err = g.h.BootTPM(testContext(g.t))
	} else {
		err = g.h.RebootTPM(testContext(g.t))
	}
	if err != nil {
		g.t.Fatal(err)
	}
}

// guess tries n wrong PINs at a time. The waits are over whenever it wants: it
// is given the TPM's clock as well.
func (g *guesser) guess(n int) {
	g.t.Helper()
	pass(g.t, g.h)
	g.trying.Store(true)
	defer g.trying.Store(false)
	var all sync.WaitGroup
	var mu sync.Mutex
	for range n {
		all.Go(func() {
			_, err := tryPIN(g.t, g.c, g.wallet, fmt.Sprintf("%06d", 100000+rand.IntN(300000)))
			mu.Lock()
			defer mu.Unlock()
			g.told[ipc.ReasonOf(err)]++
		})
	}
	if rand.IntN(3) == 0 {
		<-time.After(time.Duration(rand.IntN(120)) * time.Millisecond) // the moment of the kill
		g.end(true)
		all.Wait()
		g.trying.Store(false)
		g.begin()
	}
	all.Wait()
}

// turn is one random move.
func (g *guesser) turn() {
	g.turns++
	switch rand.IntN(5) {
	case 0, 1:
		g.guess(1 + rand.IntN(3))
	case 2:
		g.copies = append(g.copies, g.read()) // of a running daemon
	case 3:
		g.end(rand.IntN(2) == 0)
		g.copies = append(g.copies, g.latest)
		g.begin()
	case 4:
		g.tryCopy(g.copies[rand.IntN(len(g.copies))])
	}
	if len(g.copies) > 50 {
		g.copies = append(g.copies[:10:10], g.copies[30:]...)
	}
}

// tryCopy puts a copy in the place of the database and guesses. If it is refused
// the guesser goes on with what there was.
func (g *guesser) tryCopy(old []byte) {
	g.t.Helper()
	g.end(rand.IntN(2) == 0)
	good := g.latest
	if g.reboots && rand.IntN(3) == 0 {
		g.reboot(rand.IntN(2) == 0)
	}
	g.put(old)
	g.begin()
	g.guess(1)
	s, err := g.c.Status(testContext(g.t))
	if err != nil {
		g.t.Fatal(err)
	}
	if s.State == "ready" {
		return
	}
	g.refused++
	g.end(true)
	g.latest = good
	g.put(good)
	g.begin()
}

// TestP4Guesser lets a guesser try for a while: 10 seconds, or what
// SIGILD_GUESS says (`make guess`: 20 minutes), half of it with reboots as well.
func TestP4Guesser(t *testing.T) {
	length := 10 * time.Second
	if text := os.Getenv("SIGILD_GUESS"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	for what, reboots := range map[string]bool{"restarts": false, "restarts and reboots": true} {
		t.Run(what, func(t *testing.T) {
			bound := int64(10)
			if reboots {
				bound *= 1 + guard.UncleanMax // a reset of the TPM may hide steps of an orderly counter
			}
			g := newGuesser(t, reboots)
			over := func(d time.Duration) bool { return d >= length/2 && g.checks.Load() > 0 || d >= length/2+patience }
			for begun := time.Now(); !over(time.Since(begun)); {
				g.turn()
			}
			n := g.checks.Load()
			t.Logf("%d checks in %d turns within %s; the bound is %d; %d copies were refused; it was told %v",
				n, g.turns, length/2, bound, g.refused, g.told)
			if n > bound || n == 0 {
				t.Errorf("the guesser got %d checks, the bound is %d", n, bound)
			}
		})
	}
}
