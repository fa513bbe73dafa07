package guard_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sigild/sigild/daemon/guard"
)

// P4: the charge is on disk when Charge returns, so that whoever is killed
// after it has spent the attempt.
func TestP4ChargeIsOnDiskBeforeItReturns(t *testing.T) {
	b := newBench(t)
	for n := range uint32(3) {
		b.charge() // and never settled, as by kill -9
		if r := b.stored(); r.Consecutive != n+1 || r.Lifetime != n+1 || b.disk.puts != int(n+1) {
			t.Fatalf("after %d charges the disk has %+v", n+1, r)
		}
	}
	if a := b.attempts(); a.Left != 7 || a.Failures != 3 {
		t.Fatalf("%+v, want 7 left after 3 charges", a)
	}
}

// P4: what cannot be counted is not checked.
func TestP4NoChargeWithoutTheDisk(t *testing.T) {
	b := newBench(t)
	b.disk.full(errDisk)
	if c, err := b.Charge(t.Context(), b.wallet, b.limits); !errors.Is(err, errDisk) || c != nil {
		t.Fatalf("err = %v, want the disk's", err)
	}
	b.disk.full(nil)
	if r := b.stored(); r.Consecutive != 0 || r.Lifetime != 0 {
		t.Fatalf("the row is %+v, want an untouched one", r)
	}
	b.disk.getErr = errDisk
	if c, err := b.Charge(t.Context(), b.wallet, b.limits); !errors.Is(err, errDisk) || c != nil {
		t.Fatalf("unreadable: err = %v, want the disk's", err)
	}
}

func TestNoChargeWithoutTheToken(t *testing.T) {
	b := newBench(t)
	gone := errors.New("token is gone")
	g := guard.New(b.disk, func(context.Context, []byte) ([32]byte, error) { return [32]byte{}, gone }, b.clock())
	if c, err := g.Charge(t.Context(), b.wallet, b.limits); !errors.Is(err, gone) || c != nil || b.disk.puts != 0 {
		t.Fatalf("err = %v, want the token's, and nothing written", err)
	}
	if _, err := g.NewRow(t.Context(), b.wallet); !errors.Is(err, gone) {
		t.Fatalf("NewRow: err = %v, want the token's", err)
	}
}

// A row that was removed, or another wallet's in its place, locks the wallet.
func TestMissingOrSplicedRowIsCorrupt(t *testing.T) {
	for name, splice := range map[string]func(*bench, []byte){
		"removed":  func(b *bench, _ []byte) { delete(b.disk.rows, b.wallet) },
		"emptied":  func(b *bench, _ []byte) { b.disk.rows[b.wallet] = []byte{} },
		"another":  func(b *bench, other []byte) { b.disk.rows[b.wallet] = other },
		"cut off":  func(b *bench, _ []byte) { b.disk.rows[b.wallet] = b.disk.rows[b.wallet][:20] },
		"bit lost": func(b *bench, _ []byte) { b.disk.rows[b.wallet][30] ^= 4 },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			other, err := b.NewRow(t.Context(), [16]byte{1})
			if err != nil {
				t.Fatal(err)
			}
			splice(b, other)
			if _, err := b.Charge(t.Context(), b.wallet, b.limits); !errors.Is(err, guard.ErrCorrupt) || b.disk.puts != 0 {
				t.Errorf("Charge: err = %v, want ErrCorrupt and nothing written", err)
			}
			if _, err := b.Attempts(t.Context(), b.wallet, b.limits); !errors.Is(err, guard.ErrCorrupt) {
				t.Errorf("Attempts: err = %v, want ErrCorrupt", err)
			}
		})
	}
}

