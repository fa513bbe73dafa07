package guard_test

import (
	"errors"
	"testing"

	"github.com/sigild/sigild/daemon/guard"
	"github.com/sigild/sigild/daemon/store"
)

func bothModes(t *testing.T, test func(t *testing.T, orderly bool)) {
	for name, orderly := range map[string]bool{"orderly": true, "durable": false} {
		t.Run(name, func(t *testing.T) { test(t, orderly) })
	}
}

// P4: when a charge is made, the TPM has counted it.
func TestP4ChargeIsAnchored(t *testing.T) {
	bothModes(t, func(t *testing.T, orderly bool) {
		s := newSite(t, orderly)
		s.create(1)
		before := s.read()
		if err := s.guess(1); err != nil {
			t.Fatal(err)
		}
		if st := s.ledger.Status(); s.read() != before+1 || st.Anchored != before+1 || st.Step != 3 {
			t.Fatalf("the TPM counted from %d to %d, status %+v", before, s.read(), st)
		}
		s.restart()
		s.served()
		if s.left(1) != 9 || s.ledger.Status().Epoch != 1 {
			t.Fatalf("%d left after a restart", s.left(1))
		}
	})
}

func (s *site) read() uint64 {
	s.t.Helper()
	n, err := s.anchor.Read(s.t.Context())
	if err != nil { // the counter belongs to an earlier connection
		c := s.config()
		if n, err = c.Anchor.Read(s.t.Context()); err != nil {
			s.t.Fatal(err)
		}
	}
	return n
}

// P4: a copy of the database from before a wrong PIN, a PIN change or freeze, a
// deletion is found at the next start, and gives nothing back until an operator
// accepts it; then 3 attempts at most.
func TestP4OlderCopyIsRefused(t *testing.T) {
	for name, after := range map[string]func(*site) error{
		"before a wrong PIN":          func(s *site) error { return s.guess(1) },
		"before a PIN change, freeze": func(s *site) error { return s.change(1, 0, 1) },
		"before a creation":           func(s *site) error { return s.tryCreate(2) },
		"before a giving back": func(s *site) error {
			_, err := s.guard.GiveBack(s.t.Context(), id(1), s.limits, 1)
			return err
		},
	} {
		for _, restarts := range []int{0, 2} {
			t.Run(name, func(t *testing.T) {
				bothModes(t, func(t *testing.T, orderly bool) {
					s := newSite(t, orderly)
					s.create(1)
					old := s.copy()
					if err := after(s); err != nil {
						t.Fatal(err)
					}
					for range restarts {
						s.restart()
					}
					s.restore(old)
					s.refused(guard.ErrOlderCopy)
					s.restart() // trying again does not help
					s.refused(guard.ErrOlderCopy)
					s.accept()
					s.accepted()
				})
			})
		}
	}
}

// accepted wants the accepted copy to be served with few attempts, now and
// after a restart.
func (s *site) accepted() {
	s.t.Helper()
	for range 2 {
		s.served()
		if s.left(1) != 3 || s.ledger.Status().Epoch != 2 {
			s.t.Errorf("%d attempts left in epoch %d, want 3 in 2", s.left(1), s.ledger.Status().Epoch)
		}
		s.restart()
	}
	s.guesses(1, 3)
	if err := s.guess(1); !errors.Is(err, guard.ErrLocked) {
		s.t.Errorf("a fourth guess: %v", err)
	}
}

// P4: a copy of what was written but not anchored when the daemon was killed
// carries the number of the next step. A guess after the next start must not
// leave it valid, or each kill would give one guess away.
func TestP4ForkedCopyGivesNothingBack(t *testing.T) {
	bothModes(t, func(t *testing.T, orderly bool) {
		s := newSite(t, orderly)
		s.create(1, 2)
		base := s.copy()
		forks := [][]byte{s.fork(2, base)}
		forks = append(forks, s.fork(2, forks[0]))
		s.restore(base)
		if s.ledger.Status().Refused != nil { // a fork's start moved the anchor on
			s.restore(forks[1])
		}
		s.served()
		s.guesses(1, 1)
		for _, fork := range forks {
			s.restore(fork)
			s.refused(guard.ErrOlderCopy)
		}
	})
}

