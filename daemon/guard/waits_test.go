package guard_test

import (
	"errors"
	"testing"
	"time"

	"github.com/sigild/sigild/daemon/guard"
)

// P4: checks wait from the fourth failure in a row, longer each time, and a
// wait costs nothing.
func TestP4WaitsGrow(t *testing.T) {
	b := newBench(t)
	want := []time.Duration{0, 0, 0, time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour, 3 * time.Hour, 8 * time.Hour}
	for n, w := range want {
		if a := b.charge().Failed(); a.Wait != w || a.Left != uint32(9-n) {
			t.Fatalf("failure %d: %+v, want a wait of %s", n+1, a, w)
		}
		b.refused(w)
	}
	b.charge().Failed()
	if a := b.attempts(); a.Wait != 0 || a.Left != 0 {
		t.Fatalf("locked: %+v", a)
	}
}

// refused wants a charge to be refused until w has passed, less a second.
func (b *bench) refused(w time.Duration) {
	b.t.Helper()
	if w == 0 {
		return
	}
	puts := b.disk.puts
	now := b.now
	for _, passed := range []time.Duration{0, w / 2, w - time.Second} {
		b.now = now.Add(passed)
		var waits *guard.WaitError
		if _, err := b.Charge(b.t.Context(), b.wallet, b.limits); !errors.As(err, &waits) || waits.For != w-passed {
			b.t.Fatalf("after %s of %s: err = %v", passed, w, err)
		}
	}
	if b.disk.puts != puts {
		b.t.Fatal("a wait was charged")
	}
}

// P4: setting the wall clock shortens no wait and empties no window.
func TestP4WallClockShortensNothing(t *testing.T) {
	b := newBench(t)
	b.limits.Window = 4
	for range 4 {
		b.charge().Failed()
	}
	for _, skew := range []time.Duration{-100 * 365 * 24 * time.Hour, 0, 100 * 365 * 24 * time.Hour} {
		b.skew = skew
		again := guard.New(b.disk, b.mac, b.clock()) // and a restart does not either
		var waits *guard.WaitError
		if _, err := again.Charge(t.Context(), b.wallet, b.limits); !errors.As(err, &waits) || waits.For < 29*24*time.Hour {
			t.Errorf("skewed by %s: err = %v", skew, err)
		}
	}
}

