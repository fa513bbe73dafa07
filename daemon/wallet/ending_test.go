package wallet_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/wallet"
)

// endsOfUnlocks are all that ends unlocks whose end a signature might overtake.
func endsOfUnlocks(b *bench, id seal.ID) map[string]func(context.Context) error {
	ends := changesOfRights(b, id)
	ends["freezeAll"] = func(ctx context.Context) error {
		_, err := b.FreezeAll(ctx, b.operator(), nil, time.Hour)
		return err
	}
	ends["a user who is let in no more"] = func(ctx context.Context) error {
		_, err := b.LockUIDs(ctx, b.peer, func(uint32) bool { return true })
		return err
	}
	ends["the end of all unlocks"] = func(ctx context.Context) error { return b.CloseUnlocks(wallet.ErrRelock)(ctx, b.peer) }
	return ends
}

// An unlock that somebody ends is out of sight while its last signature is not done.
// Whoever takes the right away then is answered after that signature too.
func TestNoSignatureLeavesAfterASecondEnd(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(endsOfUnlocks(nil, seal.ID{}))) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			id := b.create(t, "r").Info.Header.Wallet
			endTwice(t, b, id, endsOfUnlocks(b, id)[name])
		})
	}
}

// endTwice has a signature wait for its line, a lock begin to end the unlock that it
// is by, and then the end.
func endTwice(t *testing.T, b *bench, id seal.ID, end func(context.Context) error) {
	if _, err := b.unlock(id, goodPIN, anything()); err != nil {
		t.Fatal(err)
	}
	waits, goOn := make(chan struct{}), make(chan struct{})
	b.audit.before = func(e wallet.Event) {
		if e.Action == "sign" {
			close(waits)
			<-goOn
		}
	}
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() {
		if _, err := b.sign(unlocked(b, id, text, 0)); err != nil {
			t.Errorf("the signature: %v", err)
		}
	})
	<-waits
	group.Go(func() {
		if locked, err := b.Lock(context.Background(), b.peer, id); err != nil || !locked {
			t.Errorf("the lock: %v, %v", locked, err)
		}
	})
	if err := b.awaitThat(func() bool { return b.Unlocks() == 0 }); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- end(context.Background()) }()
	time.AfterFunc(overtaken, func() { close(goOn) })
	if err := <-ended; err != nil {
		t.Errorf("the end: %v", err)
	}
	select {
	case <-goOn:
	default:
		t.Error("it was acknowledged while a signature was under way")
	}
}

// A wallet that is locked while it is being unlocked is locked afterwards, as the
// lines of the audit log say.
func TestLockBesideAnUnlockUnderWay(t *testing.T) {
	locks := endsOfUnlocks(nil, seal.ID{})
	for _, name := range []string{"lock", "lockAll", "a user who is let in no more", "the end of all unlocks"} {
		if locks[name] == nil {
			t.Fatalf("there is no %s", name)
		}
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			id := b.create(t, "r").Info.Header.Wallet
			locked := false
			b.audit.before = func(e wallet.Event) {
				locked = locked || e.Action == "lock" || e.Action == "lockAll"
				if e.Action == "unlock" && e.Result == "ok" {
					if err := endsOfUnlocks(b, id)[name](context.Background()); err != nil {
						t.Error(err)
					}
				}
			}
			if _, err := b.unlock(id, goodPIN, anything()); !errors.Is(err, wallet.ErrUnlockRequired) && !errors.Is(err, wallet.ErrRelock) {
				t.Errorf("unlock: %v", err)
			}
			if b.Unlocks() != 0 {
				t.Error("it is unlocked")
			}
			if last := b.audit.events[len(b.audit.events)-1]; last.Action != "unlock" || last.Result == "ok" {
				t.Errorf("the last line is %+v", last)
			}
			if err := b.objectsLeft(); err != nil {
				t.Error(err)
			}
			if name == "the end of all unlocks" {
				return
			}
			if !locked {
				t.Error("there is no line of the lock")
			}
			b.audit.before = nil
			if _, err := b.unlock(id, goodPIN, anything()); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

// A batch that is under way ends before its next item when somebody takes the right
// away, so that he waits for one signature only. The unlock's own end does not cut it.
func TestBatchIsCutShort(t *testing.T) {
	for cut, want := range map[bool]error{true: wallet.ErrUnlockRequired, false: nil} {
		b := newBench(t)
		id := b.create(t, "r").Info.Header.Wallet
		terms := anything() // of three signatures
		terms.Duration = time.Hour
		if _, err := b.unlock(id, goodPIN, terms); err != nil {
			t.Fatal(err)
		}
		request := unlocked(b, id, text, 0)
		for n := range byte(2) {
			request.Items = append(request.Items, unlocked(b, id, text, n+1).Items...)
		}
		var group sync.WaitGroup
		signed := 0
		b.token.during = map[string]func(){"SignECDSA": func() {
			if signed++; signed == 1 && cut {
				group.Go(func() { _, _ = b.Lock(context.Background(), b.peer, id) })
				if err := b.awaitThat(func() bool { return b.Unlocks() == 0 }); err != nil {
					t.Error(err)
				}
			}
		}}
		if _, err := b.sign(request); !errors.Is(err, want) {
			t.Errorf("cut: %v: %v, want %v", cut, err, want)
		}
		group.Wait()
		if wanted := map[bool]int{true: 1, false: 3}[cut]; signed != wanted {
			t.Errorf("cut: %v: %d items were signed", cut, signed)
		}
	}
}

// A panic in a signature is its request's error, and nobody waits for that signature
// for ever.
func TestPanicGivesTheUnlockBack(t *testing.T) {
	b := newBench(t)
	id := b.create(t, "r").Info.Header.Wallet
	if _, err := b.unlock(id, goodPIN, anything()); err != nil {
		t.Fatal(err)
	}
	b.audit.before = func(e wallet.Event) {
		if e.Action == "sign" {
			panic("a fault of the program")
		}
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		_, _ = b.sign(unlocked(b, id, text, 0))
	}()
	if err := changesOfRights(b, id)["freeze"](t.Context()); err != nil {
		t.Error(err)
	}
}
