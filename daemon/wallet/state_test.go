package wallet_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sigild/sigild/daemon/guard"
	"github.com/sigild/sigild/daemon/policy"
	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/wallet"
)

func (b *bench) operator() wallet.Actor {
	return wallet.Actor{Peer: wallet.Peer{UID: 0}, Operator: true}
}

// A freeze that a device or the disk refuses ends the unlocks all the same.
func TestFreezeThatCannotBeWrittenEndsUnlocks(t *testing.T) {
	b := newBench(t)
	id := b.create(t, "r").Info.Header.Wallet
	if _, err := b.unlock(id, goodPIN, anything()); err != nil {
		t.Fatal(err)
	}
	b.Service.Store = &brittleStore{b.store.Wallets, map[string]error{"Replace": errors.New("disk full")}}
	if _, err := b.Freeze(context.Background(), wallet.Actor{Peer: b.peer}, id, "relay"); err == nil {
		t.Error("froze without a disk")
	}
	if b.Unlocks() != 0 {
		t.Error("the unlock did not end")
	}
}

func TestFreeze(t *testing.T) {
	b := newBench(t)
	ctx := context.Background()
	id := b.create(t, "r").Info.Header.Wallet
	if _, err := b.unlock(id, goodPIN, anything()); err != nil {
		t.Fatal(err)
	}
	info, err := b.Freeze(ctx, wallet.Actor{Peer: b.peer}, id, "relay")
	if err != nil || info.Status() != wallet.Frozen || info.State.FrozenBy != "relay" {
		t.Fatalf("%+v, %v", info, err)
	}
	if b.Unlocks() != 0 {
		t.Error("the unlock did not end")
	}
	for name, r := range map[string]*wallet.SignRequest{
		"by PIN": message(b, id, 0, goodPIN, [32]byte{1}), "by unlock": unlocked(b, id, text, 1),
	} {
		if _, err := b.sign(r); !errors.Is(err, wallet.ErrFrozen) {
			t.Errorf("%s: %v, want ErrFrozen", name, err)
		}
	}
	if _, err := b.Unfreeze(ctx, wallet.Actor{Peer: b.peer}, id, ""); !errors.Is(err, wallet.ErrOperator) {
		t.Errorf("the relay unfreezes: %v", err)
	}
	if info, err = b.Unfreeze(ctx, b.operator(), id, ""); err != nil || info.Status() != wallet.Active {
		t.Fatalf("%+v, %v", info, err)
	}
	if _, err := b.sign(message(b, id, 0, goodPIN, [32]byte{1})); err != nil {
		t.Error(err)
	}
	if _, err := b.Freeze(ctx, wallet.Actor{Peer: wallet.Peer{UID: 7}}, id, "relay"); !errors.Is(err, wallet.ErrNotFound) {
		t.Errorf("another relay freezes: %v", err)
	}
}