// Ten wrong PINs in a row lock the wallet; the eleventh is not charged.
func TestTenFailuresLock(t *testing.T) {
	b := newBench(t)
	for n := range uint32(10) {
		c := b.charge()
		if a := c.Failed(); a.Left != 9-n || a.Failures != n+1 || c.Left() != 9-n {
			t.Fatalf("failure %d: %+v", n+1, a)
		}
	}
	puts := b.disk.puts
	if c, err := b.Charge(t.Context(), b.wallet, b.limits); !errors.Is(err, guard.ErrLocked) || c != nil {
		t.Fatalf("err = %v, want ErrLocked", err)
	}
	if a := b.attempts(); a.Left != 0 || a.Failures != 10 || b.disk.puts != puts {
		t.Fatalf("%+v after the lock", a)
	}
}

// The last attempt may still be the right PIN.
func TestTenthAttemptMayPass(t *testing.T) {
	b := newBench(t)
	for range 9 {
		b.charge().Failed()
	}
	a, err := b.charge().Passed(t.Context())
	if err != nil || a.Left != 10 || a.Failures != 9 {
		t.Fatalf("%+v, %v, want 10 left and the 9 failures before", a, err)
	}
}

// The zero value of limits allows nothing.
func TestNoLimitsNoAttempts(t *testing.T) {
	b := newBench(t)
	for _, l := range []guard.Limits{{}, {Consecutive: 10}, {Lifetime: 10}} {
		if _, err := b.Charge(t.Context(), b.wallet, l); !errors.Is(err, guard.ErrLocked) {
			t.Errorf("%+v: err = %v, want ErrLocked", l, err)
		}
	}
}

func TestPassedClearsFailuresInARow(t *testing.T) {
	b := newBench(t)
	b.charge().Failed()
	b.charge().Failed()
	b.now = b.now.Add(time.Hour)
	a, err := b.charge().Passed(t.Context())
	if err != nil || a.Failures != 2 || a.Left != 10 || !a.LastPass.Equal(b.now) {
		t.Fatalf("%+v, %v", a, err)
	}
	r := b.stored()
	if r.Consecutive != 0 || r.Lifetime != 2 || len(r.Recent) != 2 || r.LastPass != b.now.Unix() || r.Revision != 5 {
		t.Fatalf("the row is %+v", r)
	}
	if a := b.attempts(); a.Left != 10 || a.Failures != 0 || !a.LastPass.Equal(b.now) {
		t.Fatalf("%+v", a)
	}
}