// fork starts on a copy, guesses at a wallet, is killed when the charge is on
// disk and the TPM does not know it yet, and gives that database.
func (s *site) fork(n uint32, on []byte) []byte {
	s.t.Helper()
	var armed bool
	s.wrapCounter = func(c guard.Counter) guard.Counter { return &brokenCounter{Counter: c, broken: &armed} }
	s.restore(on)
	armed = true
	_ = s.guess(n)
	s.wrapCounter = nil
	return s.copy()
}

// A row or a record put in from an older copy, a removed one, another wallet's,
// and a whole older tree are found at the next access, and only what was
// changed is locked.
func TestP4SplicedRowsAreFound(t *testing.T) {
	for name, c := range splices() {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, true)
			s.create(1, 2, 3)
			s.guesses(1, 1)
			old := s.copy()
			s.guesses(1, 5)
			if err := errors.Join(s.change(1, 0, 1), s.change(1, 1, 2)); err != nil {
				t.Fatal(err)
			}
			s.edit(c.edit(s, old))
			s.served()
			if err := s.guess(1); !errors.Is(err, c.want) {
				t.Errorf("guess: %v, want %v", err, c.want)
			}
			if err := s.change(1, s.onDisk(), 3); !errors.Is(err, c.want) && name != "removed record" {
				t.Errorf("change: %v, want %v", err, c.want)
			}
			if _, err := s.wallets.Record(t.Context(), id(1)); !errors.Is(err, c.want) {
				t.Errorf("record: %v, want %v", err, c.want)
			}
			if _, err := s.guard.Attempts(t.Context(), id(2), s.limits); (err != nil) != c.all {
				t.Errorf("another wallet: %v", err)
			}
			audit, err := s.ledger.VerifyAll(t.Context())
			if !c.all && (err != nil || len(audit.Bad) != 1 || audit.Bad[0] != id(1) || audit.Wallets != 3) {
				t.Errorf("VerifyAll: %+v, %v", audit, err)
			}
			if c.all && !errors.Is(err, guard.ErrTree) {
				t.Errorf("VerifyAll: %+v, %v, want ErrTree", audit, err)
			}
		})
	}
}

// Each hard stop of the TPM may be trusted once the reset count shows it, but
// only so often: that is the stated bound.
func TestP4HardStopsBeyondTheBudget(t *testing.T) {
	s := newSite(t, true)
	s.create(1)
	for n := range uint64(guard.UncleanMax) {
		s.guesses(1, 1)
		s.reboot(false)
		s.start()
		s.served()
		if st := s.ledger.Status(); !st.Start.Unclean || st.Unclean != n+1 || s.left(1) != uint32(9-n) {
			t.Fatalf("hard stop %d: %+v, %d left", n+1, st, s.left(1))
		}
	}
	s.guesses(1, 1)
	s.reboot(false)
	s.start()
	s.refused(guard.ErrUnclean)
	s.accept()
	s.served()
	if st := s.ledger.Status(); st.Unclean != 0 || s.left(1) != 3 {
		t.Fatalf("%+v, %d left", st, s.left(1))
	}
	s.guesses(1, 1)
	s.reboot(false)
	s.start()
	s.served()
	if s.left(1) != 2 {
		t.Fatalf("%d left", s.left(1))
	}
}

// A hard stop between which nothing was counted is nobody's fault and free.
func TestIdleHardStopsAreFree(t *testing.T) {
	s := newSite(t, true)
	s.create(1)
	for range 2 { // the start itself counts a step
		s.reboot(false)
		s.start()
		s.served()
	}
	for range 5 {
		s.stop()
		s.tpm.Restart(false)
		s.tpm.Restart(false)
		s.connect()
	}
	s.start()
	s.served()
}

func TestCleanStopsAreNotCounted(t *testing.T) {
	bothModes(t, func(t *testing.T, orderly bool) {
		s := newSite(t, orderly)
		s.create(1)
		for n := range uint32(6) {
			s.guesses(1, 1)
			s.reboot(true)
			s.start()
			s.served()
			if st := s.ledger.Status(); st.Unclean != 0 || st.Start.Unclean || s.left(1) != 9-n {
				t.Fatalf("clean stop %d: %+v, %d left", n+1, st, s.left(1))
			}
		}
	})
}

