package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"go.etcd.io/bbolt"

	"github.com/sigild/sigild/daemon"
	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/ipc"
	"github.com/sigild/sigild/tpm"
)

// looked is what `sigild check` says.
func looked(t *testing.T, h *daemontest.Host) (r daemon.CheckReport) {
	t.Helper()
	out, err := h.Command(testContext(t), "check", "--json").Output()
	if err == nil {
		err = json.Unmarshal(out, &r)
	}
	if err != nil {
		t.Fatalf("check: %v: %s", err, out)
	}
	return r
}

// editFile changes a stopped host's database.
func editFile(t *testing.T, h *daemontest.Host, change func(*bbolt.Tx) error) {
	t.Helper()
	db := openDatabase(t, h)
	if err := errors.Join(db.Update(change), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// bucketOf copies a bucket of a stopped host's database.
func bucketOf(t *testing.T, h *daemontest.Host, name string) map[string][]byte {
	t.Helper()
	rows := map[string][]byte{}
	editFile(t, h, func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(name)).ForEach(func(k, v []byte) error {
			rows[string(k)] = append([]byte{}, v...)
			return nil
		})
	})
	return rows
}

// P4: a copy from the time of another TPM is an older one also when the new
// TPM's counter has come to the value that the copy names, and the present
// installation document was put into it.
func TestP4CopyOfAnotherTPMsTime(t *testing.T) {
	m := newMeasured(t)
	for range 2 {
		m.signs()
	}
	before := looked(t, m.Host)
	old, err := os.ReadFile(m.Database())
	if err != nil {
		t.Fatal(err)
	}
	for range 4 {
		m.guesses()
	}
	m.TPM.Kill()
	dir := filepath.Dir(m.TPM.Device)
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	m.boot()
	m.succeeds(m.code, "recover", "--new-tpm", "--code-fd", "3")
	m.left(3)
	now := looked(t, m.Host)
	for now.TPM < before.Database {
		now = looked(t, m.Host) // each start is a step
	}
	document := bucketOf(t, m.Host, "meta")["installation"]
	if err := os.WriteFile(m.Database(), old, 0o600); err != nil {
		t.Fatal(err)
	}
	editFile(t, m.Host, func(tx *bbolt.Tx) error { return tx.Bucket([]byte("meta")).Put([]byte("installation"), document) })
	m.start()
	_, err = tryPIN(t, m.dial(), m.made.WalletID, wrongPIN)
	if e := wantReason(t, err, "databaseRefused"); e.RetryAfter != nil {
		t.Errorf("a caller is told to try again: %+v", e)
	}
}

// P4: a request of a PIN change that was killed before it was anchored does not
// make its retry believe that the PIN was changed.
func TestP4RequestOfAKilledChange(t *testing.T) {
	h, c, k := tapped(t)
	w := create(t, c, "1").WalletID
	var during []byte
	increments := 0
	var mu sync.Mutex
	trap := func(code uint32, forward func() []byte) []byte {
		mu.Lock()
		defer mu.Unlock()
		switch tpm2.TPMCC(code) {
		case tpm2.TPMCCHMAC: // the PIN is being checked
			if during == nil {
				during, _ = os.ReadFile(h.Database())
			}
		case tpm2.TPMCCNVIncrement: // of the charge, then of the change
			if increments++; increments == 2 {
				_ = syscall.Kill(h.PID(), syscall.SIGKILL)
				return nil
			}
		}
		return forward()
	}
	k.instead.Store(&trap)
	change := ipc.ChangePINParams{RequestID: "c", WalletID: w, PIN: ipc.Secret(rightPIN), NewPIN: ipc.Secret("518263")}
	if _, err := c.ChangePIN(testContext(t), change); err == nil {
		t.Fatal("acknowledged by a killed process")
	}
	k.instead.Store(nil)
	kill(t, h)
	requests := bucketOf(t, h, "requests")
	mu.Lock()
	before := during
	mu.Unlock()
	if err := os.WriteFile(h.Database(), before, 0o600); err != nil {
		t.Fatal(err)
	}
	editFile(t, h, func(tx *bbolt.Tx) error {
		for key, value := range requests {
			if err := tx.Bucket([]byte("requests")).Put([]byte(key), value); err != nil {
				return err
			}
		}
		return nil
	})
	start(t, h)
	_, err := c.ChangePIN(testContext(t), change)
	wantReason(t, err, "recordCorrupt")
	if _, err := tryPIN(t, c, w, rightPIN); err != nil {
		t.Error(err)
	}
}

