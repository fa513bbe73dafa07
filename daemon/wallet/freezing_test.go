package wallet_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/wallet"
)

// askedTurns tells of each request that asks for a wallet's turn.
type askedTurns struct {
	wallet.Guard
	asked chan seal.ID
}

func (g *askedTurns) Turn(ctx context.Context, id seal.ID) (func(), error) {
	g.asked <- id
	return g.Guard.Turn(ctx, id)
}

// await returns when n requests have asked for their turn.
func (g *askedTurns) await(n int) {
	for range n {
		<-g.asked
	}
}

func (b *bench) askedTurns() *askedTurns {
	g := &askedTurns{Guard: b.Service.Guard, asked: make(chan seal.ID, 100)}
	b.Service.Guard = g
	return g
}

// signing begins a signature by PIN.
func (b *bench) signing(id seal.ID, digest byte) chan error {
	result, r := make(chan error, 1), message(b, id, 0, goodPIN, [32]byte{digest})
	go func() {
		_, _, err := b.Service.Sign(context.Background(), r)
		result <- err
	}()
	return result
}

func (b *bench) freezes(id seal.ID) chan error {
	result := make(chan error, 1)
	go func() {
		_, err := b.Freeze(context.Background(), wallet.Actor{Peer: b.peer}, id, "relay")
		result <- err
	}()
	return result
}

// checkUncharged fails the test when a wallet's PIN check was charged and not passed.
func (b *bench) checkUncharged(t *testing.T, id seal.ID) {
	t.Helper()
	info, err := b.Get(t.Context(), b.peer, id)
	if err != nil || info.Attempts.Left != 10 || info.Attempts.Failures != 0 {
		t.Errorf("%+v, %v: something was charged", info, err)
	}
}

// What waits for its turn when a freeze comes is refused, though it asked first:
// only the check that was charged already signs. No key is given out either.
func TestFreezeOvertakesWhatWaits(t *testing.T) {
	b := custodyBench(t)
	r := b.creation("r")
	r.Exportable = true
	id := b.bringIn(t, r).Info.Header.Wallet
	turns := b.askedTurns()
	begun, goOn := make(chan struct{}, 100), make(chan struct{})
	b.token.during = map[string]func(){"Pepper": func() { begun <- struct{}{}; <-goOn }}
	first := b.signing(id, 99)
	<-begun
	var others []chan error
	for n := range byte(20) {
		others = append(others, b.signing(id, n+1))
	}
	taken := make(chan error, 1)
	go func() {
		_, err := b.takeOut(id, 0, goodPIN, &taker{})
		taken <- err
	}()
	others = append(others, taken)
	turns.await(22)
	frozen := b.freezes(id)
	turns.await(1)
	close(goOn)
	if err := <-first; err != nil {
		t.Errorf("the one that was under way: %v", err)
	}
	for _, result := range others {
		if err := <-result; !errors.Is(err, wallet.ErrFrozen) {
			t.Errorf("one that waited: %v, want ErrFrozen", err)
		}
	}
	if err := <-frozen; err != nil {
		t.Error(err)
	}
	b.checkUncharged(t, id)
}

// A check that has its turn and waits for a slot is not charged when a freeze
// came meanwhile.
func TestFreezeComesBeforeTheCharge(t *testing.T) {
	b := newBench(t)
	ids := []seal.ID{b.create(t, "r0").Info.Header.Wallet, b.create(t, "r1").Info.Header.Wallet, b.create(t, "r2").Info.Header.Wallet}
	turns := b.askedTurns()
	begun, goOn, decided := make(chan struct{}, 100), make(chan struct{}), make(chan struct{}, 100)
	b.token.during = map[string]func(){"Pepper": func() { begun <- struct{}{}; <-goOn }}
	b.Service.Observe = func(stage wallet.Stage, _ time.Duration) {
		if stage == wallet.StagePolicy {
			decided <- struct{}{}
		}
	}
	first := b.signing(ids[0], 1)
	second := b.signing(ids[1], 2) // both slots are taken
	<-begun
	<-begun
	third := b.signing(ids[2], 3)
	for range 3 {
		<-decided
	}
	turns.await(3)
	frozen := b.freezes(ids[2])
	turns.await(1)
	close(goOn)
	if err := <-third; !errors.Is(err, wallet.ErrFrozen) {
		t.Errorf("%v, want ErrFrozen", err)
	}
	if err := errors.Join(<-frozen, <-first, <-second); err != nil {
		t.Error(err)
	}
	b.checkUncharged(t, ids[2])
}

// A freeze that was not written leaves no mark: the wallet is as it was.
func TestFreezeThatFailsLeavesNoMark(t *testing.T) {
	b := newBench(t)
	id := b.create(t, "r").Info.Header.Wallet
	b.store.fail["Replace"] = errors.New("disk full")
	if err := <-b.freezes(id); err == nil {
		t.Fatal("froze without a disk")
	}
	delete(b.store.fail, "Replace")
	if _, err := b.sign(message(b, id, 0, goodPIN, [32]byte{1})); err != nil {
		t.Error(err)
	}
}
