package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
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
)

// soakHost is a host under load.
type soakHost struct {
	*faultHost
	gauge   *gauge
	wallets []ipc.WalletInfo
	made    sync.Map // request id → wallet id
	faults  int
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
	s.load(t, first)
	before := s.holds(t, c)
	t.Logf("after %v: %+v", first, before)
	s.load(t, *soak-first)
	after := s.holds(t, c)
	t.Logf("after %v: %+v", *soak, after)
	t.Logf("%d faults, %d signatures, %d wallets, %d refusals", s.faults, s.signed.Load(), s.walletsMade(), s.failed.Load())
	if wrong := s.wrong.Load(); wrong != nil {
		t.Error(*wrong)
	}
	s.checkWallets(t, c)
	after.check(t, before)
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
func (s *soakHost) load(t *testing.T, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	var clients sync.WaitGroup
	for n := range soakClients {
		clients.Go(func() { s.client(ctx, n) })
	}
	s.fail(ctx)
	clients.Wait()
}

// fail begins a random fault every second and ends it before the next.
func (s *soakHost) fail(ctx context.Context) {
	list := deviceFaults()
	tick := time.NewTicker(faultEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		f := list[rand.IntN(len(list))]
		s.faults++
		f.begin(s.faultHost)
		lasts := time.NewTimer(faultLasts)
		<-lasts.C
		if f.end != nil {
			f.end(s.faultHost)
		}
	}
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
	await(t, "ready", func() bool {
		_, err := tryPIN(t, c, s.wallets[0].WalletID, rightPIN)
		state, _ := reasonsOf(t, c)
		return err == nil && state != "failing"
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
