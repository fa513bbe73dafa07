package tpm_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/sigild/sigild/tpm"
)

func TestConcurrentCallers(t *testing.T) {
	h := newHost(t)
	approval := h.approve(t)
	values := [][]byte{random(t, tpm.HMACKeySize), random(t, tpm.HMACKeySize)}
	var keys []*tpm.HMACKey
	for _, value := range values {
		keys = append(keys, h.loadKey(t, h.createKey(t, value), approval))
	}
	counter := define(t, h.TPM, 0x01800001, true)
	start := read(t, counter)
	sealed := h.seal(t, []byte("token PIN"))

	const callers, rounds = 4, 6
	var mu sync.Mutex
	seen := map[uint64]bool{}
	var group sync.WaitGroup
	for caller := range callers {
		group.Go(func() {
			for round := range rounds {
				message := fmt.Appendf(nil, "%d/%d", caller, round)
				which := (caller + round) % 2
				if mac, err := keys[which].HMAC(t.Context(), message); err != nil || mac != software(values[which], message) {
					t.Errorf("HMAC: %v", err)
				}
				value, err := counter.Increment(t.Context())
				if err != nil {
					t.Errorf("Increment: %v", err)
				}
				mu.Lock()
				if seen[value] {
					t.Errorf("two increments give %d", value)
				}
				seen[value] = true
				mu.Unlock()
				if _, err := h.Random(t.Context(), 40); err != nil {
					t.Errorf("Random: %v", err)
				}
			}
			if got, err := h.Unseal(t.Context(), sealed, h.authority, []tpm.Approval{approval}); err != nil || string(got) != "token PIN" {
				t.Errorf("Unseal: %v", err)
			}
		})
	}
	group.Wait()
	if got := read(t, counter); got != start+callers*rounds {
		t.Errorf("%d increments counted, want %d", got-start, callers*rounds)
	}
	for _, key := range keys {
		if err := key.Close(); err != nil {
			t.Error(err)
		}
	}
	if loaded := h.instance.Loaded(t); len(loaded) != 2 {
		t.Errorf("loaded are %#x, want the storage root key and the counter's session", loaded)
	}
}

func BenchmarkHMAC(b *testing.B) {
	h := newHost(b)
	key := h.loadKey(b, h.createKey(b, random(b, tpm.HMACKeySize)), h.approve(b))
	message := random(b, 96)
	for b.Loop() {
		if _, err := key.HMAC(b.Context(), message); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkIncrement(b *testing.B) {
	counter := define(b, newHost(b).TPM, 0x01800001, true)
	for b.Loop() {
		increment(b, counter)
	}
}

func BenchmarkRandom32(b *testing.B) {
	h := newHost(b)
	for b.Loop() {
		if _, err := h.Random(b.Context(), 32); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUnseal(b *testing.B) {
	h := newHost(b)
	blob, approvals := h.seal(b, random(b, 32)), []tpm.Approval{h.approve(b)}
	for b.Loop() {
		if _, err := h.Unseal(b.Context(), blob, h.authority, approvals); err != nil {
			b.Fatal(err)
		}
	}
}