// A handle that somebody else has is refused before anything is changed.
func TestTakenHandleLeavesTheAnchor(t *testing.T) {
	h, c := serving(t)
	w := create(t, c, "1").WalletID
	stop(t, h)
	const theirs = 0x01800161
	chip, err := tpm.Open(t.Context(), tpm.Config{Device: h.TPM.Device})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := chip.DefineCounter(t.Context(), theirs, false, make([]byte, 32)); err != nil {
		t.Fatal(err)
	}
	h.Config["guard"] = fmt.Sprintf("anchor = \"durable\"\nhandle = %#x", theirs)
	if err := h.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	said, err := check(t, h, "--accept")
	if err == nil {
		t.Error("somebody else's counter was taken")
	}
	mustContain(t, said, "0x1800161", "[guard]")
	if taken, err := chip.NVDefined(t.Context(), theirs); err != nil || !taken {
		t.Errorf("somebody else's counter is gone: %v", err)
	}
	if err := chip.Close(); err != nil {
		t.Fatal(err)
	}
	delete(h.Config, "guard")
	if err := h.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	start(t, h)
	if left := attemptsLeft(t, c, w); left != 10 {
		t.Errorf("%d attempts left", left)
	}
	if _, err := tryPIN(t, c, w, rightPIN); err != nil {
		t.Error(err)
	}
}

// A change of the anchor that was killed at any command to the TPM is carried
// out by asking again, and leaves no counter behind.
func TestKilledChangeOfTheAnchor(t *testing.T) {
	for at := int64(1); at <= 6; at++ {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			h, c, k := tapped(t)
			w := create(t, c, "1").WalletID
			stop(t, h)
			h.Config["guard"] = "anchor = \"orderly\"\nhandle = 0x01800161\nunclean_handle = 0x01800162"
			if err := h.WriteConfig(); err != nil {
				t.Fatal(err)
			}
			changing := h.Command(testContext(t), "check", "--accept")
			var said strings.Builder
			changing.Stdout, changing.Stderr = &said, &said
			started := make(chan struct{})
			var count atomic.Int64
			var defining atomic.Bool
			trap := func(code uint32, forward func() []byte) []byte {
				cc := tpm2.TPMCC(code)
				changes := cc == tpm2.TPMCCNVDefineSpace || cc == tpm2.TPMCCNVIncrement || cc == tpm2.TPMCCNVUndefineSpace
				if cc == tpm2.TPMCCNVDefineSpace {
					defining.Store(true)
				}
				if !changes || !defining.Load() || count.Add(1) != at {
					return forward()
				}
				forward()
				<-started
				_ = changing.Process.Kill()
				return nil
			}
			k.instead.Store(&trap)
			if err := changing.Start(); err != nil {
				t.Fatal(err)
			}
			close(started)
			if err := changing.Wait(); err == nil {
				t.Fatalf("it was not killed: %s", said.String())
			}
			k.instead.Store(nil)
			if out, err := check(t, h, "--accept"); err != nil && !strings.Contains(out, "nothing to accept") {
				t.Fatalf("again: %v: %s", err, out)
			}
			start(t, h)
			if _, err := tryPIN(t, c, w, rightPIN); err != nil {
				t.Error(err)
			}
			chip, err := tpm.Open(t.Context(), tpm.Config{Device: h.TPM.Device})
			if err != nil {
				t.Fatal(err)
			}
			defer chip.Close()
			for _, former := range []uint32{0x01800151, 0x01800152} {
				if there, err := chip.NVDefined(t.Context(), former); err != nil || there {
					t.Errorf("the former index %#x is there: %v, %v", former, there, err)
				}
			}
		})
	}
}
