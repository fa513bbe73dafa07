package wallet_test

import (
	"math/big"
	"sync"
	"testing"

	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/wallet"
)

// bounded unlocks a wallet for a total of wei.
func bounded(t *testing.T, b *bench, wei int64) seal.ID {
	t.Helper()
	terms := anything()
	terms.Signatures, terms.TotalValue, terms.AnyTotal = 100, big.NewInt(wei), false
	id := b.create(t, "r").Info.Header.Wallet
	if _, err := b.unlock(id, goodPIN, terms); err != nil {
		t.Fatal(err)
	}
	return id
}

// The items of a batch are added up: each may be within what is left of the total
// where all of them are not.
func TestTotalOfABatch(t *testing.T) {
	b := newBench(t)
	id := bounded(t, b, 1000)
	batch := func(digest byte, wei ...int64) *wallet.SignRequest {
		r := &wallet.SignRequest{Peer: b.peer, Wallet: id}
		for n, w := range wei {
			r.Items = append(r.Items, wallet.Item{Digest: [32]byte{1, digest, byte(n)}, Facts: transfer(w)})
		}
		return r
	}
	for n, c := range []struct {
		wei []int64
		ok  bool
	}{
		{[]int64{600, 600}, false},
		{[]int64{600, 0, 401}, false},
		{[]int64{300, 300}, true},
		{[]int64{300, 101}, false}, // 400 are left
		{[]int64{101, 300}, false},
		{[]int64{100, 300}, true},
		{[]int64{1}, false},
	} {
		if _, err := b.sign(batch(byte(n), c.wei...)); (err == nil) != c.ok {
			t.Errorf("a batch of %v wei: %v", c.wei, err)
		}
	}
}

// Callers at the same time share one total exactly.
func TestTotalIsSharedExactly(t *testing.T) {
	b := newBench(t)
	id := bounded(t, b, 1000)
	var wg sync.WaitGroup
	var mu sync.Mutex
	signed := 0
	for n := range byte(16) {
		wg.Go(func() {
			if _, err := b.sign(unlocked(b, id, transfer(150), n)); err == nil {
				mu.Lock()
				defer mu.Unlock()
				signed++
			}
		})
	}
	wg.Wait()
	if signed != 6 {
		t.Errorf("%d transfers of 150 wei were signed within 1000", signed)
	}
}