func TestVoidGivesTheChargeBack(t *testing.T) {
	b := newBench(t)
	b.charge().Failed()
	before := b.stored()
	if err := b.charge().Void(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := b.stored()
	if r.Consecutive != 1 || r.Lifetime != 1 || len(r.Recent) != 1 || r.LastPass != 0 || r.Revision != before.Revision+2 {
		t.Fatalf("the row is %+v, was %+v", r, before)
	}
}

// Failures count over the wallet's life, however many checks pass between.
func TestLifetimeBudgetIsNotResetBySuccess(t *testing.T) {
	b := newBench(t)
	b.limits.Lifetime = 12
	for n := range uint32(12) {
		b.charge().Failed()
		if n == 11 {
			break
		}
		a, err := b.charge().Passed(t.Context())
		if err != nil || a.Left != min(10, 11-n) {
			t.Fatalf("after %d failures: %+v, %v", n+1, a, err)
		}
	}
	if _, err := b.Charge(t.Context(), b.wallet, b.limits); !errors.Is(err, guard.ErrLocked) {
		t.Fatalf("err = %v, want ErrLocked after 12 failures ever", err)
	}
}

func TestRowDatesTheLatestCharges(t *testing.T) {
	b := newBench(t)
	b.limits.Consecutive = 1000
	var dates []int64
	for range guard.RecentMax + 6 {
		b.charge().Failed()
		dates = append(dates, b.now.Unix())
		b.now = b.now.Add(time.Second)
	}
	if r := b.stored(); !slices.Equal(r.Recent, dates[6:]) || r.Lifetime != guard.RecentMax+6 {
		t.Fatalf("%v of %v", r.Recent, dates)
	}
}

// A caller that hangs up leaves neither a passed check charged nor a failed
// device's charge standing.
func TestSettlingOutlivesItsCaller(t *testing.T) {
	for name, settle := range map[string]func(context.Context, *guard.Charge) error{
		"Passed": func(ctx context.Context, c *guard.Charge) error { _, err := c.Passed(ctx); return err },
		"Void":   func(ctx context.Context, c *guard.Charge) error { return c.Void(ctx) },
	} {
		b := newBench(t)
		ctx, cancel := context.WithCancel(t.Context())
		c, err := b.Charge(ctx, b.wallet, b.limits)
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := settle(ctx, c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if r := b.stored(); r.Consecutive != 0 || r.Lifetime != 0 {
			t.Errorf("%s: the row is %+v", name, r)
		}
	}
}

// When the disk refuses to settle, the charge stands.
func TestSettlingOnAFullDiskLeavesTheCharge(t *testing.T) {
	b := newBench(t)
	passed, err := b.Charge(t.Context(), b.wallet, b.limits)
	if err != nil {
		t.Fatal(err)
	}
	b.disk.full(errDisk)
	if a, err := passed.Passed(t.Context()); !errors.Is(err, errDisk) || a != (guard.Attempts{}) {
		t.Errorf("Passed: %+v, %v, want the disk's error", a, err)
	}
	if err := passed.Void(t.Context()); !errors.Is(err, errDisk) {
		t.Errorf("Void: err = %v, want the disk's", err)
	}
	if r := b.stored(); r.Consecutive != 1 || r.Lifetime != 1 {
		t.Errorf("the row is %+v, want one charge", r)
	}
}

// A caller that hung up before is not charged.
func TestChargeEndsWithItsContext(t *testing.T) {
	b := newBench(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Charge(ctx, b.wallet, b.limits); !errors.Is(err, context.Canceled) || b.disk.puts != 0 {
		t.Fatalf("err = %v with %d writes", err, b.disk.puts)
	}
}

// Parallel guesses cannot share a charge: each takes its turn.
func TestTurnSerialisesAWallet(t *testing.T) {
	b := newBench(t)
	var inside, most atomic.Int32
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			release, err := b.Turn(t.Context(), b.wallet)
			if err != nil {
				t.Error(err)
				return
			}
			defer release()
			most.Store(max(most.Load(), inside.Add(1)))
			if c, err := b.Charge(t.Context(), b.wallet, b.limits); err != nil {
				t.Error(err)
			} else {
				if err := c.Void(t.Context()); err != nil {
					t.Error(err)
				}
			}
			inside.Add(-1)
		})
	}
	group.Wait()
	if r := b.stored(); most.Load() != 1 || r.Consecutive != 0 || r.Revision != 101 {
		t.Fatalf("%d at a time; the row is %+v", most.Load(), r)
	}
}

func TestTurnsOfTwoWalletsAreIndependent(t *testing.T) {
	b := newBench(t)
	first, err := b.Turn(t.Context(), b.wallet)
	if err != nil {
		t.Fatal(err)
	}
	defer first()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	second, err := b.Turn(ctx, [16]byte{1})
	if err != nil {
		t.Fatalf("another wallet waits: %v", err)
	}
	second()
}

func TestTurnEndsWithItsContext(t *testing.T) {
	b := newBench(t)
	release, err := b.Turn(t.Context(), b.wallet)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	waits := make(chan error, 1)
	go func() {
		_, err := b.Turn(ctx, b.wallet)
		waits <- err
	}()
	cancel()
	if err := <-waits; !errors.Is(err, context.Canceled) {
		t.Fatalf("err = %v, want context.Canceled", err)
	}
	release()
	release() // more than once does no harm
	again, err := b.Turn(t.Context(), b.wallet)
	if err != nil {
		t.Fatalf("after the release: %v", err)
	}
	defer again()
	busy, stop := context.WithTimeout(t.Context(), time.Millisecond)
	defer stop()
	if _, err := b.Turn(busy, b.wallet); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a second release let another in: err = %v", err)
	}
}

func BenchmarkCharge(b *testing.B) {
	w := newBench(b)
	for b.Loop() {
		if _, err := w.charge().Passed(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
