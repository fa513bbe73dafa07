package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/sigild/sigild/daemon"
	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/ipc"
)

// lastingFault is one after which service does not come back by itself, since a
// person must decide.
type lastingFault struct {
	name   string
	before func(*faultHost) // before any wallet is made
	begin  func(*faultHost)
	// provoke says what callers got; nil: operations.all
	provoke func(*operations) string
	ends    bool   // sigild ends with exit code 78; else it serves and signs nothing
	logins  int    // how often the PIN is presented in all, starts included
	remedy  string // how service comes back
}

func lastingFaults() []lastingFault {
	refusal := func(name string, code uint) lastingFault {
		return lastingFault{name: "a log-in is answered by " + name, ends: true, logins: 1,
			begin: func(h *faultHost) {
				h.token.Fail("C_Login", code)
				h.token.LogOut()
			}, remedy: "the right PIN where `token.pin` points, or `sigild forget-refusal`; then start"}
	}
	locked := refusal("CKR_PIN_LOCKED", pkcs11.CKR_PIN_LOCKED)
	locked.remedy = "the security officer resets the PIN; " + locked.remedy
	expired := refusal("CKR_PIN_EXPIRED", pkcs11.CKR_PIN_EXPIRED)
	expired.remedy = "a new PIN by the vendor's tool; " + expired.remedy
	return []lastingFault{
		refusal("CKR_PIN_INCORRECT", pkcs11.CKR_PIN_INCORRECT), locked, expired,
		{name: "the token's flags say that its user PIN is locked", ends: true, logins: 0,
			begin: func(h *faultHost) { h.token.LockPIN(); h.token.LogOut() }, remedy: locked.remedy},
		{name: "a signature does not verify", begin: func(h *faultHost) { h.token.WrongSignatures(-1) },
			remedy: "find out why; `sigild clear-token-fault`; start"},
		{name: "a nonce is repeated", before: func(h *faultHost) { h.token.LearnRoots() },
			begin: func(h *faultHost) { h.token.RepeatNonces(true) }, provoke: (*operations).repeatNonce, remedy: "find out why; `sigild clear-token-fault`; start"},
	}
}

const lastingIntroduction = `
Written by ` + "`make faults`, which runs `TestFaultsThatWaitForAPerson`" + `. After these, sigild does
not try again by itself: a PIN could be locked by it, and a key given away. The
callers are four at one time, as above; "connection closed" is the end of sigild.
Nothing is charged. Log-ins are those made after the fault, by the daemon
that runs and by two more starts.

| fault | callers got | afterwards | log-ins | a start says | to end it |
|---|---|---|---|---|---|
`

// TestFaultsThatWaitForAPerson has the token refuse the PIN, and sign wrongly,
// under four callers, and sees that nothing is tried again.
func TestFaultsThatWaitForAPerson(t *testing.T) {
	doc := readFaultsDocument(t)
	var rows []string
	for _, f := range lastingFaults() {
		t.Run(f.name, func(t *testing.T) {
			row := endureLasting(t, f)
			rows = append(rows, row)
			if head, _, _ := strings.Cut(row, " | "); !*writeDocument && !strings.Contains(doc, "\n"+head+" | ") {
				t.Errorf("docs/faults.md has no row for this (make faults writes it): %s", row)
			}
		})
	}
	if *writeDocument {
		writeFaults(t, sectionLasting, lastingIntroduction+strings.Join(rows, "\n"))
	}
}

