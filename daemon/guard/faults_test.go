package guard_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/sigild/sigild/daemon/guard"
	"github.com/sigild/sigild/daemon/store"
	"github.com/sigild/sigild/daemon/wallet"
)

var errCrash = errors.New("killed here")

// brokenCounter fails before the TPM hears of an increment.
type brokenCounter struct {
	guard.Counter
	broken *bool
	after  bool // fail after the TPM did it instead
}

func (c *brokenCounter) Increment(ctx context.Context) (uint64, error) {
	if !*c.broken {
		return c.Counter.Increment(ctx)
	}
	if c.after {
		if _, err := c.Counter.Increment(ctx); err != nil {
			return 0, err
		}
	}
	return 0, errCrash
}

func (c *brokenCounter) Read(ctx context.Context) (uint64, error) {
	if *c.broken {
		return 0, errCrash
	}
	return c.Counter.Read(ctx)
}

// brokenDisk fails before or after a transaction is on disk.
type brokenDisk struct {
	guard.Disk[*store.Tx]
	broken *bool
	after  bool
}

func (d *brokenDisk) Update(ctx context.Context, f func(*store.Tx) error) error {
	if !*d.broken {
		return d.Disk.Update(ctx, f)
	}
	if d.after {
		if err := d.Disk.Update(ctx, f); err != nil {
			return err
		}
	} else { // everything but the last write
		err := d.Disk.Update(ctx, func(tx *store.Tx) error { return errors.Join(f(tx), errCrash) })
		if !errors.Is(err, errCrash) {
			return err
		}
	}
	return errCrash
}

// killPoints are all moments at which a change can be cut short.
func killPoints() map[string]func(*site, *bool) {
	return map[string]func(*site, *bool){
		"before the transaction": func(s *site, on *bool) {
			s.wrapDisk = func(d guard.Disk[*store.Tx]) guard.Disk[*store.Tx] { return &brokenDisk{Disk: d, broken: on} }
		},
		"after the transaction": func(s *site, on *bool) {
			s.wrapDisk = func(d guard.Disk[*store.Tx]) guard.Disk[*store.Tx] {
				return &brokenDisk{Disk: d, broken: on, after: true}
			}
		},
		"before the increment": func(s *site, on *bool) {
			s.wrapCounter = func(c guard.Counter) guard.Counter { return &brokenCounter{Counter: c, broken: on} }
		},
		"after the increment": func(s *site, on *bool) {
			s.wrapCounter = func(c guard.Counter) guard.Counter { return &brokenCounter{Counter: c, broken: on, after: true} }
		},
	}
}

// P4: whenever a change is cut short, attempts do not rise, what was
// acknowledged stays, and the next start needs no operator.
func TestP4KillPoints(t *testing.T) {
	changes := map[string]func(*site) error{
		"check":      func(s *site) error { return s.guess(1) },
		"creation":   func(s *site) error { return s.tryCreate(2) },
		"PIN change": func(s *site) error { return s.change(1, 1, 2) },
	}
	for point, arm := range killPoints() {
		for what, change := range changes {
			t.Run(what+" killed "+point, func(t *testing.T) {
				bothModes(t, func(t *testing.T, orderly bool) {
					s := newSite(t, orderly)
					s.create(1)
					s.guesses(1, 2)
					if err := s.change(1, 0, 1); err != nil {
						t.Fatal(err)
					}
					broken := false
					arm(s, &broken)
					s.restart()
					broken = true
					if err := change(s); err == nil {
						t.Fatal("acknowledged")
					}
					s.wrapDisk, s.wrapCounter = nil, nil
					s.restart()
					s.served()
					s.sound(7, 8)
				})
			})
		}
	}
}

