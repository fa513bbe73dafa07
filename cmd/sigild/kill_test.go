package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/ipc"
)

// trap kills sigild at a command to the TPM.
type trap struct {
	h     *daemontest.Host
	at    atomic.Int64 // commands until then; 0: never
	after atomic.Bool  // when the TPM carried it out
	code  atomic.Uint32
	hmac  atomic.Bool // an HMAC, which a PIN check needs, was asked for
	// instead, if set, handles each command in place of all this.
	instead atomic.Pointer[func(code uint32, forward func() []byte) []byte]
}

// tapped is a serving host whose sigild speaks to the TPM through a trap.
func tapped(t *testing.T) (*daemontest.Host, *ipc.Client, *trap) {
	t.Helper()
	h := newHost(t)
	tap := h.TPM.Tap(t)
	h.TPM.Device = tap.Device
	if err := h.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	k := &trap{h: h}
	tap.Handle(k.handle)
	provision(t, h)
	start(t, h)
	c := dial(t, h.Socket)
	t.Cleanup(func() { kill(t, h) }) // before the tap goes
	return h, c, k
}

func (k *trap) handle(command []byte, forward func([]byte) []byte) []byte {
	if f := k.instead.Load(); f != nil {
		return (*f)(binary.BigEndian.Uint32(command[6:]), func() []byte { return forward(command) })
	}
	if binary.BigEndian.Uint32(command[6:]) == uint32(tpm2.TPMCCHMAC) {
		k.hmac.Store(true)
	}
	if k.at.Load() == 0 || k.at.Add(-1) != 0 {
		return forward(command)
	}
	k.code.Store(binary.BigEndian.Uint32(command[6:]))
	if k.after.Load() {
		forward(command)
	}
	_ = syscall.Kill(k.h.PID(), syscall.SIGKILL) // it may have ended
	return nil
}

// victim is a wallet on a host whose sigild is killed.
type victim struct {
	t          *testing.T
	h          *daemontest.Host
	c          *ipc.Client
	trap       *trap
	wallet     ipc.Hex
	pin, other string // a killed PIN change may have swapped them
}

func newVictim(t *testing.T) *victim {
	t.Helper()
	h, c, k := tapped(t)
	return &victim{t, h, c, k, create(t, c, "first").WalletID, rightPIN, "518263"}
}

const wrongCheck = "wrong PIN"

// operations are what is cut short. Each counts as done when it was not killed.
func (v *victim) operations() map[string]func(n int) error {
	return map[string]func(n int) error{
		wrongCheck:  func(int) error { _, err := tryPIN(v.t, v.c, v.wallet, wrongPIN); return err },
		"right PIN": func(int) error { _, err := tryPIN(v.t, v.c, v.wallet, v.pin); return err },
		"creation": func(n int) error {
			_, err := v.c.CreateWallet(testContext(v.t), ipc.CreateWalletParams{RequestID: fmt.Sprint("r", n), Owner: "bob", PIN: ipc.Secret(v.pin)})
			return err
		},
		"PIN change": func(n int) error {
			_, err := v.c.ChangePIN(testContext(v.t), ipc.ChangePINParams{RequestID: fmt.Sprint("c", n), WalletID: v.wallet,
				PIN: ipc.Secret(v.pin), NewPIN: ipc.Secret(v.other)})
			if err == nil {
				v.pin, v.other = v.other, v.pin
			}
			return err
		},
	}
}

// try makes one operation and gives its answer. arm sets what kills sigild, which
// may be while it probes its devices, and so only after the attempts were asked.
func (v *victim) try(operation func(n int) error, n int, arm func()) (before int, err error) {
	v.t.Helper()
	before = attemptsLeft(v.t, v.c, v.wallet)
	v.trap.hmac.Store(false)
	arm()
	return before, operation(n)
}

// recovers makes sure that sigild is dead and starts it: it needs no operator,
// no attempt more is left than before, one less once a wrong PIN was or could be
// checked, and the PIN is the old one or, after a change of it, the new one.
func (v *victim) recovers(what, at string, before int, answer error) {
	v.t.Helper()
	kill(v.t, v.h)
	checked := what == wrongCheck && (v.trap.hmac.Load() || ipc.ReasonOf(answer) == "wrongPin")
	pass(v.t, v.h)
	start(v.t, v.h)
	left := attemptsLeft(v.t, v.c, v.wallet)
	if left > before || checked && left != before-1 {
		v.t.Errorf("%s: %d attempts left, %d before; a wrong PIN was checked: %v", at, left, before, checked)
	}
	_, err := tryPIN(v.t, v.c, v.wallet, v.pin)
	if what == "PIN change" && ipc.ReasonOf(err) == "wrongPin" {
		v.pin, v.other = v.other, v.pin
		_, err = tryPIN(v.t, v.c, v.wallet, v.pin)
	}
	if err != nil {
		v.t.Fatalf("%s: %v", at, err)
	}
}

