package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/ipc"
)

var soak = flag.Duration("soak", 20*time.Second, "how long TestFaultsUnderLoad runs")

var soakLog = flag.String("soak-log", "", "where TestFaultsUnderLoad writes the whole log of sigild")

const (
	soakClients = 8
	faultEvery  = time.Second
	faultLasts  = 400 * time.Millisecond
	// One fault in longFaults lasts longer than the devices' time-outs, so that calls
	// count as hung, and over the next ones, of other devices and of single calls.
	faultLastsLong = 2500 * time.Millisecond
	longFaults     = 4
)

// soakHost is a host under load.
type soakHost struct {
	*faultHost
	gauge   *gauge
	wallets []ipc.WalletInfo
	made    sync.Map // request id → wallet id
	faults  int
	active  map[string]activeFault // by device
	states  []string               // in the order in which they were first seen
	signed  atomic.Int64
	failed  atomic.Int64
	wrong   atomic.Pointer[string] // the first answer that must not be
}

// TestFaultsUnderLoad has a random device fail every second under 8 clients. No
// answer is wrong, no wallet lost, no attempt charged, and at the end the daemon
// holds what it held after the first part.
func TestFaultsUnderLoad(t *testing.T) {
	s := &soakHost{faultHost: newFaultHost(t, keepLog(t))}
	s.gauge = newGauge(t, s.faultHost)
	start(t, s.Host)
	c := dial(t, s.Host.Socket)
	for n := range soakClients {
		s.wallets = append(s.wallets, create(t, c, fmt.Sprintf("soak %d", n)))
	}
	first := min(*soak/3, time.Minute)
	s.load(t, c, first)
	before := s.holds(t, c)
	t.Logf("after %v: %+v", first, before)
	s.load(t, c, *soak-first)
	after := s.holds(t, c)
	t.Logf("after %v: %+v", *soak, after)
	t.Logf("%d faults, %d signatures, %d wallets, %d refusals", s.faults, s.signed.Load(), s.walletsMade(), s.failed.Load())
	t.Logf("states: %q", s.states)
	if wrong := s.wrong.Load(); wrong != nil {
		t.Error(*wrong)
	}
	if s.signed.Load() == 0 || s.faults == 0 {
		t.Errorf("%d signatures under %d faults", s.signed.Load(), s.faults)
	}
	if !slices.ContainsFunc(s.states, func(state string) bool { return strings.Contains(state, "tokenHangs") }) {
		t.Errorf("no call was seen to hang: %q", s.states)
	}
	s.checkWallets(t, c)
	after.check(t, before)
	stop(t, s.Host)
	checkNothingCharged(t, s.Host)
	if *writeDocument {
		writeFaults(t, sectionSoak, s.report(first, before, after))
	}
}

func (s *soakHost) report(first time.Duration, before, after held) string {
	return fmt.Sprintf(`
Written by `+"`make soak`, which runs `TestFaultsUnderLoad`"+`: %d clients create, unlock and sign
without a pause for %v, while a random fault of those above begins every second. It lasts
%v, or one in %d of them %v, so that calls count as hung and faults of several devices
lie over each other.

- %d faults, %d signatures, %d wallets made, %d requests refused. No answer was wrong, no
  wallet was lost and no attempt was charged; the state at the end was ready.
- After %v the daemon held %d sessions, %d session objects, %d threads, %d file
  descriptors and %d KiB of memory; at the end %d, %d, %d, %d and %d KiB, with a database of
  %d KiB in place of %d.
`, soakClients, *soak, faultLasts, longFaults, faultLastsLong, s.faults, s.signed.Load(), s.walletsMade(), s.failed.Load(),
		first, before.sessions, before.objects, before.threads, before.descriptors, before.memory.resident,
		after.sessions, after.objects, after.threads, after.descriptors, after.memory.resident,
		after.memory.database, before.memory.database)
}

