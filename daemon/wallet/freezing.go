package wallet

import (
	"slices"
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
	every   int      // freezes of all wallets under way
	windows []window // of those between two of their calls
}

// window is the time in which the next call of a freeze of all wallets, which goes on
// after this wallet, is waited for.
type window struct {
	after seal.ID
	until time.Time
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

// betweenCalls is how long all wallets stay refused until the next call for the rest
// of them.
const betweenCalls = 10 * time.Second

// markAll stops the uses of every wallet until done. One freeze of all wallets takes
// several calls: after one that failed nobody waits for the next, after one that says
// where to go on everybody does for a while, and after the last of them nobody, also
// not for a second freeze, as all are frozen. after is where the call before said so.
func (f *freezing) markAll(after *seal.ID) (done func(next *seal.ID, err error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.every++
	whole := f.close(after) || after == nil // it began with the first wallet
	return func(next *seal.ID, err error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.every--
		switch {
		case err != nil:
		case next != nil:
			f.windows = append(f.windows, window{*next, time.Now().Add(betweenCalls)})
		case whole:
			f.windows = nil
		}
	}
}

// close ends one window after this wallet and reports whether there was one that
// still stood. It ends those whose time has passed.
func (f *freezing) close(after *seal.ID) (stood bool) {
	now := time.Now()
	f.windows = slices.DeleteFunc(f.windows, func(w window) bool {
		if !now.Before(w.until) {
			return true
		}
		if after == nil || stood || w.after != *after {
			return false
		}
		stood = true
		return true
	})
	return stood
}

func (f *freezing) has(wallet seal.ID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.wallets[wallet] > 0 || f.every > 0 {
		return true
	}
	f.close(nil)
	return len(f.windows) > 0
}