func TestDurableAnchorForgivesNothingAndNeedsTo(t *testing.T) {
	s := newSite(t, false)
	s.create(1)
	old := s.copy()
	for n := range uint32(6) {
		s.guesses(1, 1)
		s.reboot(false)
		s.start()
		s.served()
		if s.left(1) != 9-n {
			t.Fatalf("%d left", s.left(1))
		}
	}
	s.stop()
	s.put(old)
	s.reboot(false)
	s.start()
	s.refused(guard.ErrOlderCopy)
}

// P4: the stated bound: who has the database and pulls the host's plug can put
// an older copy in after a power cut, UncleanMax times; each gives the attempts
// of one wallet once more.
func TestP4GuesserWithPowerCuts(t *testing.T) {
	s := newSite(t, true)
	s.create(1)
	old := s.copy()
	got := 0
	for range 20 {
		for s.guess(1) == nil {
			got++
			s.now += s.attempts(1).Wait
		}
		s.stop()
		s.tpm.Restart(false)
		s.connect()
		s.put(old)
		s.start()
		if s.ledger.Status().Refused == nil {
			old = s.copy() // the attempts are back, and the copy is new
		}
	}
	bound := int(s.limits.Consecutive) * (1 + guard.UncleanMax)
	t.Logf("%d checks in 20 rounds with power cuts; the bound is %d", got, bound)
	if got != bound {
		t.Errorf("%d checks, want the bound of %d", got, bound)
	}
}

// P4: without power cuts kills and copies give nothing at all.
func TestP4GuesserWithRestarts(t *testing.T) {
	bothModes(t, func(t *testing.T, orderly bool) {
		s := newSite(t, orderly)
		s.create(1)
		got := 0
		for round := range 40 {
			old := s.copy()
			if s.guess(1) == nil {
				got++
			}
			s.now += 24 * 3600e9
			if round%2 == 0 {
				s.restore(old)
			} else {
				s.restart()
			}
			if s.ledger.Status().Refused != nil {
				break
			}
		}
		if got > 10 {
			t.Errorf("%d checks", got)
		}
		t.Logf("%d checks before the copies were refused", got)
	})
}

// Another installation's database, or one of another TPM.
func TestForeignDatabase(t *testing.T) {
	s := newSite(t, true)
	s.create(1)
	other := newSite(t, true)
	other.create(1)
	for range 7 {
		other.guesses(1, 1)
		other.restart()
	}
	s.restore(other.copy()) // the same keys: a clone of the token
	if s.ledger.Status().Refused == nil {
		t.Error("another TPM's database is served")
	}
	other.mac = hmacSHA256([]byte("another token"))
	other.stop()
	other.connect()
	if err := other.tryStart(); !errors.Is(err, guard.ErrCorrupt) {
		t.Errorf("err = %v, want ErrCorrupt", err)
	}
	other.db = nil
}

// A TPM that was cleared lost the counters; accepting anchors the database in
// new ones.
func TestMissingCounter(t *testing.T) {
	s := newSite(t, true)
	s.create(1)
	if err := s.chip.UndefineCounter(t.Context(), anchorHandle); err != nil {
		t.Fatal(err)
	}
	s.restart()
	s.refused(guard.ErrAnchorMissing)
	var err error
	if s.anchor, err = s.chip.DefineCounter(t.Context(), anchorHandle, true, nvAuth); err != nil {
		t.Fatal(err)
	}
	s.restart()
	if s.ledger.Status().Refused == nil {
		t.Error("a counter that was defined anew is trusted")
	}
	s.accept()
	s.accepted()
}

// onDisk is the version of wallet 1's record in the database, whoever wrote it.
func (s *site) onDisk() (v byte) {
	s.t.Helper()
	err := s.db.View(s.t.Context(), func(tx *store.Tx) error {
		if data := tx.Record(id(1)); data != nil {
			v = data[len(data)-1]
		}
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return v
}