// keepLog writes what sigild says to the file that -soak-log names: when it dies
// of a signal inside the module, the end of the log is not enough.
func keepLog(t *testing.T) func(*daemontest.Options) {
	t.Helper()
	if *soakLog == "" {
		return func(*daemontest.Options) {}
	}
	f, err := os.Create(*soakLog)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return func(o *daemontest.Options) { o.Log = func(line string) { _, _ = fmt.Fprintln(f, line) } }
}

// load runs all clients and the faults for a while.
func (s *soakHost) load(t *testing.T, c *ipc.Client, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	var clients sync.WaitGroup
	for n := range soakClients {
		clients.Go(func() { s.client(ctx, n) })
	}
	s.fail(ctx, c)
	clients.Wait()
}

// activeFault is one that lasts.
type activeFault struct {
	deviceFault
	until time.Time
}

// fail begins a random fault every second. The first has every signature hang.
func (s *soakHost) fail(ctx context.Context, c *ipc.Client) {
	s.active = map[string]activeFault{}
	defer func() { s.end(time.Now().Add(time.Hour)) }()
	tick := time.NewTicker(faultEvery / 5)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.end(time.Now())
		if n%5 == 0 {
			s.begin(n == 0)
		}
		if text := stateText(reasonsOf(s.t, c)); !slices.Contains(s.states, text) {
			s.states = append(s.states, text)
		}
	}
}

// end ends the faults whose time is over.
func (s *soakHost) end(now time.Time) {
	for device, f := range s.active {
		if f.until.Before(now) {
			f.end(s.faultHost)
			delete(s.active, device)
		}
	}
}

// begin begins a fault of a device that has none, or one of a single call.
func (s *soakHost) begin(first bool) {
	list := slices.DeleteFunc(deviceFaults(), func(f deviceFault) bool {
		_, busy := s.active[f.device]
		return busy && (f.end != nil || f.device != "token") || first && f.name != everySignHangs
	})
	f := list[rand.IntN(len(list))]
	s.faults++
	f.begin(s.faultHost)
	if f.end == nil {
		return
	}
	lasts := faultLasts
	if first || rand.IntN(longFaults) == 0 {
		lasts = faultLastsLong
	}
	s.active[f.device] = activeFault{f, time.Now().Add(lasts)}
}

// client is one caller: it makes wallets, unlocks, and signs in both ways.
func (s *soakHost) client(ctx context.Context, n int) {
	c, err := ipc.Dial(ctx, s.Host.Socket, ipc.PlainPINs())
	if err != nil {
		s.judge(err)
		return
	}
	defer c.Close()
	for round := 0; ctx.Err() == nil; round++ {
		w := s.wallets[n]
		switch round % 8 {
		case 0:
			s.make(ctx, c, fmt.Sprintf("client %d at %d", n, time.Now().UnixNano()))
		case 1:
			_, err := c.Unlock(ctx, ipc.UnlockParams{WalletID: w.WalletID, PIN: ipc.Secret(rightPIN), Terms: terms(100)})
			s.judge(err)
		case 2:
			s.sign(ctx, c, w, rightPIN)
		default:
			s.sign(ctx, c, w, "")
		}
	}
	_, err = c.Lock(context.WithoutCancel(ctx), ipc.WalletParams{WalletID: s.wallets[n].WalletID})
	s.judge(err)
}

// make repeats a creation until it is answered; all answers are one wallet's.
func (s *soakHost) make(ctx context.Context, c *ipc.Client, id string) {
	for ctx.Err() == nil {
		r, err := c.CreateWallet(ctx, ipc.CreateWalletParams{RequestID: id, Owner: "soak", PIN: ipc.Secret(rightPIN)})
		s.judge(err)
		if err == nil {
			s.made.Store(id, r.Wallet.WalletID.String())
			return
		}
	}
}