// P4: right PINs between do not empty the window; its end does.
func TestP4WindowIsNotResetBySuccess(t *testing.T) {
	b := newBench(t)
	b.limits.Window, b.limits.Days = 5, 30
	start := b.now
	for n := range 5 {
		b.charge().Failed()
		if n == 4 {
			break
		}
		if _, err := b.charge().Passed(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.now = b.now.Add(24 * time.Hour)
	}
	opens := start.Add(30 * 24 * time.Hour)
	a := b.attempts()
	if a.Left != 0 || a.Wait != opens.Sub(b.now) {
		t.Fatalf("%+v, want a wait of %s", a, opens.Sub(b.now))
	}
	b.now = opens.Add(-time.Second)
	if _, err := b.Charge(t.Context(), b.wallet, b.limits); err == nil {
		t.Fatal("a check within the full window")
	}
	b.now = opens
	if a := b.attempts(); a.Left != 1 || a.Wait != 0 {
		t.Fatalf("%+v, want one attempt when the first failure leaves the window", a)
	}
	b.charge().Failed()
}

// An attempt that an operator gives back ends a wait, is counted, and does not
// go beyond the cap.
func TestGiveBack(t *testing.T) {
	b := newBench(t)
	for range 10 {
		b.charge().Failed()
	}
	a, err := b.GiveBack(t.Context(), b.wallet, b.limits, 3)
	if err != nil || a.Left != 3 || a.Wait != 0 || a.Failures != 7 || b.stored().Given != 3 {
		t.Fatalf("%+v, %v", a, err)
	}
	for _, n := range []uint32{0, guard.GiveBackMax + 1} {
		if _, err := b.GiveBack(t.Context(), b.wallet, b.limits, n); !errors.Is(err, guard.ErrGiveBack) {
			t.Errorf("%d: err = %v", n, err)
		}
	}
	given := uint32(3)
	for ; given+10 <= guard.GivenMax; given += 10 {
		if _, err := b.GiveBack(t.Context(), b.wallet, b.limits, 10); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.GiveBack(t.Context(), b.wallet, b.limits, 10); !errors.Is(err, guard.ErrGivenAll) {
		t.Errorf("after %d: err = %v", given, err)
	}
}

// The lifetime budget grows by what was given back.
func TestGiveBackAfterALifetime(t *testing.T) {
	b := newBench(t)
	b.limits.Lifetime = 3
	for range 3 {
		b.charge().Failed()
	}
	if _, err := b.Charge(t.Context(), b.wallet, b.limits); !errors.Is(err, guard.ErrLocked) {
		t.Fatalf("err = %v, want ErrLocked", err)
	}
	if a, err := b.GiveBack(t.Context(), b.wallet, b.limits, 2); err != nil || a.Left != 2 {
		t.Fatalf("%+v, %v", a, err)
	}
}

// A TPM that does not confirm the charge costs nothing.
func TestUnanchoredChargeIsGivenBack(t *testing.T) {
	b := newBench(t)
	b.disk.stepErr = errors.Join(guard.ErrUnanchored, errDisk)
	if c, err := b.Charge(t.Context(), b.wallet, b.limits); !errors.Is(err, guard.ErrUnanchored) || c != nil {
		t.Fatalf("err = %v", err)
	}
	if r := b.stored(); r.Consecutive != 0 || r.Lifetime != 0 || b.disk.steps != 1 || b.disk.puts != 2 {
		t.Fatalf("%+v", r)
	}
}

// Only a charge takes a right away, so only a charge costs the TPM a step.
func TestOneStepForACheck(t *testing.T) {
	b := newBench(t)
	if _, err := b.charge().Passed(t.Context()); err != nil || b.disk.steps != 1 || b.disk.puts != 2 {
		t.Fatalf("%d steps, %d writes, %v", b.disk.steps, b.disk.puts, err)
	}
}

// After an operator accepted an older copy a wallet keeps 3 attempts at most,
// until a check passes.
func TestEpochCapsAttempts(t *testing.T) {
	for failures, want := range []uint32{3, 3, 3, 3, 3, 3, 3, 3, 2, 1, 0} {
		b := newBench(t)
		for range failures {
			b.charge().Failed()
		}
		b.disk.accepted = 2
		if a := b.attempts(); a.Left != want || a.Wait != 0 {
			t.Errorf("%d failures: %+v, want %d left", failures, a, want)
		}
		if want == 0 {
			continue
		}
		b.charge().Failed()
		if a := b.attempts(); a.Left != want-1 {
			t.Errorf("%d failures and one more: %+v", failures, a)
		}
		if want > 1 {
			if a, err := b.charge().Passed(t.Context()); err != nil || a.Left != 10 {
				t.Errorf("passed: %+v, %v", a, err)
			}
		}
	}
}

// A charge that could not be settled because a device failed is settled when it
// is back.
func TestLateSettlement(t *testing.T) {
	for name, settle := range map[string]func(*guard.Charge) error{
		"Passed": func(c *guard.Charge) error { _, err := c.Passed(t.Context()); return err },
		"Void":   func(c *guard.Charge) error { return c.Void(t.Context()) },
	} {
		b := newBench(t)
		c := b.charge()
		b.disk.full(errDisk)
		if err := settle(c); !errors.Is(err, errDisk) {
			t.Fatalf("%s: %v", name, err)
		}
		if r := b.stored(); r.Consecutive != 1 {
			t.Fatalf("%s: %+v", name, r)
		}
		b.disk.full(nil)
		if a := b.attempts(); a.Left != 10 || b.stored().Consecutive != 0 || b.stored().Lifetime != 0 {
			t.Errorf("%s: %+v", name, a)
		}
		if a := b.charge().Failed(); a.Left != 9 {
			t.Errorf("%s: %+v", name, a)
		}
	}
}