// P4, P7: sigild is killed before and after each command that it gives the TPM
// in a PIN check, a creation and a PIN change. Attempts do not rise, no wallet
// is lost, and the next start needs no operator.
func TestP4KilledAtEachTPMCommand(t *testing.T) {
	v := newVictim(t)
	k, points := v.trap, 0
	for what, try := range v.operations() {
		for n := 1; ; n++ {
			after := n%2 == 0
			if k.after.Store(after); after && os.Getenv("SIGILD_KILLS") == "" {
				continue // the next point has the same state of the TPM
			}
			before, err := v.try(try, n, func() { k.at.Store(int64((n + 1) / 2)) })
			if k.at.Swap(0) != 0 { // it needed fewer commands
				v.recovers(what, what+", answered", before, err)
				break
			}
			points++
			at := fmt.Sprintf("%s, point %d (command %#x)", what, n, k.code.Load())
			// A probe of the TPM, which reads its clock, may follow the answer.
			if err == nil && k.code.Load() != uint32(tpm2.TPMCCReadClock) {
				t.Errorf("%s: acknowledged by a killed process", at)
			}
			v.recovers(what, at, before, err)
		}
	}
	t.Logf("killed at %d points", points)
	if points < 10 {
		t.Errorf("only %d points", points)
	}
}

// pass lets the window end that charges which were cut short fill.
func pass(t *testing.T, h *daemontest.Host) {
	t.Helper()
	if err := h.TPM.Advance(31 * 24 * time.Hour); err != nil {
		t.Fatal(err)
	}
}

// killCount is how often the next test kills; `make kills` asks for 300.
func killCount(t *testing.T) int {
	text := os.Getenv("SIGILD_KILLS")
	if text == "" {
		return 10
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// ward is what its client knows of one wallet.
type ward struct {
	id     ipc.Hex
	failed atomic.Int64 // acknowledged wrong PINs since the last right one
	made   sync.Map     // ids of wallets that were acknowledged
}

// P4, P7: random kill -9 under load.
func TestP4RandomKillsUnderLoad(t *testing.T) {
	h, c := serving(t)
	wards := make([]*ward, 4)
	for i := range wards {
		wards[i] = &ward{id: create(t, c, fmt.Sprint("w", i)).WalletID}
	}
	kills := killCount(t)
	for round := range kills {
		ctx, end := context.WithCancel(testContext(t))
		var load sync.WaitGroup
		for i, w := range wards {
			client := dial(t, h.Socket)
			load.Go(func() { w.work(ctx, t, client, fmt.Sprint(round, "-", i)) })
		}
		<-time.After(time.Duration(20+rand.IntN(150)) * time.Millisecond) // the moment of the kill
		kill(t, h)
		end()
		load.Wait()
		pass(t, h)
		start(t, h)
		for _, w := range wards {
			w.check(t, c)
		}
	}
	t.Logf("%d kills", kills)
}

// work checks PINs and makes wallets until sigild is killed.
func (w *ward) work(ctx context.Context, t *testing.T, c *ipc.Client, name string) {
	for n := 0; ; n++ {
		pin := rightPIN
		if n%3 == 0 {
			pin = wrongPIN
		}
		_, err := c.SignMessage(ctx, ipc.SignMessageParams{WalletID: w.id, Message: ipc.Hex{1}, PIN: ipc.Secret(pin)})
		switch {
		case err == nil && pin == rightPIN:
			w.failed.Store(0)
		case ipc.ReasonOf(err) == "wrongPin":
			w.failed.Add(1)
		case ipc.ReasonOf(err) != "":
			t.Errorf("%s: %v", name, err)
			return
		default: // killed; a right PIN may have been taken
			if pin == rightPIN {
				w.failed.Store(0)
			}
			return
		}
		if n%4 == 3 {
			r, err := c.CreateWallet(ctx, ipc.CreateWalletParams{RequestID: fmt.Sprint(name, "-", n), Owner: "o", PIN: ipc.Secret(rightPIN)})
			if err != nil {
				return
			}
			w.made.Store(string(r.Wallet.WalletID), true)
		}
	}
}

// check wants no attempt given back and no wallet lost.
func (w *ward) check(t *testing.T, c *ipc.Client) {
	t.Helper()
	if left := int64(attemptsLeft(t, c, w.id)); left > 10-w.failed.Load() {
		t.Errorf("%d attempts left after %d acknowledged failures", left, w.failed.Load())
	}
	w.made.Range(func(key, _ any) bool {
		if _, err := c.GetWallet(testContext(t), ipc.GetWalletParams{WalletID: ipc.Hex(key.(string))}); err != nil {
			t.Errorf("an acknowledged wallet: %v", err)
		}
		w.made.Delete(key)
		return true
	})
	if _, err := tryPIN(t, c, w.id, rightPIN); err != nil {
		t.Fatal(err)
	}
	w.failed.Store(0)
}