func TestDeleteRestorePurge(t *testing.T) {
	b := newBench(t)
	ctx := context.Background()
	r := b.creation("r")
	r.ExternalID, r.Tags = "ext", []string{"vip", "eu"}
	c, err := b.Create(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	id := c.Info.Header.Wallet
	request := &wallet.DeleteRequest{Actor: wallet.Actor{Peer: b.peer}, RequestID: "d", Wallet: id}
	var field *wallet.FieldError
	if _, err := b.Delete(ctx, request); !errors.As(err, &field) {
		t.Fatalf("without a PIN: %v", err)
	}
	request.PIN = []byte(goodPIN)
	d, err := b.Delete(ctx, request)
	if err != nil || d.Existing || d.Info.Status() != wallet.Deleted {
		t.Fatalf("%+v, %v", d, err)
	}
	if again, err := b.Delete(ctx, request); err != nil || !again.Existing {
		t.Errorf("again: %+v, %v", again, err)
	}
	if _, err := b.sign(message(b, id, 0, goodPIN, [32]byte{1})); !errors.Is(err, wallet.ErrDeleted) {
		t.Errorf("a deleted wallet signs: %v", err)
	}
	if n, err := b.Purge(ctx, b.peer, time.Hour); n != 0 || err != nil {
		t.Errorf("purged %d within the grace, %v", n, err)
	}
	if _, err := b.Restore(ctx, b.operator(), id); err != nil {
		t.Fatal(err)
	}
	if _, err := b.sign(message(b, id, 0, goodPIN, [32]byte{1})); err != nil {
		t.Errorf("restored: %v", err)
	}
	operators := &wallet.DeleteRequest{Actor: b.operator(), RequestID: "o", Wallet: id}
	if _, err := b.Delete(ctx, operators); err != nil {
		t.Fatal(err)
	}
	b.now = b.now.Add(2 * time.Hour)
	if n, err := b.Purge(ctx, b.peer, time.Hour); n != 1 || err != nil {
		t.Fatalf("purged %d, %v", n, err)
	}
	if _, err := b.Get(ctx, b.peer, id); !errors.Is(err, wallet.ErrNotFound) {
		t.Errorf("purged: %v", err)
	}
	if _, err := b.FindExternal(ctx, b.peer, "ext"); !errors.Is(err, wallet.ErrNotFound) {
		t.Errorf("its external id: %v", err)
	}
}

// buryAll makes wallets and deletes them, and their grace of an hour passes.
func (b *bench) buryAll(t *testing.T, requests ...string) (ids []seal.ID) {
	t.Helper()
	for _, r := range requests {
		id := b.create(t, r).Info.Header.Wallet
		if _, err := b.Delete(t.Context(), &wallet.DeleteRequest{Actor: b.operator(), RequestID: "d", Wallet: id}); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	b.now = b.now.Add(2 * time.Hour)
	return ids
}

// left counts the wallets that are still there.
func (b *bench) left(t *testing.T, ids []seal.ID) (n int) {
	t.Helper()
	for _, id := range ids {
		switch _, err := b.Get(t.Context(), b.peer, id); {
		case err == nil:
			n++
		case !errors.Is(err, wallet.ErrNotFound):
			t.Fatal(err)
		}
	}
	return n
}

const day = 24 * time.Hour

// A wall clock that is behind when a wallet is deleted, and is set afterwards, does
// not shorten the grace: neither that of a wallet that is younger, nor that of an
// older one when the log has newer lines.
func TestClockBehindKeepsTheGrace(t *testing.T) {
	for name, pin := range map[string][]byte{"by its PIN": []byte(goodPIN), "by an operator": nil} {
		for _, age := range []time.Duration{0, 100 * day} {
			t.Run(fmt.Sprint(name, " at the age of ", age), func(t *testing.T) {
				b := newBench(t)
				id := b.create(t, "r").Info.Header.Wallet
				b.audit.events = nil
				if b.now = b.now.Add(age); age > 0 {
					b.create(t, "another") // has a line
				}
				right := b.now
				b.now = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
				by := wallet.Actor{Peer: b.peer, Operator: true}
				d, err := b.Delete(t.Context(), &wallet.DeleteRequest{Actor: by, RequestID: "d", Wallet: id, PIN: pin})
				if err != nil || d.Info.State.Deleted != right.Unix() {
					t.Fatalf("%+v, %v", d, err)
				}
				b.purges(t, right.Add(29*day), 0)
				b.purges(t, right.Add(31*day), 1)
			})
		}
	}
}

// A wallet that lived while the clock was behind only is kept, until its deletion is
// dated by a clock that is right.
func TestUndatedTombstoneIsKept(t *testing.T) {
	b := newBench(t)
	right := b.now
	b.now = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	id := b.create(t, "r").Info.Header.Wallet
	request := &wallet.DeleteRequest{Actor: b.operator(), RequestID: "d", Wallet: id}
	if _, err := b.Delete(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	b.now = right
	if n, err := b.Purge(t.Context(), b.peer, 30*day); n != 0 || err == nil || !strings.Contains(err.Error(), "the clock was wrong") {
		t.Errorf("purged %d, %v", n, err)
	}
	if _, err := b.Restore(t.Context(), b.operator(), id); err != nil {
		t.Fatal(err)
	}
	request.RequestID = "again"
	if _, err := b.Delete(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	b.purges(t, right.Add(29*day), 0)
	b.purges(t, right.Add(31*day), 1)
}

// purges purges at a time, after a grace of 30 days, and wants so many wallets gone.
func (b *bench) purges(t *testing.T, at time.Time, want int) {
	t.Helper()
	b.now = at
	if n, err := b.Purge(t.Context(), b.peer, 30*day); n != want || err != nil {
		t.Errorf("%v: purged %d, %v, want %d", at, n, err, want)
	}
}

// A tombstone that is older than its wallet, as they were put before by a clock that
// was behind, counts from the wallet's latest time.
func TestTombstoneOlderThanItsWallet(t *testing.T) {
	for name, later := range map[string]func(*bench, seal.ID) error{
		"creation": func(*bench, seal.ID) error { return nil },
		"account": func(b *bench, id seal.ID) error {
			_, err := b.Derive(t.Context(), &wallet.DeriveRequest{Peer: b.peer, RequestID: "a", Wallet: id, Count: 1, PIN: []byte(goodPIN)})
			return err
		},
		"PIN": func(b *bench, id seal.ID) error {
			_, err := b.ChangePIN(t.Context(), &wallet.ChangePINRequest{Peer: b.peer, RequestID: "p", Wallet: id,
				PIN: []byte(goodPIN), NewPIN: []byte("518263")})
			return err
		},
		"freeze": func(b *bench, id seal.ID) error {
			_, err := b.Freeze(t.Context(), b.operator(), id, "operator")
			return err
		},
		"export": func(b *bench, id seal.ID) error {
			_, err := b.takeOut(id, 0, goodPIN, &taker{})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := custodyBench(t)
			r := b.creation("r")
			r.Exportable = true
			id := b.bringIn(t, r).Info.Header.Wallet
			if name != "creation" {
				b.now = b.now.Add(100 * day)
			}
			if err := later(b, id); err != nil {
				t.Fatal(err)
			}
			b.tombstone(t, id, time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC))
			right := b.now
			b.purges(t, right.Add(29*day), 0)
			b.purges(t, right.Add(31*day), 1)
		})
	}
}

// tombstone dates a wallet's tombstone, as Delete does no more.
func (b *bench) tombstone(t *testing.T, id seal.ID, at time.Time) {
	t.Helper()
	data, err := b.store.Record(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	p, err := seal.Parse(t.Context(), data, seal.ID{1}, id, b.token.RecordMAC)
	if err != nil {
		t.Fatal(err)
	}
	before := wallet.Index{Owner: p.Header.Owner, Created: p.Header.Created}
	after := before
	after.Deleted, p.State.Deleted = at.Unix(), at.Unix()
	next := seal.Record{Header: p.Record.Header, Box: p.Record.Box}
	if next.State, err = seal.EncodeState(p.State); err != nil {
		t.Fatal(err)
	}
	c := wallet.Change{Wallet: id, Relay: p.Header.Relay, Prev: data, Before: &before, After: &after}
	if c.Next, err = next.Encode(t.Context(), b.token.RecordMAC); err != nil {
		t.Fatal(err)
	}
	if err := b.store.Replace(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

// planted has a tombstone in its index, which has no MAC, of a wallet that there is not.
type planted struct{ wallet.Store }

func (p planted) Tombstones(ctx context.Context, before int64, after []byte, limit int) ([]seal.ID, []byte, error) {
	ids, next, err := p.Store.Tombstones(ctx, before, after, limit)
	return append([]seal.ID{{1}}, ids...), next, err
}

func TestPlantedTombstoneStopsNoPurge(t *testing.T) {
	b := newBench(t)
	ids := b.buryAll(t, "r", "s")
	b.Service.Store = planted{b.Service.Store}
	if n, err := b.Purge(t.Context(), b.peer, time.Hour); n != len(ids) || !errors.Is(err, wallet.ErrNotFound) {
		t.Errorf("purged %d, %v", n, err)
	}
}

// Nothing is purged that the log does not know, whichever line cannot be written.
func TestNoPurgeWithoutAudit(t *testing.T) {
	b, full := newBench(t), errors.New("disk full")
	ids := b.buryAll(t, "r", "s", "t")
	b.audit.err, b.audit.events = full, nil
	if n, err := b.Purge(t.Context(), b.peer, time.Hour); n != 0 || !errors.Is(err, full) {
		t.Errorf("purged %d, %v", n, err)
	}
	if n := b.left(t, ids); n != len(ids) {
		t.Fatalf("%d of %d wallets are left", n, len(ids))
	}
	b.audit.err = nil
	b.audit.before = func(e wallet.Event) {
		if e.Result == "ok" {
			b.audit.err = full // the disk is full from the first wallet's last line on
		}
	}
	if n, err := b.Purge(t.Context(), b.peer, time.Hour); n != 0 || !errors.Is(err, full) {
		t.Errorf("purged %d, %v", n, err)
	}
	if n := b.left(t, ids); n != len(ids)-1 {
		t.Errorf("%d of %d wallets are left", n, len(ids))
	}
	if lines := b.audit.lines(); !slices.Equal(lines, []string{"purgeWallet begun"}) {
		t.Errorf("the log has %q", lines)
	}
	b.audit.err, b.audit.before, b.audit.events = nil, nil, nil
	if n, err := b.Purge(t.Context(), b.peer, time.Hour); n != len(ids)-1 || err != nil {
		t.Errorf("afterwards: purged %d, %v", n, err)
	}
	want := []string{"purgeWallet begun", "purgeWallet ok", "purgeWallet begun", "purgeWallet ok"}
	if lines := b.audit.lines(); !slices.Equal(lines, want) {
		t.Errorf("the log has %q", lines)
	}
}

func TestChangePIN(t *testing.T) {
	b := newBench(t)
	ctx := context.Background()
	c := b.create(t, "r")
	id := c.Info.Header.Wallet
	const next = "837261"
	request := &wallet.ChangePINRequest{Peer: b.peer, RequestID: "p", Wallet: id, PIN: []byte("775533"), NewPIN: []byte(next)}
	var wrong *wallet.PINError
	if _, err := b.ChangePIN(ctx, request); !errors.As(err, &wrong) {
		t.Fatalf("a wrong PIN: %v", err)
	}
	request.PIN = []byte(goodPIN)
	weak := *request
	weak.NewPIN = []byte("123456")
	if _, err := b.ChangePIN(ctx, &weak); !errors.Is(err, seal.ErrPINWeak) {
		t.Errorf("a weak new PIN: %v", err)
	}
	before, err := b.store.Record(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	r, err := b.ChangePIN(ctx, request)
	if err != nil || r.Existing {
		t.Fatalf("%+v, %v", r, err)
	}
	if string(r.Info.Header.Accounts[0].Address) != string(c.Info.Header.Accounts[0].Address) {
		t.Error("the address changed")
	}
	if again, err := b.ChangePIN(ctx, request); err != nil || !again.Existing || again.Receipt.Statement != r.Receipt.Statement {
		t.Errorf("again: %+v, %v", again, err)
	}
	if _, err := b.sign(message(b, id, 0, goodPIN, [32]byte{1})); !errors.As(err, &wrong) {
		t.Errorf("the old PIN: %v", err)
	}
	if _, err := b.sign(message(b, id, 0, next, [32]byte{1})); err != nil {
		t.Errorf("the new PIN: %v", err)
	}
	after, err := b.store.Record(ctx, id)
	if err != nil || string(after) == string(before) {
		t.Errorf("the record stayed, %v", err)
	}
}

func TestSetPolicy(t *testing.T) {
	b := newBench(t)
	ctx := context.Background()
	id := b.create(t, "r").Info.Header.Wallet
	rules := policy.Policy{Operations: []policy.Operation{policy.Message}}
	if _, err := b.SetPolicy(ctx, &wallet.SetPolicyRequest{Peer: b.peer, RequestID: "p", Wallet: id,
		Policy: rules, PIN: []byte(goodPIN)}); err != nil {
		t.Fatal(err)
	}
	transaction := message(b, id, 0, goodPIN, [32]byte{1})
	transaction.Items[0].Facts = transfer(1)
	var denied *wallet.DeniedError
	if _, err := b.sign(transaction); !errors.As(err, &denied) {
		t.Errorf("a transaction: %v", err)
	}
	if _, err := b.sign(message(b, id, 0, goodPIN, [32]byte{1})); err != nil {
		t.Errorf("a message: %v", err)
	}
}

func TestUpdateAndFind(t *testing.T) {
	b := newBench(t)
	ctx := context.Background()
	r := b.creation("r")
	r.ExternalID, r.Tags = "ext-1", []string{"b", "a"}
	c, err := b.Create(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	id := c.Info.Header.Wallet
	taken := b.creation("r2")
	taken.ExternalID = "ext-1"
	if _, err := b.Create(ctx, taken); !errors.Is(err, wallet.ErrExternalID) {
		t.Errorf("an external id twice: %v", err)
	}
	find := func(tag string) int {
		l, err := b.List(ctx, b.peer, wallet.Page{Tag: tag, Limit: 10}, "")
		if err != nil {
			t.Fatal(err)
		}
		return len(l.Wallets)
	}
	if find("a") != 1 || find("b") != 1 || find("c") != 0 {
		t.Error("the tags do not find it")
	}
	label, external, tags := "L", "ext-2", []string{"c"}
	info, err := b.Update(ctx, b.peer, id, &wallet.Update{Label: &label, ExternalID: &external, Tags: &tags})
	if err != nil || info.State.Label != label {
		t.Fatalf("%+v, %v", info, err)
	}
	if find("a") != 0 || find("c") != 1 {
		t.Error("the new tags do not find it")
	}
	if got, err := b.FindExternal(ctx, b.peer, "ext-2"); err != nil || got.Header.Wallet != id {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := b.FindExternal(ctx, b.peer, "ext-1"); !errors.Is(err, wallet.ErrNotFound) {
		t.Errorf("the old external id: %v", err)
	}
	if _, err := b.LabelAccount(ctx, b.peer, id, 0, "main"); err != nil {
		t.Error(err)
	}
	if _, err := b.LabelAccount(ctx, b.peer, id, 1, "none"); !errors.Is(err, wallet.ErrNotFound) {
		t.Errorf("an account that is not there: %v", err)
	}
	l, err := b.List(ctx, b.peer, wallet.Page{Limit: 10}, wallet.Frozen)
	if err != nil || len(l.Wallets) != 0 {
		t.Errorf("frozen: %+v, %v", l, err)
	}
}

// A record that was made cheaper is made anew at the next right PIN, and
// failing to do so costs nobody the signature.
func TestRecordIsModernised(t *testing.T) {
	b := newBench(t)
	id := b.create(t, "r").Info.Header.Wallet
	config := b.Config
	config.KDF.Time = 2
	dearer := *b
	dearer.Service = wallet.New(config)
	if _, err := dearer.sign(message(b, id, 0, goodPIN, [32]byte{1})); err != nil {
		t.Fatal(err)
	}
	info, err := b.Get(context.Background(), b.peer, id)
	if err != nil || info.Header.KDF.Time != 2 {
		t.Errorf("%+v, %v", info.Header.KDF, err)
	}
	if _, err := dearer.sign(message(b, id, 0, goodPIN, [32]byte{2})); err != nil {
		t.Error(err)
	}
	config.KDF.Time, config.Store = 3, &brittleStore{b.store.Wallets, map[string]error{"Replace": errors.New("disk full")}}
	dearer.Service = wallet.New(config)
	if _, err := dearer.sign(message(b, id, 0, goodPIN, [32]byte{3})); err != nil {
		t.Errorf("the record could not be rewritten, and the signature was kept back: %v", err)
	}
}

// A token that dies during a check cannot keep the charge from being given back.
func TestADeadTokenDoesNotKeepTheCharge(t *testing.T) {
	b := newBench(t)
	id := b.create(t, "r").Info.Header.Wallet
	dead := errors.New("the token is gone")
	for range 12 {
		b.token.during = map[string]func(){"Pepper": func() {
			for _, method := range []string{"Pepper", "RecordMAC", "Unwrap"} {
				b.token.fail[method] = dead
			}
		}}
		if _, err := b.sign(message(b, id, 0, goodPIN, [32]byte{1})); !errors.Is(err, dead) {
			t.Fatalf("error %v, want the token's", err)
		}
		clear(b.token.fail)
	}
	b.token.during = nil
	info, err := b.Get(context.Background(), b.peer, id)
	if err != nil || info.Attempts.Left != 10 {
		t.Errorf("%+v, %v", info.Attempts, err)
	}
	if _, err := b.sign(message(b, id, 0, goodPIN, [32]byte{1})); errors.Is(err, guard.ErrLocked) {
		t.Error("twelve faults locked the wallet")
	}
}