// sound wants wallet 1 to have between least and most attempts, and everything
// to work.
func (s *site) sound(least, most uint32) {
	s.t.Helper()
	if left := s.left(1); left < least || left > most {
		s.t.Errorf("%d attempts left, want %d to %d", left, least, most)
	}
	v := s.version(1)
	if err := s.change(1, v, v+1); err != nil {
		s.t.Error(err)
	}
	if audit, err := s.ledger.VerifyAll(s.t.Context()); err != nil || len(audit.Bad) > 0 {
		s.t.Errorf("%+v, %v", audit, err)
	}
}

// A disk that failed without the transaction on it is found out about and service
// goes on. What it took and did not confirm is built on by nobody until a start.
func TestFailedDiskIsFoundOutAbout(t *testing.T) {
	for point, arm := range killPoints() {
		t.Run(point, func(t *testing.T) {
			unconfirmed := point == "after the transaction"
			s := newSite(t, true)
			s.create(1)
			broken := false
			arm(s, &broken)
			s.restart()
			for range 3 {
				broken = true
				if err := s.change(1, 0, 1); err == nil {
					t.Fatal("acknowledged")
				}
				broken = false
				if unconfirmed {
					if err := s.guess(1); !errors.Is(err, guard.ErrSync) {
						t.Fatalf("built on what is not known to be written: %v", err)
					}
					if len(s.told) != 1 || !errors.Is(s.told[0], guard.ErrSync) {
						t.Errorf("told of %v", s.told)
					}
					s.restart()
				}
				if v := s.version(1); v == 1 {
					if err := s.change(1, 1, 0); err != nil {
						t.Fatal(err)
					}
				}
				s.sound(10, 10)
				if err := s.change(1, s.version(1), 0); err != nil {
					t.Fatal(err)
				}
			}
			s.restart()
			s.served()
		})
	}
}

// P4: a device that does not answer costs nothing, and what it did not confirm
// is not acknowledged by a retry either.
func TestP4TPMGoneUnderTheDaemon(t *testing.T) {
	s := newSite(t, true)
	s.create(1)
	broken := false
	s.wrapCounter = func(c guard.Counter) guard.Counter { return &brokenCounter{Counter: c, broken: &broken} }
	s.restart()
	broken = true
	if err := s.guess(1); !errors.Is(err, guard.ErrUnanchored) {
		t.Fatalf("err = %v, want ErrUnanchored", err)
	}
	for range 12 {
		if err := s.guess(1); !errors.Is(err, guard.ErrUnconfirmed) {
			t.Fatalf("err = %v, want ErrUnconfirmed", err)
		}
	}
	if err := errors.Join(s.tryCreate(2), s.ledger.Settled(t.Context())); !errors.Is(err, guard.ErrUnconfirmed) {
		t.Fatalf("err = %v, want ErrUnconfirmed", err)
	}
	broken = false
	if err := s.ledger.Settled(t.Context()); err != nil || s.left(1) != 10 {
		t.Fatalf("%v, %d left", err, s.left(1))
	}
	s.guesses(1, 1)
	s.restart()
	s.served()
}

// The TPM may be reset under the running daemon, by a power cut or not.
func TestTPMResetUnderTheDaemon(t *testing.T) {
	for name, clean := range map[string]bool{"clean": true, "power cut": false} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, true)
			s.create(1)
			for range 5 {
				s.guesses(1, 1)
				s.tpm.Restart(clean)
				if err := s.chip.Reopen(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			s.guesses(1, 1)
			if s.left(1) != 4 || s.ledger.Status().Unclean != 0 {
				t.Errorf("%d left, %+v", s.left(1), s.ledger.Status())
			}
			s.restart()
			s.served()
		})
	}
}

// A second daemon on a copy of the database cannot share the anchor.
func TestTwoDaemonsOnOneAnchor(t *testing.T) {
	s := newSite(t, true)
	s.create(1)
	second := *s
	second.path = s.path + "2"
	second.put(s.copy())
	second.start()
	second.served()
	s.refusedNow(guard.ErrAnchorMoved)
	if err := second.guess(1); err == nil { // the attempt of the first moved it
		t.Error("both daemons count on")
	}
	if err := second.db.Close(); err != nil {
		t.Fatal(err)
	}
}

