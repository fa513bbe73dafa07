package guard_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/sigild/sigild/daemon/guard"
	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/store"
	"github.com/sigild/sigild/daemon/wallet"
	"github.com/sigild/sigild/tpm"
	"github.com/sigild/sigild/tpm/tpmtest"
)

const (
	anchorHandle  = 0x01800151
	uncleanHandle = 0x01800152
)

type ledger = guard.Ledger[*store.Tx]

// site is an installation's guard on a real TPM and a real database, which can
// be stopped, started, copied and put back.
type site struct {
	t       testing.TB
	tpm     *tpmtest.Instance
	chip    *tpm.TPM
	path    string
	mac     guard.MAC
	orderly bool
	anchor  *tpm.Counter
	unclean *tpm.Counter // nil when durable
	limits  guard.Limits
	now     time.Duration

	// wrap lets a test stand between the ledger and its disk or its counter.
	wrapDisk    func(guard.Disk[*store.Tx]) guard.Disk[*store.Tx]
	wrapCounter func(guard.Counter) guard.Counter

	db      *store.Store
	ledger  *ledger
	guard   *guard.Guard
	wallets *store.Wallets
	told    []error // what the ledger said when it began to refuse
}

var nvAuth = []byte("thirty-two bytes of a record key")

func newSite(t testing.TB, orderly bool) *site {
	t.Helper()
	s := &site{t: t, tpm: tpmtest.New(t), path: filepath.Join(t.TempDir(), "sigild.db"), mac: hmacSHA256([]byte("key")), orderly: orderly,
		limits: guard.Limits{Consecutive: 10, Window: 60, Days: 30, Lifetime: 1000}}
	s.connect()
	t.Cleanup(s.stop)
	var err error
	if s.anchor, err = s.chip.DefineCounter(t.Context(), anchorHandle, orderly, nvAuth); err != nil {
		t.Fatal(err)
	}
	if orderly {
		if s.unclean, err = s.chip.DefineCounter(t.Context(), uncleanHandle, false, nvAuth); err != nil {
			t.Fatal(err)
		}
	}
	root, err := guard.NewRoot(t.Context(), [16]byte{1}, make([]byte, 32), s.anchor, s.uncleanCounter(), s.resets(), s.mac)
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(s.path, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Put(t.Context(), map[store.Document][]byte{store.GuardRoot: root}), db.Close()); err != nil {
		t.Fatal(err)
	}
	s.start()
	return s
}

func (s *site) uncleanCounter() guard.Counter {
	if s.unclean == nil {
		return nil
	}
	return s.unclean
}

