package wallet_test

import (
	"context"
	"sync"
	"testing"

	"github.com/sigild/sigild/daemon/guard"
	"github.com/sigild/sigild/daemon/store"
)

// memoryCounter is a TPM's counter; the anchor itself is tested in guard.
type memoryCounter struct {
	mu    sync.Mutex
	value uint64
}

func (c *memoryCounter) Read(context.Context) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.value, nil
}

func (c *memoryCounter) Increment(context.Context) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.value++
	return c.value, nil
}

func (c *memoryCounter) Name() []byte  { return []byte("counter") }
func (c *memoryCounter) Orderly() bool { return false }

// newLedger makes the guard root of a new database and opens its ledger.
func newLedger(t testing.TB, db *store.Store, mac guard.MAC) (*guard.Ledger[*store.Tx], *memoryCounter) {
	t.Helper()
	keys, counter := make([]byte, 32), &memoryCounter{value: 1}
	root, err := guard.NewRoot(t.Context(), [16]byte{1}, keys, counter, nil, 0, mac)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Put(t.Context(), map[store.Document][]byte{store.GuardRoot: root}); err != nil {
		t.Fatal(err)
	}
	l, err := guard.Open(t.Context(), guard.Config[*store.Tx]{Disk: db, MAC: mac, Installation: [16]byte{1}, Keys: keys,
		Anchor: counter, Resets: func(context.Context) (uint32, error) { return 0, nil }})
	if err != nil {
		t.Fatal(err)
	}
	return l, counter
}