// endureLasting gives the row of one fault.
func endureLasting(t *testing.T, f lastingFault) string {
	h := newFaultHost(t)
	if f.before != nil {
		f.before(h)
	}
	start(t, h.Host)
	o := newOperations(t, h)
	if err := o.unlock(signingUnlocked); err != nil {
		t.Fatal(err)
	}
	logins := h.token.Calls("C_Login")
	f.begin(h)
	got := f.provokedBy(o)
	var afterwards, says string
	if f.ends {
		afterwards, says = ended(t, h)
	} else {
		afterwards, says = o.outOfService()
	}
	logins = h.token.Calls("C_Login") - logins
	if f.ends && logins != f.logins {
		t.Errorf("%d log-ins, want %d", logins, f.logins)
	}
	h.token.ClearAll()
	o.mend(f.ends)
	shown := fmt.Sprint(logins)
	if !f.ends {
		shown = "–"
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s |", f.name, got, afterwards, shown, says, f.remedy)
}

func (f lastingFault) provokedBy(o *operations) string {
	if f.provoke != nil {
		return f.provoke(o)
	}
	return o.all()
}

// repeatNonce signs one message after another: the first signature with a nonce
// is good, and only the second tells.
func (o *operations) repeatNonce() string {
	o.t.Helper()
	for n := range 50 {
		_, err := o.clients[signingByPIN].SignMessage(testContext(o.t), ipc.SignMessageParams{WalletID: o.wallets[signingByPIN].WalletID,
			Message: ipc.Hex(fmt.Sprint("message ", n)), PIN: ipc.Secret(rightPIN)})
		if err != nil {
			wantReason(o.t, err, "nonceReused")
			return "nonceReused by the second signature"
		}
	}
	o.t.Error("no nonce was found to be repeated")
	return "ok"
}

// all has the four callers call at one time and says what they got.
func (o *operations) all() string {
	o.t.Helper()
	allowed := []string{"tokenUnavailable", "tokenFault", "nonceReused", "relock", "unlockRequired", "connection closed", "timeout"}
	var mu sync.Mutex
	var group sync.WaitGroup
	var got []string
	for n := range operationCount {
		request := o.requests.Add(1)
		group.Go(func() {
			answer := o.run(n, request)
			if strings.Contains(answer, " ") {
				answer = "connection closed"
			}
			mu.Lock()
			defer mu.Unlock()
			if !slices.Contains(got, answer) {
				got = append(got, answer)
			}
			if !slices.Contains(allowed, answer) {
				o.t.Errorf("operation %d got %q", n, answer)
			}
		})
	}
	group.Wait()
	slices.Sort(got)
	return strings.Join(got, ", ")
}

// ended waits for the end of sigild and starts it twice more, in vain.
func ended(t *testing.T, h *faultHost) (afterwards, says string) {
	t.Helper()
	err := h.Wait(testContext(t))
	var exit *daemontest.ExitError
	if !errors.As(err, &exit) || exit.Code != daemon.ExitConfig {
		t.Fatalf("sigild ended with %v", err)
	}
	for range 2 {
		code, said := refusedStart(t, h.Host)
		if code != daemon.ExitConfig {
			t.Errorf("a start ended with exit code %d", code)
		}
		says = refusalIn(said)
	}
	return fmt.Sprintf("sigild ends, exit code %d", daemon.ExitConfig), fmt.Sprintf("exit code %d: %s", daemon.ExitConfig, says)
}

// refusalIn finds the words that matter in what sigild said at its end.
func refusalIn(said string) string {
	for _, words := range []string{"user PIN is locked", "user PIN expired", "refused this user PIN"} {
		if strings.Contains(said, words) {
			return words
		}
	}
	return said
}

// outOfService looks at a sigild that serves and signs nothing, before and after
// a restart.
func (o *operations) outOfService() (afterwards, says string) {
	o.t.Helper()
	for range 2 {
		if got := o.run(signingByPIN, 0); got != "tokenFault" {
			o.t.Errorf("afterwards signing got %q", got)
		}
		state, reasons := reasonsOf(o.t, o.clients[0])
		if state != "failing" || !slices.Contains(reasons, "tokenFault") {
			o.t.Errorf("state %q, reasons %v", state, reasons)
		}
		stop(o.t, o.h.Host)
		start(o.t, o.h.Host)
	}
	return "`failing(tokenFault)`; nothing is signed, also after a restart", "serving, `failing(tokenFault)`"
}

// mend does what the remedy says, and finds every attempt of every wallet there.
func (o *operations) mend(ended bool) {
	o.t.Helper()
	remedy := "forget-refusal"
	if !ended {
		remedy = "clear-token-fault"
		stop(o.t, o.h.Host)
	}
	if code, said := command(o.t, o.h.Host, "", remedy); code != 0 {
		o.t.Fatalf("%s: exit code %d: %s", remedy, code, said)
	}
	start(o.t, o.h.Host)
	for n := range operationCount {
		if n != signingUnlocked {
			if got := o.run(n, o.requests.Add(1)); got != "ok" {
				o.t.Errorf("operation %d afterwards: %s", n, got)
			}
		}
	}
	stop(o.t, o.h.Host)
	checkNothingCharged(o.t, o.h.Host)
}

// TestTokenWithoutUnwrapTemplates provisions a token that refuses unwrap
// templates: it works, and the status says what that means.
func TestTokenWithoutUnwrapTemplates(t *testing.T) {
	faults, module := faultyToken(t)
	faults.RefuseTemplates()
	h, c := serving(t, module)
	w := create(t, c, "1")
	for range 2 {
		s, err := c.Status(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		if s.Token.Enforcement != "daemon" || !slices.ContainsFunc(s.Notes, func(n string) bool { return strings.Contains(n, "unwrap templates (daemon)") }) {
			t.Errorf("enforcement %q, notes %q", s.Token.Enforcement, s.Notes)
		}
		signAll(t, c, w, 0)
		stop(t, h)
		start(t, h)
	}
}
