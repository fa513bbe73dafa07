package store_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/wallet"
)

// checkWhole wants every part of wallet n as it was created.
func checkWhole(t testing.TB, s *database, n uint32) {
	t.Helper()
	w := newWallet(n, 1000, "user")
	record, err := s.Record(t.Context(), w.Wallet)
	if err != nil || !bytes.Equal(record, w.Record) {
		t.Fatalf("wallet %d: record %x, %v", n, record, err)
	}
	row, err := s.GuardRow(t.Context(), w.Wallet)
	if err != nil || !bytes.Equal(row, w.Guard) {
		t.Fatalf("wallet %d: attempt counter %x, %v", n, row, err)
	}
	if id, err := s.ByAddress(t.Context(), w.Relay, w.Address); err != nil || id != w.Wallet {
		t.Fatalf("wallet %d: by address %x, %v", n, id, err)
	}
	if value, err := s.Request(t.Context(), w.Request.Key); err != nil || !bytes.Equal(value, w.Request.Value) {
		t.Fatalf("wallet %d: request %x, %v", n, value, err)
	}
}

func TestCreateIsReadBack(t *testing.T) {
	s := newStore(t)
	for n := range uint32(10) {
		create(t, s, newWallet(n, 1000, "user"))
	}
	for n := range uint32(10) {
		checkWhole(t, s, n)
	}
	if n, err := s.Count(t.Context()); err != nil || n != 10 {
		t.Fatalf("count %d, %v", n, err)
	}
}

func TestUnknownWalletIsNotFound(t *testing.T) {
	s := newStore(t)
	w := newWallet(0, 1000, "user")
	create(t, s, w)
	_, record := s.Record(t.Context(), walletID(1))
	_, address := s.ByAddress(t.Context(), 1000, [20]byte{1})
	_, another := s.ByAddress(t.Context(), 1001, w.Address)
	for name, err := range map[string]error{"record": record, "address": address, "another relay's address": another} {
		if !errors.Is(err, wallet.ErrNotFound) {
			t.Errorf("%s: err = %v, want ErrNotFound", name, err)
		}
	}
	if value, err := s.Request(t.Context(), wallet.RequestKey{1}); value != nil || err != nil {
		t.Errorf("request: %x, %v, want nothing", value, err)
	}
	if row, err := s.GuardRow(t.Context(), walletID(1)); row != nil || err != nil {
		t.Errorf("attempt counter: %x, %v, want nothing", row, err)
	}
}

// A creation that is refused leaves nothing behind.
func TestCreateIsAtomic(t *testing.T) {
	s := newStore(t)
	create(t, s, newWallet(0, 1000, "user"))
	reused, sameID := newWallet(1, 1000, "user"), newWallet(1, 1000, "user")
	reused.Request.Key = newWallet(0, 1000, "user").Request.Key
	sameID.Wallet = walletID(0)
	sameAddress := newWallet(1, 1000, "user")
	sameAddress.Address = newWallet(0, 1000, "user").Address
	for name, c := range map[string]struct {
		w    wallet.NewWallet
		want error
	}{
		"request reused":     {reused, wallet.ErrRequestReused},
		"a wallet's own id":  {sameID, wallet.ErrConflict},
		"everything is same": {newWallet(0, 1000, "user"), wallet.ErrRequestReused},
		"a wallet's address": {sameAddress, wallet.ErrAddressTaken},
	} {
		if err := s.Create(t.Context(), c.w); !errors.Is(err, c.want) {
			t.Errorf("%s: err = %v, want %v", name, err, c.want)
		}
	}
	checkOnlyFirst(t, s)
}

// checkOnlyFirst wants wallet 0 whole and nothing of wallet 1.
func checkOnlyFirst(t *testing.T, s *database) {
	t.Helper()
	checkWhole(t, s, 0)
	w := newWallet(1, 1000, "user")
	if _, err := s.Record(t.Context(), w.Wallet); !errors.Is(err, wallet.ErrNotFound) {
		t.Errorf("record: err = %v, want ErrNotFound", err)
	}
	if row, err := s.GuardRow(t.Context(), w.Wallet); row != nil || err != nil {
		t.Errorf("an attempt counter was left: %x, %v", row, err)
	}
	if _, err := s.ByAddress(t.Context(), w.Relay, w.Address); !errors.Is(err, wallet.ErrNotFound) {
		t.Errorf("address: err = %v, want ErrNotFound", err)
	}
	for _, owner := range []string{"", "user"} {
		if ids, _ := list(t, s, wallet.Page{Relay: 1000, Owner: owner, Limit: 10}); !slices.Equal(ids, []seal.ID{walletID(0)}) {
			t.Errorf("owner %q: list %x", owner, ids)
		}
	}
	if value, err := s.Request(t.Context(), w.Request.Key); value != nil || err != nil {
		t.Errorf("a request was left: %x, %v", value, err)
	}
	if n, err := s.Count(t.Context()); err != nil || n != 1 {
		t.Errorf("count %d, %v", n, err)
	}
}