func (s *site) refusedNow(reason error) {
	s.t.Helper()
	for range 2 {
		if err := s.guess(1); !errors.Is(err, reason) {
			s.t.Fatalf("err = %v, want %v", err, reason)
		}
		if len(s.told) != 1 || !errors.Is(s.told[0], reason) || !errors.Is(s.told[0], guard.ErrRefused) {
			s.t.Errorf("told of %v, want %v, once, before the caller", s.told, reason)
		}
	}
}

// P4: an older copy written over the file of the running daemon.
func TestP4FileReplacedUnderTheDaemon(t *testing.T) {
	s := newSite(t, true)
	s.create(1)
	old := s.copy()
	s.guesses(1, 3)
	f, err := os.OpenFile(s.path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(old, 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.guard.Attempts(t.Context(), id(1), s.limits); !errors.Is(err, guard.ErrTree) {
		t.Errorf("read: %v, want ErrTree", err)
	}
	if err := s.tryCreate(3); !errors.Is(err, guard.ErrTree) {
		t.Errorf("write: %v, want ErrTree", err)
	}
}

// slowCounter is a chip whose increments take time.
type slowCounter struct {
	guard.Counter
	mu    sync.Mutex
	count int
}

func (c *slowCounter) Increment(ctx context.Context) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count++
	<-time.After(200 * time.Millisecond)
	return c.Counter.Increment(ctx)
}

// Changes that come at the same time share an increment and an fsync.
func TestSharedIncrements(t *testing.T) {
	s := newSite(t, true)
	const wallets = 40
	for n := range uint32(wallets) {
		s.create(n)
	}
	slow := &slowCounter{}
	s.wrapCounter = func(c guard.Counter) guard.Counter { slow.Counter = c; return slow }
	s.restart()
	slow.count = 0
	var group sync.WaitGroup
	for n := range uint32(wallets) {
		group.Go(func() {
			if err := s.guess(n); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	t.Logf("%d concurrent charges took %d increments", wallets, slow.count)
	if slow.count > 6 {
		t.Errorf("%d increments", slow.count)
	}
	s.wrapCounter = nil
	s.restart()
	for n := range uint32(wallets) {
		if s.left(n) != 9 {
			t.Errorf("wallet %d has %d attempts left", n, s.left(n))
		}
	}
}

// One change that is refused does not spoil those that it shares with.
func TestRefusedChangeSpoilsNoOther(t *testing.T) {
	s := newSite(t, true)
	s.create(1, 2, 3)
	var group sync.WaitGroup
	for n := range uint32(30) {
		group.Go(func() {
			switch err := s.change(1+n%3, 7, 8); n % 2 {
			case 0:
				if err == nil {
					t.Error("a change from what is not there")
				}
			default:
				if err := s.tryCreate(100 + n); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if audit, err := s.ledger.VerifyAll(t.Context()); err != nil || audit.Wallets != 18 || len(audit.Bad) > 0 {
		t.Errorf("%+v, %v", audit, err)
	}
}

// Readers at the time of writers never see a false alarm.
func TestReadersAmongWriters(t *testing.T) {
	s := newSite(t, true)
	s.create(1, 2)
	done := make(chan struct{})
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					if _, _, err := s.ledger.Leaf(t.Context(), id(1)); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	for n := range uint32(25) {
		s.create(10 + n)
	}
	close(done)
	group.Wait()
}

type splice struct {
	edit func(s *site, old []byte) func(*bbolt.Tx) error
	want error
	all  bool // every wallet is refused
}

// splices are changes of the file behind the daemon's back.
func splices() map[string]splice {
	bucket := func(name string, wallet uint32, from func(old *bbolt.Tx) []byte) func(*site, []byte) func(*bbolt.Tx) error {
		return func(s *site, old []byte) func(*bbolt.Tx) error {
			return func(tx *bbolt.Tx) error {
				key := id(wallet)
				value := s.inside(old, from)
				if value == nil {
					return tx.Bucket([]byte(name)).Delete(key[:])
				}
				return tx.Bucket([]byte(name)).Put(key[:], value)
			}
		}
	}
	get := func(name string, wallet uint32) func(*bbolt.Tx) []byte {
		key := id(wallet)
		return func(tx *bbolt.Tx) []byte { return append([]byte(nil), tx.Bucket([]byte(name)).Get(key[:])...) }
	}
	none := func(*bbolt.Tx) []byte { return nil }
	return map[string]splice{
		"older row":        {bucket("guard", 1, get("guard", 1)), guard.ErrCorrupt, false},
		"removed row":      {bucket("guard", 1, none), guard.ErrCorrupt, false},
		"another's row":    {bucket("guard", 1, get("guard", 2)), guard.ErrCorrupt, false},
		"older record":     {bucket("records", 1, get("records", 1)), guard.ErrCorrupt, false},
		"removed record":   {bucket("records", 1, none), guard.ErrCorrupt, false},
		"older whole tree": {wholeTree, guard.ErrTree, true},
	}
}

// wholeTree puts rows, records and tree of the older copy in.
func wholeTree(s *site, old []byte) func(*bbolt.Tx) error {
	return func(tx *bbolt.Tx) error {
		var err error
		s.inside(old, func(before *bbolt.Tx) []byte {
			for _, name := range []string{"guard", "records", "tree"} {
				err = errors.Join(err, before.Bucket([]byte(name)).ForEach(func(k, v []byte) error {
					return tx.Bucket([]byte(name)).Put(bytes.Clone(k), bytes.Clone(v))
				}))
			}
			return nil
		})
		return err
	}
}

// inside reads a copy of the database.
func (s *site) inside(copied []byte, f func(*bbolt.Tx) []byte) (value []byte) {
	s.t.Helper()
	path := s.path + ".old"
	if err := os.WriteFile(path, copied, 0o600); err != nil {
		s.t.Fatal(err)
	}
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	err = db.View(func(tx *bbolt.Tx) error { value = f(tx); return nil })
	if err := errors.Join(err, db.Close()); err != nil {
		s.t.Fatal(err)
	}
	return value
}

// faultyDisk holds its first transaction up, and has a fault in the program at
// the second.
type faultyDisk struct {
	guard.Disk[*store.Tx]
	count   atomic.Int64
	entered chan struct{}
	goOn    chan struct{}
}

func (d *faultyDisk) Update(ctx context.Context, f func(*store.Tx) error) error {
	switch d.count.Add(1) {
	case 1:
		close(d.entered)
		<-d.goOn
	case 2:
		panic("a fault")
	}
	return d.Disk.Update(ctx, f)
}

// A panic in a batch is an error for everybody in it, and the next one goes on.
func TestPanicLeavesNobodyWaiting(t *testing.T) {
	s := newSite(t, true)
	for n := range uint32(3) {
		s.create(n)
	}
	disk := &faultyDisk{entered: make(chan struct{}), goOn: make(chan struct{})}
	disk.count.Store(-1) // the start writes as well
	s.wrapDisk = func(d guard.Disk[*store.Tx]) guard.Disk[*store.Tx] {
		disk.Disk = d
		return disk
	}
	s.restart()
	results := make(chan error, 3)
	guess := func(n uint32) {
		defer func() {
			if cause := recover(); cause != nil {
				results <- errors.New("panicked")
			}
		}()
		results <- s.guess(n)
	}
	go guess(0)
	<-disk.entered
	go guess(1)
	go guess(2)
	for s.ledger.Waiting() < 2 {
		runtime.Gosched()
	}
	close(disk.goOn)
	outcomes := map[string]int{}
	for range 3 {
		err := <-results
		outcomes[fmt.Sprint(err)]++
	}
	if outcomes["<nil>"] != 1 || outcomes["panicked"] != 1 || len(outcomes) != 3 {
		t.Errorf("%v", outcomes)
	}
	if err := s.guess(1); err != nil {
		t.Errorf("the next: %v", err)
	}
}

// P4: a database from which everything was taken out is not an empty one.
func TestP4ErasedDatabase(t *testing.T) {
	for what, buckets := range map[string][]string{"all": {"tree", "guard", "records", "requests"}, "the tree": {"tree"}} {
		t.Run(what, func(t *testing.T) {
			s := newSite(t, true)
			s.create(1, 2, 3)
			s.edit(func(tx *bbolt.Tx) error {
				for _, b := range buckets {
					if err := tx.DeleteBucket([]byte(b)); err != nil {
						return err
					}
					if _, err := tx.CreateBucket([]byte(b)); err != nil {
						return err
					}
				}
				return nil
			})
			if a, err := s.ledger.VerifyAll(t.Context()); !errors.Is(err, guard.ErrTree) {
				t.Errorf("VerifyAll: %+v, %v", a, err)
			}
			if row, record, err := s.ledger.Leaf(t.Context(), id(1)); !errors.Is(err, guard.ErrTree) {
				t.Errorf("Leaf: %x, %x, %v", row, record, err)
			}
		})
	}
}

// A request that was written in a past that never came to be does not answer.
func TestP4SplicedRequest(t *testing.T) {
	s := newSite(t, true)
	s.create(1)
	key := wallet.RequestKey{9}
	s.edit(func(tx *bbolt.Tx) error { return tx.Bucket([]byte("requests")).Put(key[:], []byte("done")) })
	if value, err := s.wallets.Request(t.Context(), key); !errors.Is(err, guard.ErrCorrupt) {
		t.Errorf("a spliced request answers %q, %v", value, err)
	}
	found, err := s.ledger.VerifyAll(t.Context())
	if err != nil || len(found.Bad) != 1 {
		t.Errorf("%+v, %v", found, err)
	}
	s.edit(func(tx *bbolt.Tx) error { return tx.Bucket([]byte("requests")).Delete(key[:]) })
	if value, err := s.wallets.Request(t.Context(), key); value != nil || err != nil {
		t.Errorf("%q, %v", value, err)
	}
}

// One power cut counts once, however often its start fails half-way.
func TestUncleanStartCountsOnce(t *testing.T) {
	for point, arm := range killPoints() {
		t.Run(point, func(t *testing.T) {
			s := newSite(t, true)
			s.create(1)
			s.reboot(false)
			broken := true
			arm(s, &broken)
			for range 5 {
				if err := s.tryStart(); err == nil {
					t.Fatal("it started")
				}
			}
			s.wrapDisk, s.wrapCounter = nil, nil
			s.start()
			s.served()
			if st := s.ledger.Status(); st.Unclean > 1 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// A damaged node of the tree is mended by accepting, from the rows and records
// that are whole.
func TestDamagedTreeIsMended(t *testing.T) {
	s := newSite(t, true)
	s.create(1, 2, 3)
	s.edit(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("tree"))
		node := bytes.Clone(b.Get([]byte{0}))
		node[0] ^= 1
		return b.Put([]byte{0}, node)
	})
	if _, err := s.ledger.VerifyAll(t.Context()); !errors.Is(err, guard.ErrTree) {
		t.Fatalf("VerifyAll: %v", err)
	}
	s.accept()
	s.sound(3, 3)
	s.restart()
	s.served()
}

// A counter that is taken away under the daemon is not waited for.
func TestCounterDeletedUnderTheDaemon(t *testing.T) {
	s := newSite(t, true)
	s.create(1)
	gone := false
	s.wrapCounter = func(c guard.Counter) guard.Counter { return &goneCounter{c, &gone} }
	s.restart()
	gone = true
	if err := s.guess(1); !errors.Is(err, guard.ErrRefused) || !errors.Is(err, guard.ErrAnchorMissing) {
		t.Errorf("%v", err)
	}
	s.refused(guard.ErrAnchorMissing)
}

// goneCounter is not there any more.
type goneCounter struct {
	guard.Counter
	gone *bool
}

func (c *goneCounter) Increment(ctx context.Context) (uint64, error) {
	if *c.gone {
		return 0, guard.ErrAnchorMissing
	}
	return c.Counter.Increment(ctx)
}

// A charge that no check followed is given back when the device is there again,
// and at the latest at a stop in good order.
func TestSettleLateAtAStop(t *testing.T) {
	s := newSite(t, true)
	s.create(1)
	broken := false
	s.wrapDisk = func(d guard.Disk[*store.Tx]) guard.Disk[*store.Tx] { return &brokenDisk{Disk: d, broken: &broken} }
	s.restart()
	c, err := s.guard.Charge(t.Context(), id(1), s.limits)
	if err != nil {
		t.Fatal(err)
	}
	broken = true
	if err := c.Void(t.Context()); err == nil {
		t.Fatal("the disk was full")
	}
	broken = false
	if err := s.guard.SettleLate(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.restart()
	if left := s.left(1); left != 10 {
		t.Errorf("%d attempts left", left)
	}
}

// P4: a settlement of a charge that was never written is not carried out on the
// next charge, whose bytes are the same within a second.
func TestP4SettlementOfNothingTakesNoCharge(t *testing.T) {
	b := newBench(t)
	held, goOn := make(chan struct{}), make(chan struct{})
	var armed atomic.Bool
	mac := b.mac
	b.Guard = guard.New(b.disk, func(ctx context.Context, m []byte) ([32]byte, error) {
		if armed.CompareAndSwap(true, false) {
			close(held)
			<-goOn
		}
		return mac(ctx, m)
	}, b.clock())
	b.disk.full(errDisk)
	if _, err := b.Charge(t.Context(), b.wallet, b.limits); err == nil {
		t.Fatal("charged on a full disk")
	}
	b.disk.full(nil)
	armed.Store(true)
	looked, charged := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := b.Attempts(t.Context(), b.wallet, b.limits)
		looked <- err
	}()
	<-held // it is about to settle
	go func() {
		_, err := b.Charge(t.Context(), b.wallet, b.limits)
		charged <- err
	}()
	var err error
	select {
	case err = <-charged: // it must not come before the other is done
		t.Error("charged beside a settlement")
		close(goOn)
	case <-time.After(50 * time.Millisecond):
		close(goOn)
		err = <-charged
	}
	if err = errors.Join(err, <-looked); err != nil {
		t.Fatal(err)
	}
	if r := b.stored(); r.Consecutive != 1 {
		t.Errorf("%d charges stand after a check was charged", r.Consecutive)
	}
}

// P4: a row from after an acceptance, spliced into an older copy before another
// one, is cut to 3 attempts like the others.
func TestP4RowFromAnAcceptanceBefore(t *testing.T) {
	s := newSite(t, true)
	s.create(1)
	old := s.copy()
	s.guesses(1, 1)
	s.restore(old)
	s.refused(guard.ErrOlderCopy)
	s.accept()
	if err := s.pass(1); err != nil {
		t.Fatal(err)
	}
	row := s.row(1)
	s.guesses(1, 10)
	s.restore(old)
	s.edit(func(tx *bbolt.Tx) error {
		wallet := id(1)
		return tx.Bucket([]byte("guard")).Put(wallet[:], row)
	})
	s.accept()
	if left := s.left(1); left != 3 {
		t.Errorf("%d attempts left, want 3", left)
	}
}

// pass makes a check that passes.
func (s *site) pass(n uint32) error {
	c, err := s.guard.Charge(s.t.Context(), id(n), s.limits)
	if err == nil {
		_, err = c.Passed(s.t.Context())
	}
	return err
}

// row is a wallet's stored row.
func (s *site) row(n uint32) []byte {
	s.t.Helper()
	row, _, err := s.ledger.Leaf(s.t.Context(), id(n))
	if err != nil {
		s.t.Fatal(err)
	}
	return row
}
