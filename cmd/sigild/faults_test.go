package main

import (
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/sigild/sigild/daemon"
	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/hsm/hsmtest"
	"github.com/sigild/sigild/ipc"
)

var writeDocument = flag.Bool("write-faults", false, "write docs/faults.md from what is seen")

// faultHost is a host all of whose devices fail on command.
type faultHost struct {
	*daemontest.Host
	t     *testing.T
	token *hsmtest.Faults
	tap   *daemontest.Tap

	leave  chan struct{} // closed when the TPM answers again
	holder net.Conn      // another program's connection to the TPM
}

// newFaultHost is provisioned, and has short time-outs.
func newFaultHost(t *testing.T, change ...func(*daemontest.Options)) *faultHost {
	t.Helper()
	token, module := faultyToken(t)
	h := newHost(t, append(change, module)...)
	tap, err := h.TapTPM()
	if err != nil {
		t.Fatal(err)
	}
	provision(t, h)
	h.Config["token"] = "timeout = \"1s\"\nsessions = 4\nkeepers = 4"
	h.Config["tpm"] = "timeout = \"1s\""
	h.Config["kms"] = fmt.Sprintf("timeout = %q\nattempts = 1", kmsTimeout())
	h.Config["limits"] = "changes_per_minute = 100000"
	if err := h.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	return &faultHost{Host: h, t: t, token: token, tap: tap}
}

// kmsTimeout is short, so that a test of a KMS that does not answer is, and longer
// under the race detector, which the test's own KMS runs under too.
func kmsTimeout() time.Duration {
	if raceDetector {
		return 2 * time.Second
	}
	return 200 * time.Millisecond
}

func (h *faultHost) stopTPM() { h.StopTPM() }

func (h *faultHost) startTPM() {
	if err := h.BootTPM(testContext(h.t)); err != nil {
		h.t.Fatal(err)
	}
}

func (h *faultHost) extendPCR() {
	if err := h.TPM.Extend(12, sha256.Sum256([]byte("another command line"))); err != nil {
		h.t.Fatal(err)
	}
}

func (h *faultHost) hangTPM() {
	leave := make(chan struct{})
	h.leave = leave
	h.tap.Watch(func(uint32) { <-leave })
}

func (h *faultHost) releaseTPM() {
	h.tap.Watch(nil)
	close(h.leave)
}

// occupyTPM connects to the TPM as another program and stays: swtpm, like
// /dev/tpm0, takes one at a time, and lets others wait.
func (h *faultHost) occupyTPM() {
	var err error
	if h.holder, err = net.Dial("unix", h.TPM.Device); err != nil {
		h.t.Fatal(err)
	}
	command := []byte{0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x7b, 0, 8} // TPM2_GetRandom of 8 bytes
	answer := make([]byte, 20)
	if _, err := h.holder.Write(command); err != nil {
		h.t.Fatal(err)
	}
	if _, err := io.ReadFull(h.holder, answer); err != nil {
		h.t.Fatal(err)
	}
}

func (h *faultHost) vacateTPM() {
	if err := h.holder.Close(); err != nil {
		h.t.Fatal(err)
	}
}

// answerTPM answers commands in place of the TPM; all where none is named.
func (h *faultHost) answerTPM(response uint32, commands ...tpm2.TPMCC) {
	h.tap.Answer(func(code uint32) (uint32, bool) {
		return response, len(commands) == 0 || slices.Contains(commands, tpm2.TPMCC(code))
	})
}

// operations are what callers do, each on its own wallet and connection.
type operations struct {
	t        *testing.T
	h        *faultHost
	clients  []*ipc.Client
	wallets  []ipc.WalletInfo
	requests atomic.Int64
	// meanwhile is the state while the fault lasted
	meanwhile string
}

// stateText is a state with its reasons.
func stateText(state string, reasons []string) string {
	if len(reasons) == 0 {
		return state
	}
	return fmt.Sprintf("%s(%s)", state, strings.Join(reasons, ", "))
}