func TestReplace(t *testing.T) {
	s := newStore(t)
	w := newWallet(0, 1000, "user")
	create(t, s, w)
	address := [20]byte{7}
	c := wallet.Change{Wallet: w.Wallet, Relay: w.Relay, Prev: w.Record, Next: []byte("next"), Addresses: [][20]byte{address},
		Request: &wallet.Request{Key: wallet.RequestKey{7}, Value: []byte("done")}}
	if err := s.Replace(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if record, err := s.Record(t.Context(), w.Wallet); err != nil || string(record) != "next" {
		t.Errorf("record %q, %v", record, err)
	}
	for _, a := range [][20]byte{w.Address, address} {
		if id, err := s.ByAddress(t.Context(), 1000, a); err != nil || id != w.Wallet {
			t.Errorf("address %x: %x, %v", a, id, err)
		}
	}
	if value, err := s.Request(t.Context(), wallet.RequestKey{7}); err != nil || string(value) != "done" {
		t.Errorf("request %q, %v", value, err)
	}
	if err := s.Replace(t.Context(), wallet.Change{Wallet: w.Wallet, Prev: []byte("next"), Next: []byte("last")}); err != nil {
		t.Errorf("without address and request: %v", err)
	}
}

// A change that came second, or under a known request, changes nothing.
func TestReplaceIsAtomic(t *testing.T) {
	s := newStore(t)
	w := newWallet(0, 1000, "user")
	create(t, s, w)
	address, fresh := [20]byte{7}, &wallet.Request{Key: wallet.RequestKey{7}, Value: []byte("done")}
	for name, c := range map[string]struct {
		change wallet.Change
		want   error
	}{
		"another was first": {wallet.Change{Wallet: w.Wallet, Prev: []byte("other"), Request: fresh}, wallet.ErrConflict},
		"no such wallet":    {wallet.Change{Wallet: walletID(1), Prev: w.Record, Request: fresh}, wallet.ErrConflict},
		"request reused":    {wallet.Change{Wallet: w.Wallet, Prev: w.Record, Request: &w.Request}, wallet.ErrRequestReused},
	} {
		c.change.Relay, c.change.Next, c.change.Addresses = 1000, []byte("next"), [][20]byte{address}
		if err := s.Replace(t.Context(), c.change); !errors.Is(err, c.want) {
			t.Errorf("%s: err = %v, want %v", name, err, c.want)
		}
	}
	checkWhole(t, s, 0)
	if _, err := s.ByAddress(t.Context(), 1000, address); !errors.Is(err, wallet.ErrNotFound) {
		t.Errorf("address: err = %v, want ErrNotFound", err)
	}
	if value, err := s.Request(t.Context(), fresh.Key); value != nil || err != nil {
		t.Errorf("request %x, %v, want nothing", value, err)
	}
}

// listing is a relay, and one of its owners or all.
type listing struct {
	relay uint32
	owner string
}

// fillTwo creates 25 wallets for each of two owners of each of two relays and
// gives what each listing is to hold, in the order of creation.
func fillTwo(t *testing.T, s *database) map[listing][]seal.ID {
	t.Helper()
	want := map[listing][]seal.ID{}
	for n := range uint32(100) {
		relay, owner := 1000+n/2%2, []string{"ann", "bob"}[n%2]
		w := newWallet(n, relay, owner)
		w.Index.Created = 1_800_000_000 + int64(n)
		create(t, s, w)
		want[listing{relay, ""}] = append(want[listing{relay, ""}], w.Wallet)
		want[listing{relay, owner}] = append(want[listing{relay, owner}], w.Wallet)
	}
	return want
}

// Two relays that have owners of the same names see only their own wallets,
// oldest first, whatever the pages' size.
func TestListPages(t *testing.T) {
	s := newStore(t)
	for l, ids := range fillTwo(t, s) {
		for _, limit := range []int{1, 2, 7, 25, 50, 51, 1000} {
			got, pages := list(t, s, wallet.Page{Relay: l.relay, Owner: l.owner, Limit: limit})
			if !slices.Equal(got, ids) || pages != (len(ids)+limit-1)/limit {
				t.Errorf("%+v, limit %d: %d wallets in %d pages, want %d", l, limit, len(got), pages, len(ids))
			}
		}
	}
	for _, l := range []listing{{1002, ""}, {1000, "eve"}, {1000, "an"}} {
		if got, _ := list(t, s, wallet.Page{Relay: l.relay, Owner: l.owner, Limit: 10}); len(got) != 0 {
			t.Errorf("%+v lists %x", l, got)
		}
	}
}

// Wallets of one second come in the order of their ids, none twice.
func TestListOfOneSecond(t *testing.T) {
	s := newStore(t)
	var want []seal.ID
	for n := range uint32(40) {
		w := newWallet(n, 1000, "user")
		w.Index.Created = 1_800_000_000
		create(t, s, w)
		want = append(want, w.Wallet)
	}
	slices.SortFunc(want, func(a, b seal.ID) int { return bytes.Compare(a[:], b[:]) })
	if got, _ := list(t, s, wallet.Page{Relay: 1000, Limit: 7}); !slices.Equal(got, want) {
		t.Fatalf("%d wallets, want 40 in the order of their ids", len(got))
	}
}

// A cursor is a place and gives no right: another relay's continues in one's own.
func TestForeignCursor(t *testing.T) {
	s := newStore(t)
	want := fillTwo(t, s)
	_, cursor, err := s.List(t.Context(), wallet.Page{Relay: 1001, Owner: "bob", Limit: 5})
	if err != nil || cursor == nil {
		t.Fatalf("cursor %x, %v", cursor, err)
	}
	own := want[listing{1000, "ann"}]
	got, _, err := s.List(t.Context(), wallet.Page{Relay: 1000, Owner: "ann", After: cursor, Limit: 100})
	if err != nil || len(got) == 0 || !slices.Equal(got, own[len(own)-len(got):]) {
		t.Fatalf("%d wallets, %v, want the last of the relay's own", len(got), err)
	}
}

func TestMadeUpCursors(t *testing.T) {
	s := newStore(t)
	fillTwo(t, s)
	for _, cursor := range [][]byte{{}, {1}, make([]byte, 23), make([]byte, 25), make([]byte, 4096)} {
		var field *wallet.FieldError
		if _, _, err := s.List(t.Context(), wallet.Page{Relay: 1000, After: cursor, Limit: 5}); !errors.As(err, &field) || field.Field != "cursor" {
			t.Errorf("%d bytes: err = %v, want a FieldError", len(cursor), err)
		}
	}
	first, _, err := s.List(t.Context(), wallet.Page{Relay: 1000, After: make([]byte, 24), Limit: 100})
	if err != nil || len(first) != 50 {
		t.Errorf("the least cursor: %d wallets, %v", len(first), err)
	}
	last, _, err := s.List(t.Context(), wallet.Page{Relay: 1000, After: bytes.Repeat([]byte{0xff}, 24), Limit: 100})
	if err != nil || len(last) != 0 {
		t.Errorf("the greatest cursor: %d wallets, %v", len(last), err)
	}
}

// Who hung up before the transaction began has changed nothing.
func TestEndedContext(t *testing.T) {
	s := newStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := newWallet(0, 1000, "user")
	_, record := s.Record(ctx, w.Wallet)
	_, nonce := s.Nonce(ctx, [16]byte{1}, [16]byte{2})
	for name, err := range map[string]error{"Create": s.Create(ctx, w), "Replace": s.Replace(ctx, wallet.Change{}),
		"PutGuardRow": s.PutGuardRow(ctx, w.Wallet, w.Guard), "Record": record, "Nonce": nonce} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: err = %v, want context.Canceled", name, err)
		}
	}
	if _, err := s.Record(t.Context(), w.Wallet); !errors.Is(err, wallet.ErrNotFound) {
		t.Errorf("err = %v, want ErrNotFound", err)
	}
}

// What was read stays as it was when the database changes below.
func TestReadBytesAreACopy(t *testing.T) {
	s := newStore(t)
	w := newWallet(0, 1000, "user")
	create(t, s, w)
	record, err := s.Record(t.Context(), w.Wallet)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Replace(t.Context(), wallet.Change{Wallet: w.Wallet, Prev: w.Record, Next: bytes.Repeat([]byte{1}, 32)}); err != nil {
		t.Fatal(err)
	}
	for n := range uint32(20) {
		create(t, s, newWallet(n+1, 1000, "user"))
	}
	if !bytes.Equal(record, w.Record) {
		t.Fatal("the bytes changed")
	}
}
