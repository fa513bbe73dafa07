package store_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/wallet"
)

// indexed is wallet n with a name, tags and a time of creation of its own.
func indexed(n uint32, name string, tags ...string) wallet.NewWallet {
	w := newWallet(n, 1000, "user")
	w.Index.Created, w.Index.ExternalID, w.Index.Tags = 1_800_000_000+int64(n), name, tags
	return w
}

// byName is the wallet of an external id, nil when there is none.
func byName(t *testing.T, s *database, relay uint32, name string) *seal.ID {
	t.Helper()
	id, err := s.ByExternalID(t.Context(), relay, name)
	if errors.Is(err, wallet.ErrNotFound) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return &id
}

// An external id names one wallet of a relay, and another relay may use it too.
func TestExternalIDIsUniqueForARelay(t *testing.T) {
	s := newStore(t)
	create(t, s, indexed(0, "crm:1"))
	if err := s.Create(t.Context(), indexed(1, "crm:1")); !errors.Is(err, wallet.ErrExternalID) {
		t.Fatalf("err = %v, want ErrExternalID", err)
	}
	other := indexed(2, "crm:1")
	other.Relay = 1001
	create(t, s, other)
	if id := byName(t, s, 1000, "crm:1"); id == nil || *id != walletID(0) {
		t.Errorf("relay 1000: %x", id)
	}
	if id := byName(t, s, 1001, "crm:1"); id == nil || *id != walletID(2) {
		t.Errorf("relay 1001: %x", id)
	}
	if _, err := s.Record(t.Context(), walletID(1)); !errors.Is(err, wallet.ErrNotFound) {
		t.Errorf("the refused wallet: err = %v, want ErrNotFound", err)
	}
}

// A change moves the rows of the index with the record, or nothing.
func TestReplaceMovesTheIndex(t *testing.T) {
	s := newStore(t)
	a, b := indexed(0, "a", "cold", "eu"), indexed(1, "b", "cold")
	create(t, s, a)
	create(t, s, b)
	taken := a.Index
	taken.ExternalID, taken.Tags = "b", []string{"hot"}
	change := wallet.Change{Wallet: a.Wallet, Relay: 1000, Prev: a.Record, Next: []byte("next"), Before: &a.Index, After: &taken}
	if err := s.Replace(t.Context(), change); !errors.Is(err, wallet.ErrExternalID) {
		t.Fatalf("err = %v, want ErrExternalID", err)
	}
	if got, _ := list(t, s, wallet.Page{Relay: 1000, Tag: "hot", Limit: 5}); len(got) != 0 || byName(t, s, 1000, "a") == nil {
		t.Fatal("the refused change left something")
	}
	after := a.Index
	after.ExternalID, after.Tags = "c", []string{"eu", "hot"}
	change.After = &after
	if err := s.Replace(t.Context(), change); err != nil {
		t.Fatal(err)
	}
	if id := byName(t, s, 1000, "c"); byName(t, s, 1000, "a") != nil || id == nil || *id != a.Wallet {
		t.Errorf("the new external id gives %x", id)
	}
	for tag, want := range map[string][]seal.ID{"cold": {b.Wallet}, "eu": {a.Wallet}, "hot": {a.Wallet}, "": {a.Wallet, b.Wallet}} {
		if got, _ := list(t, s, wallet.Page{Relay: 1000, Tag: tag, Limit: 1}); !slices.Equal(got, want) {
			t.Errorf("tag %q: %x, want %x", tag, got, want)
		}
	}
}

// From is the first second of a page, Until the first after it.
func TestListBetweenTimes(t *testing.T) {
	s := newStore(t)
	for n := range uint32(10) {
		create(t, s, indexed(n, "", "tag"))
	}
	const start = int64(1_800_000_000)
	for _, c := range []struct {
		from, until int64
		first, end  int
	}{{0, 0, 0, 10}, {start + 3, 0, 3, 10}, {0, start + 3, 0, 3}, {start + 2, start + 5, 2, 5}, {start + 20, 0, 10, 10}, {start + 5, start + 5, 5, 5}, {-1, 0, 0, 10}} {
		var want []seal.ID
		for n := c.first; n < c.end; n++ {
			want = append(want, walletID(uint32(n)))
		}
		for _, tag := range []string{"", "tag"} {
			if got, _ := list(t, s, wallet.Page{Relay: 1000, Tag: tag, From: c.from, Until: c.until, Limit: 2}); !slices.Equal(got, want) {
				t.Errorf("tag %q from %d until %d: %d wallets, want %d", tag, c.from, c.until, len(got), len(want))
			}
		}
	}
}