func (s *soakHost) sign(ctx context.Context, c *ipc.Client, w ipc.WalletInfo, pin string) {
	text := fmt.Sprintf("message %d", rand.Uint64())
	p := ipc.SignMessageParams{WalletID: w.WalletID, Message: ipc.Hex(text)}
	if pin != "" {
		p.PIN = ipc.Secret(pin)
	}
	r, err := c.SignMessage(ctx, p)
	s.judge(err)
	if err != nil {
		return
	}
	s.signed.Add(1)
	if err := checkMessage(r, text, w.Accounts[0].Address); err != nil {
		s.remember(err.Error())
	}
}

// judge counts refusals and remembers an answer that no fault may cause.
func (s *soakHost) judge(err error) {
	if err == nil {
		return
	}
	s.failed.Add(1)
	reason := ipc.ReasonOf(err)
	if !errors.Is(err, context.DeadlineExceeded) && !slices.Contains(append(honest(), "unlockRequired", "termsExceeded", "overloaded"), reason) {
		s.remember(err.Error())
	}
}

// honest are the answers by which a caller knows that a device failed.
func honest() []string {
	return []string{"ok", "tokenUnavailable", "tpmUnavailable", "anchorUnavailable", "measuredState", "entropyFailed", "timeout", "relock"}
}

func (s *soakHost) remember(text string) { s.wrong.CompareAndSwap(nil, &text) }

// checkWallets finds every wallet again, with all attempts left.
func (s *soakHost) checkWallets(t *testing.T, c *ipc.Client) {
	t.Helper()
	s.made.Range(func(id, wallet any) bool {
		r, err := c.CreateWallet(testContext(t), ipc.CreateWalletParams{RequestID: id.(string), Owner: "soak", PIN: ipc.Secret(rightPIN)})
		if err != nil || !r.Existing || r.Wallet.WalletID.String() != wallet || r.Wallet.AttemptsLeft != 10 {
			t.Errorf("wallet %v of request %q: %+v, %v", wallet, id, r, err)
		}
		return true
	})
	for _, w := range s.wallets {
		if left := attemptsLeft(t, c, w.WalletID); left != 10 {
			t.Errorf("wallet %s: %d attempts left", w.WalletID, left)
		}
	}
	if s.walletsMade() == 0 {
		t.Error("no wallet was made under load")
	}
}

func (s *soakHost) walletsMade() (n int) {
	s.made.Range(func(any, any) bool { n++; return true })
	return n
}

// held is what the daemon holds on to.
type held struct {
	resources
	sessions, objects int
	memory            memory
}

// holds waits until the daemon is ready, and measures it.
func (s *soakHost) holds(t *testing.T, c *ipc.Client) held {
	t.Helper()
	s.token.ClearAll()
	await(t, "a wallet", func() bool { // which also ends a doubt of KMS
		_, err := c.CreateWallet(testContext(t), ipc.CreateWalletParams{RequestID: fmt.Sprint("holds ", s.faults), Owner: "soak", PIN: ipc.Secret(rightPIN)})
		return err == nil
	})
	await(t, "ready", func() bool {
		_, err := tryPIN(t, c, s.wallets[0].WalletID, rightPIN)
		return err == nil && stateText(reasonsOf(t, c)) == "ready"
	})
	h := held{memory: s.gauge.settled(t), resources: resourcesOf(t, s.Host)}
	h.sessions, h.objects = s.token.Measure()
	return h
}

// check compares with an earlier measurement. Threads may grow a little: the
// runtime keeps what the largest load needed.
func (h held) check(t *testing.T, before held) {
	t.Helper()
	const configured = 4 + 4 + 3 // sessions, keepers, the signer's
	if h.objects != 0 || h.sessions > configured {
		t.Errorf("%d session objects, %d sessions", h.objects, h.sessions)
	}
	if h.descriptors > before.descriptors+soakClients { // each may leave an idle connection to KMS
		t.Errorf("%d file descriptors, %d after the first part", h.descriptors, before.descriptors)
	}
	if h.threads > before.threads+12 {
		t.Errorf("%d threads, %d after the first part", h.threads, before.threads)
	}
	h.memory.check(t, before.memory)
}