func (s *site) resets() uint32 {
	s.t.Helper()
	c, err := s.chip.Clock(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return c.ResetCount
}

func (s *site) connect() {
	s.t.Helper()
	var err error
	if s.chip, err = tpm.Open(s.t.Context(), tpm.Config{Device: s.tpm.Device}); err != nil {
		s.t.Fatal(err)
	}
}

// config puts a ledger's parts together, with the counters of now.
func (s *site) config() guard.Config[*store.Tx] {
	s.t.Helper()
	s.told = nil
	c := guard.Config[*store.Tx]{Disk: s.db, MAC: s.mac, Installation: [16]byte{1}, Keys: make([]byte, 32),
		OnRefusal: func(reason error) { s.told = append(s.told, reason) },
		Resets: func(ctx context.Context) (uint32, error) {
			clock, err := s.chip.Clock(ctx)
			return clock.ResetCount, err
		}}
	anchor, err := s.chip.OpenCounter(s.t.Context(), tpm.CounterSpec{Handle: anchorHandle, Orderly: s.orderly, Auth: nvAuth, Name: s.anchor.Name()})
	if err != nil {
		c.Missing = err
		return c
	}
	c.Anchor = anchor
	if s.orderly {
		if c.Unclean, err = s.chip.OpenCounter(s.t.Context(), tpm.CounterSpec{Handle: uncleanHandle, Auth: nvAuth, Name: s.unclean.Name()}); err != nil {
			s.t.Fatal(err)
		}
	}
	if s.wrapDisk != nil {
		c.Disk = s.wrapDisk(c.Disk)
	}
	if s.wrapCounter != nil {
		c.Anchor = s.wrapCounter(c.Anchor)
	}
	return c
}

// tryStart opens the database as a daemon's start does.
func (s *site) tryStart() error {
	s.t.Helper()
	var err error
	if s.db, err = store.Open(s.path, false); err != nil {
		return err
	}
	if s.ledger, err = guard.Open(s.t.Context(), s.config()); err != nil {
		return errors.Join(err, s.db.Close())
	}
	s.use()
	return nil
}

// use puts guard and wallets on the ledger.
func (s *site) use() {
	s.guard = guard.New(s.ledger, s.mac, guard.Clock{Wall: time.Now, Powered: func() time.Duration { return s.now }})
	s.wallets = s.db.Wallets(s.ledger)
}

func (s *site) start() {
	s.t.Helper()
	if err := s.tryStart(); err != nil {
		s.t.Fatal(err)
	}
}

// stop ends the daemon as kill -9 does: nothing of it is said to anybody.
func (s *site) stop() {
	if s.db != nil {
		_ = s.db.Close()
	}
	s.db = nil
	if s.chip != nil {
		_ = s.chip.Close()
	}
	s.chip = nil
}

func (s *site) restart() {
	s.t.Helper()
	s.stop()
	s.connect()
	s.start()
}

// reboot stops the daemon and the TPM with it.
func (s *site) reboot(clean bool) {
	s.t.Helper()
	s.stop()
	s.tpm.Restart(clean)
	s.connect()
}

// copy gives the database file as it is.
func (s *site) copy() []byte {
	s.t.Helper()
	data, err := os.ReadFile(s.path)
	if err != nil {
		s.t.Fatal(err)
	}
	return data
}

// restore puts a copy in the place of the database and starts.
func (s *site) restore(copied []byte) {
	s.t.Helper()
	s.stop()
	s.put(copied)
	s.connect()
	s.start()
}

func (s *site) put(copied []byte) {
	s.t.Helper()
	if err := os.WriteFile(s.path, copied, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// edit changes the stopped database behind the daemon's back and starts.
func (s *site) edit(change func(*bbolt.Tx) error) {
	s.t.Helper()
	s.stop()
	db, err := bbolt.Open(s.path, 0o600, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := errors.Join(db.Update(change), db.Close()); err != nil {
		s.t.Fatal(err)
	}
	s.connect()
	s.start()
}

func id(n uint32) (w seal.ID) {
	sum := hmacSum(n)
	copy(w[:], sum[:])
	return w
}

func hmacSum(n uint32) [32]byte {
	sum, _ := hmacSHA256([]byte("id"))(context.Background(), binary.BigEndian.AppendUint32(nil, n))
	return sum
}

func record(n uint32, version byte) []byte {
	return append(bytes.Repeat([]byte{byte(n)}, 100), version)
}

func (s *site) tryCreate(n uint32) error {
	row, err := s.guard.NewRow(s.t.Context(), id(n))
	if err != nil {
		return err
	}
	sum := hmacSum(n)
	return s.wallets.Create(s.t.Context(), wallet.NewWallet{Wallet: id(n), Index: wallet.Index{Owner: "o", Created: 1},
		Address: [20]byte(sum[:20]), Record: record(n, 0), Guard: row, Request: wallet.Request{Key: sum, Value: []byte{1}}})
}

func (s *site) create(list ...uint32) {
	s.t.Helper()
	for _, n := range list {
		if err := s.tryCreate(n); err != nil {
			s.t.Fatal(err)
		}
	}
}

// change replaces a record, as a PIN change, a freeze and a deletion do.
func (s *site) change(n uint32, from, to byte) error {
	return s.wallets.Replace(s.t.Context(), wallet.Change{Wallet: id(n), Prev: record(n, from), Next: record(n, to)})
}

// guess is a check with a wrong PIN; nil when it was made.
func (s *site) guess(n uint32) error {
	c, err := s.guard.Charge(s.t.Context(), id(n), s.limits)
	if err == nil {
		c.Failed()
	}
	return err
}

func (s *site) guesses(n uint32, count int) {
	s.t.Helper()
	for range count {
		if err := s.guess(n); err != nil {
			s.t.Fatal(err)
		}
		s.now += s.attempts(n).Wait
	}
}

func (s *site) attempts(n uint32) guard.Attempts {
	s.t.Helper()
	a, err := s.guard.Attempts(s.t.Context(), id(n), s.limits)
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

func (s *site) version(n uint32) byte {
	s.t.Helper()
	data, err := s.wallets.Record(s.t.Context(), id(n))
	if err != nil {
		s.t.Fatal(err)
	}
	return data[len(data)-1]
}

func (s *site) left(n uint32) uint32 {
	s.t.Helper()
	return s.attempts(n).Left
}

// refused wants every change to be refused for a reason.
func (s *site) refused(reason error) {
	s.t.Helper()
	if st := s.ledger.Status(); !errors.Is(st.Refused, reason) || !errors.Is(st.Refused, guard.ErrRefused) {
		s.t.Fatalf("status %+v, want it refused: %v", st, reason)
	}
	for name, err := range map[string]error{"guess": s.guess(1), "create": s.tryCreate(1000), "change": s.change(1, 0, 9)} {
		if !errors.Is(err, reason) {
			s.t.Errorf("%s: err = %v, want %v", name, err, reason)
		}
	}
}

func (s *site) served() {
	s.t.Helper()
	if st := s.ledger.Status(); st.Refused != nil {
		s.t.Fatalf("refused: %v (database %d, TPM %d)", st.Refused, st.Anchored, st.Counter)
	}
}

// accept is what the operator does.
func (s *site) accept() {
	s.t.Helper()
	l, err := guard.Accept(s.t.Context(), s.config())
	if err != nil {
		s.t.Fatal(err)
	}
	s.ledger = l
	s.use()
}