// The operations by number.
const (
	creating = iota
	unlocking
	signingByPIN
	signingUnlocked
	operationCount
)

func newOperations(t *testing.T, h *faultHost) *operations {
	o := &operations{t: t, h: h}
	for n := range operationCount {
		o.clients = append(o.clients, dial(t, h.Socket))
		o.wallets = append(o.wallets, create(t, o.clients[n], fmt.Sprintf("operation %d", n)))
	}
	return o
}

// run does one operation and returns what the caller got: "ok" or the reason.
func (o *operations) run(n int, request int64) string {
	ctx, c, w := testContext(o.t), o.clients[n], o.wallets[n].WalletID
	var err error
	switch n {
	case creating:
		_, err = c.CreateWallet(ctx, ipc.CreateWalletParams{RequestID: fmt.Sprintf("fault %d", request), Owner: "bob", PIN: ipc.Secret(rightPIN)})
	case unlocking:
		err = o.unlock(n)
	case signingByPIN:
		_, err = tryPIN(o.t, c, w, rightPIN)
	case signingUnlocked:
		_, err = c.SignMessage(ctx, ipc.SignMessageParams{WalletID: w, Message: ipc.Hex("hello")})
	}
	if err == nil {
		return "ok"
	}
	o.honest(n, err)
	if reason := ipc.ReasonOf(err); reason != "" {
		return reason
	}
	return err.Error()
}

// honest looks at what an error says beside its reason: that nothing was charged,
// and when to come again where that may help.
func (o *operations) honest(n int, err error) {
	var e *ipc.Error
	if !errors.As(err, &e) {
		return
	}
	if e.Charged != nil && *e.Charged {
		o.t.Errorf("operation %d was charged: %v", n, e)
	}
	passes := strings.HasSuffix(e.Reason, "Unavailable") || e.Reason == "entropyFailed" || e.Reason == "timeout"
	if passes && (e.RetryAfter == nil || *e.RetryAfter <= 0) {
		o.t.Errorf("operation %d is not told when to come again: %v", n, e)
	}
}

func (o *operations) unlock(n int) error {
	_, err := o.clients[n].Unlock(testContext(o.t), ipc.UnlockParams{WalletID: o.wallets[n].WalletID, PIN: ipc.Secret(rightPIN),
		Terms: ipc.Terms{Signatures: 1000, Seconds: 600, TotalValue: ipc.Any, Policy: ipc.Policy{Operations: []string{"message"}}}})
	return err
}

// seen is what one fault did to one operation.
type seen struct {
	got  string
	back time.Duration // from the end of the fault to the first success
}

// endure runs every operation during a fault, and after it.
func (o *operations) endure(f deviceFault) (results [operationCount]seen) {
	if err := o.unlock(signingUnlocked); err != nil {
		o.t.Fatalf("%s: before the fault: %v", f.name, err)
	}
	o.meanwhile = "–"
	if f.end == nil {
		for n := range results {
			before := o.met(f)
			f.begin(o.h)
			results[n] = o.one(n)
			if f.function != "" && o.met(f) == before {
				results[n].got = notMet
			}
			o.h.token.ClearAll() // a fault that met nobody
		}
		return results
	}
	var requests [operationCount]int64
	f.begin(o.h)
	var group sync.WaitGroup
	for n := range results {
		requests[n] = o.requests.Add(1)
		group.Go(func() { results[n].got = o.run(n, requests[n]) })
	}
	group.Wait()
	o.meanwhile = o.stateIn(f)
	f.end(o.h)
	ended := time.Now()
	for n := range results {
		group.Go(func() { results[n].back = o.back(n, requests[n], results[n].got, ended) })
	}
	group.Wait()
	return results
}

// met counts the calls that a fault may have met.
func (o *operations) met(f deviceFault) int { return o.h.token.Calls(f.function) }

// stateIn waits for the state that a fault must show, and gives what it is.
func (o *operations) stateIn(f deviceFault) (state string) {
	for until := time.Now().Add(10 * time.Second); time.Now().Before(until); {
		if state = stateText(reasonsOf(o.t, o.clients[0])); oneOf(state, f.state) {
			return state
		}
	}
	return state
}

