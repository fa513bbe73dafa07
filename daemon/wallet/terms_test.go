package wallet_test

import (
	"errors"
	"fmt"
	"math/big"
	"sync"
	"testing"

	"github.com/sigild/sigild/daemon/policy"
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

// call is a transaction with call data and no value.
func call(to string) policy.Facts {
	f := transfer(0)
	f.Recipient, f.Selector, f.DataLength = to, []byte{0xb6, 0x1d, 0x27, 0xf6}, 100
	return f
}

// An account's own code moves what nobody sees: neither a bound of the wallet's
// policy nor one of the terms lets it be called. What replaces a stuck transaction,
// nothing to oneself, is signed.
func TestOwnCodeIsOfUnknownValue(t *testing.T) {
	b := newBench(t)
	bounds := func(p policy.Policy) policy.Policy { p.AnyValue = false; return p }
	limited := b.creation("limited")
	limited.Policy = bounds(limited.Policy)
	tight, err := b.Create(t.Context(), limited)
	if err != nil {
		t.Fatal(err)
	}
	free := b.create(t, "free")
	anyValue, total, maxValue := anything(), anything(), anything()
	total.AnyTotal = false
	maxValue.Rules = bounds(maxValue.Rules)
	for name, c := range map[string]struct {
		info  *wallet.Info
		terms *wallet.Terms // nil: the PIN
		want  any
	}{
		"with the PIN":                {free.Info, nil, nil},
		"unlocked for any value":      {free.Info, &anyValue, nil},
		"policy with a bound":         {tight.Info, nil, new(*wallet.DeniedError)},
		"policy with a bound, terms":  {tight.Info, &anyValue, new(*wallet.DeniedError)},
		"terms that bound the total":  {free.Info, &total, new(*wallet.TermsError)},
		"terms that bound each value": {free.Info, &maxValue, new(*wallet.TermsError)},
	} {
		h := c.info.Header
		own := fmt.Sprintf("0x%x", h.Accounts[0].Address)
		sign := func(f policy.Facts) error {
			r := unlocked(b, h.Wallet, f, 1)
			if r.PIN = []byte(goodPIN); c.terms != nil {
				r.PIN = nil
				if _, err := b.unlock(h.Wallet, goodPIN, *c.terms); err != nil {
					t.Fatal(err)
				}
			}
			_, err := b.sign(r)
			return err
		}
		if err := sign(call(own)); (err == nil) != (c.want == nil) || c.want != nil && !errors.As(err, c.want) {
			t.Errorf("%s: a call of its own code: %v", name, err)
		}
		nothing := transfer(0)
		nothing.Recipient = own
		for what, f := range map[string]policy.Facts{"nothing to itself": nothing, "a call of another": call(recipient)} {
			if err := sign(f); err != nil {
				t.Errorf("%s: %s: %v", name, what, err)
			}
		}
	}
}
