package guard

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
)

// settlement is a charge's end that could not be written, because the token or
// the disk failed at that moment.
type settlement struct {
	charged *stored
	next    *Row
}

// late keeps settlements until their wallets' rows are read again. When the
// process ends before, the charge stands.
type late struct {
	mu   sync.Mutex
	list map[[16]byte]*settlement
	// turns lets one settlement of a wallet run at a time. One may name a row that
	// was never written, whose bytes a later charge may have: when that one is
	// written, nobody may hold the settlement any more.
	turns *locks
}

func (l *late) keep(wallet [16]byte, s *settlement) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list[wallet] = s
}

func (l *late) get(wallet [16]byte) *settlement {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.list[wallet]
}

func (l *late) drop(wallet [16]byte, s *settlement) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.list[wallet] == s {
		delete(l.list, wallet)
	}
}

// wallets lists those that wait.
func (l *late) wallets() [][16]byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Keys(l.list))
}

// SettleLate writes what could not be written before, for a stop in good order:
// after it the charges stand that it could not settle.
func (g *Guard) SettleLate(ctx context.Context) error {
	var errs []error
	for _, wallet := range g.late.wallets() {
		errs = append(errs, g.settleLate(ctx, wallet))
	}
	return errors.Join(errs...)
}

// settleLate writes what could not be written before. A row that is another by
// now was settled by somebody else.
func (g *Guard) settleLate(ctx context.Context, wallet [16]byte) error {
	if g.late.get(wallet) == nil {
		return nil
	}
	done, err := g.late.turns.lock(ctx, wallet)
	if err != nil {
		return err
	}
	defer done()
	s := g.late.get(wallet)
	if s == nil {
		return nil
	}
	_, err = g.put(ctx, s.charged, s.next, false)
	if err != nil && !errors.Is(err, ErrSwapped) && !errors.Is(err, ErrRefused) {
		return err // a refused database stays so: its wallets can be looked at
	}
	g.late.drop(wallet, s)
	return nil
}