// A removed wallet is gone from everywhere but the requests, so that a late
// retry of its creation makes no second one.
func TestRemove(t *testing.T) {
	s := newStore(t)
	w, stays := indexed(0, "a", "cold"), indexed(1, "b", "cold")
	create(t, s, w)
	create(t, s, stays)
	dead := w.Index
	dead.Deleted = 1_900_000_000
	if err := s.Replace(t.Context(), wallet.Change{Wallet: w.Wallet, Relay: 1000, Prev: w.Record, Next: []byte("tomb"), Before: &w.Index, After: &dead}); err != nil {
		t.Fatal(err)
	}
	r := wallet.Removal{Wallet: w.Wallet, Relay: 1000, Prev: w.Record, Index: dead, Addresses: [][20]byte{w.Address}}
	if err := s.Remove(t.Context(), r); !errors.Is(err, wallet.ErrConflict) {
		t.Fatalf("err = %v, want ErrConflict", err)
	}
	if ids, _, err := s.Tombstones(t.Context(), dead.Deleted+1, nil, 10); err != nil || !slices.Equal(ids, []seal.ID{w.Wallet}) {
		t.Fatalf("tombstones %x, %v", ids, err)
	}
	r.Prev = []byte("tomb")
	if err := s.Remove(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	checkGone(t, s, w)
	if ids, err := s.Everything(t.Context(), nil, 10); err != nil || !slices.Equal(ids, []seal.ID{stays.Wallet}) {
		t.Errorf("left %x, %v", ids, err)
	}
	if err := s.Create(t.Context(), w); !errors.Is(err, wallet.ErrRequestReused) {
		t.Errorf("a late retry: err = %v, want ErrRequestReused", err)
	}
}

func checkGone(t *testing.T, s *database, w wallet.NewWallet) {
	t.Helper()
	if _, err := s.Record(t.Context(), w.Wallet); !errors.Is(err, wallet.ErrNotFound) {
		t.Errorf("record: err = %v, want ErrNotFound", err)
	}
	if _, err := s.ByAddress(t.Context(), w.Relay, w.Address); !errors.Is(err, wallet.ErrNotFound) {
		t.Errorf("address: err = %v, want ErrNotFound", err)
	}
	if row, err := s.GuardRow(t.Context(), w.Wallet); row != nil || err != nil {
		t.Errorf("attempt counter %x, %v", row, err)
	}
	if byName(t, s, w.Relay, w.Index.ExternalID) != nil {
		t.Error("the external id is left")
	}
	for _, p := range []wallet.Page{{}, {Owner: w.Index.Owner}, {Tag: w.Index.Tags[0]}} {
		p.Relay, p.Limit = w.Relay, 10
		if ids, _ := list(t, s, p); slices.Contains(ids, w.Wallet) {
			t.Errorf("%+v lists it", p)
		}
	}
	if ids, _, err := s.Tombstones(t.Context(), 1<<40, nil, 10); err != nil || len(ids) != 0 {
		t.Errorf("tombstones %x, %v", ids, err)
	}
}

func TestTombstonesAreOldestFirst(t *testing.T) {
	s := newStore(t)
	for n := range uint32(5) {
		w := indexed(n, "")
		w.Index.Deleted = 1_900_000_000 - int64(n)
		create(t, s, w)
	}
	ids, _, err := s.Tombstones(t.Context(), 1_900_000_000, nil, 3)
	if want := []seal.ID{walletID(4), walletID(3), walletID(2)}; err != nil || !slices.Equal(ids, want) {
		t.Fatalf("%x, %v, want %x", ids, err, want)
	}
}

func TestEverythingInPages(t *testing.T) {
	s := newStore(t)
	var want, got []seal.ID
	for n := range uint32(20) {
		create(t, s, newWallet(n, 1000+n%3, "user"))
		want = append(want, walletID(n))
	}
	slices.SortFunc(want, func(a, b seal.ID) int { return bytes.Compare(a[:], b[:]) })
	var after *seal.ID
	for {
		ids, err := s.Everything(t.Context(), after, 6)
		if err != nil {
			t.Fatal(err)
		}
		if len(ids) == 0 {
			break
		}
		got, after = append(got, ids...), &ids[len(ids)-1]
	}
	if !slices.Equal(got, want) {
		t.Fatalf("%d wallets, want 20 by id", len(got))
	}
}