// one runs an operation that meets a fault, and again until it succeeds.
func (o *operations) one(n int) seen {
	request := o.requests.Add(1)
	got := o.run(n, request)
	return seen{got, o.back(n, request, got, time.Now())}
}

// back repeats an operation until it succeeds, a creation that did succeed as another
// one. An unlock that ended is made again, as its caller is told to.
func (o *operations) back(n int, request int64, got string, ended time.Time) time.Duration {
	if got == "ok" {
		request = o.requests.Add(1)
	}
	for {
		got := o.run(n, request)
		if got == "ok" {
			return time.Since(ended)
		}
		if n == signingUnlocked && (got == "relock" || got == "unlockRequired") {
			_ = o.unlock(n)
		}
		if time.Since(ended) > 15*time.Second {
			o.t.Fatalf("operation %d does not come back: %s", n, got)
		}
	}
}

// TestDeviceFaults has every device fail in every way under create, unlock and
// sign. It writes docs/faults.md, or checks that the faults are those.
func TestDeviceFaults(t *testing.T) {
	h := newFaultHost(t)
	start(t, h.Host)
	o := newOperations(t, h)
	var rows []string
	for _, f := range deviceFaults() {
		t.Run(f.device+": "+f.name, func(t *testing.T) {
			o.t, h.t = t, t // a context of this part
			results := o.endure(f)
			rows = append(rows, row(f, o.meanwhile, results))
			o.check(f, results)
		})
	}
	o.t, h.t = t, t
	if len(rows) < 30 {
		t.Errorf("%d faults", len(rows))
	}
	stop(t, h.Host)
	checkNothingCharged(t, h.Host)
	if *writeDocument {
		writeFaults(t, "", faultsIntroduction+strings.Join(rows, "\n")+"\n")
		writeFaults(t, sectionStates, strings.TrimPrefix(daemon.ConditionsTable(), "## States\n"))
	}
}

// check holds the promises against what was seen.
func (o *operations) check(f deviceFault, results [operationCount]seen) {
	o.t.Helper()
	for n, r := range results {
		if !oneOf(r.got, f.gets[n]) {
			o.t.Errorf("operation %d got %q, want %q", n, r.got, f.gets[n])
		}
		if r.back > backWithin() {
			o.t.Errorf("operation %d was back after %v", n, r.back)
		}
	}
	if !oneOf(o.meanwhile, f.state) {
		o.t.Errorf("the state was %q, want %q", o.meanwhile, f.state)
	}
	if strings.Contains(o.meanwhile, "kms") {
		return // a creation has ended that already, or the daemon asks again: see TestKMSIsAskedUntilItAnswers
	}
	await(o.t, "ready", func() bool { state, _ := reasonsOf(o.t, o.clients[0]); return state == "ready" })
}

// backWithin is the promise of one second; more under the race detector, or where
// other work takes this machine's processors.
func backWithin() time.Duration {
	if raceDetector || loaded() {
		return 5 * time.Second
	}
	return time.Second
}

// loaded reports whether more than the processors' worth of work waits.
func loaded() bool {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return false
	}
	var average float64
	_, err = fmt.Sscan(string(text), &average)
	return err == nil && average > float64(runtime.NumCPU())
}

// row is a line of the table. The figures stand behind the words, in brackets.
func row(f deviceFault, meanwhile string, results [operationCount]seen) string {
	cells := []string{strings.ReplaceAll(meanwhile, "(", " (")}
	for _, r := range results {
		cells = append(cells, fmt.Sprintf("%s (%d ms)", r.got, r.back.Milliseconds()))
	}
	return strings.TrimPrefix(rowHead(f), "\n") + strings.Join(cells, " | ") + " |"
}

// rowHead is how the line of a fault begins.
func rowHead(f deviceFault) string { return fmt.Sprintf("\n| %s | %s | ", f.device, f.name) }
