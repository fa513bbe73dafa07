package wallet

import (
	"sync"
	"time"

	"github.com/sigild/sigild/daemon/seal"
)

// freezing are the wallets that somebody who may do so is freezing: a freeze waits
// for its turn behind every PIN check that came before it, and what it says must
// hold for those checks too. There are no more of them than requests under way.
type freezing struct {
	mu      sync.Mutex
	wallets map[seal.ID]int
	every   int       // freezes of all wallets under way
	until   time.Time // all wallets count as being frozen until then
}

func newFreezing() *freezing { return &freezing{wallets: map[seal.ID]int{}} }

// mark stops the uses of a wallet until done, which is when its record says frozen,
// or when the freeze failed.
func (f *freezing) mark(wallet seal.ID) (done func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wallets[wallet]++
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.wallets[wallet]--; f.wallets[wallet] == 0 {
			delete(f.wallets, wallet)
		}
	}
}

// markAll stops the uses of every wallet until done, and for as long after it as it
// is told: one freeze of all wallets takes several requests.
func (f *freezing) markAll() (done func(longer time.Duration)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.every++
	return func(longer time.Duration) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.every--
		f.until = time.Now().Add(longer)
	}
}

func (f *freezing) has(wallet seal.ID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.wallets[wallet] > 0 || f.every > 0 || time.Now().Before(f.until)
}
