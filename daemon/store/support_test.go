package store_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/wallet"
)

// childVariable makes this test binary the process that a test kills: it holds
// the path of the database and the number of the first wallet to create.
const childVariable = "SIGILD_STORE_TEST_CHILD"

func TestMain(m *testing.M) {
	if job := os.Getenv(childVariable); job != "" {
		if err := createUntilKilled(job); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// createUntilKilled creates wallets for ever and writes the number of each that
// was acknowledged.
func createUntilKilled(job string) error {
	var first uint32
	var path string
	if _, err := fmt.Sscanf(job, "%d %s", &first, &path); err != nil {
		return err
	}
	s, err := openDatabase(path, true)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(os.Stdout)
	for n := first; ; n++ {
		if err := s.Create(context.Background(), newWallet(n, 1000, "user")); err != nil {
			return err
		}
		fmt.Fprintln(out, n)
		if err := out.Flush(); err != nil {
			return err
		}
	}
}

// bytesOf are test bytes that depend on a label and a number.
func bytesOf(label string, n uint32) [32]byte {
	return sha256.Sum256(binary.BigEndian.AppendUint32([]byte(label), n))
}

func walletID(n uint32) seal.ID {
	sum := bytesOf("wallet", n)
	return seal.ID(sum[:16])
}

// newWallet is wallet number n, all of whose parts follow from n. Those with a
// higher number were created later, four in each second.
func newWallet(n uint32, relay uint32, owner string) wallet.NewWallet {
	address, record, guard, key, value := bytesOf("address", n), bytesOf("record", n), bytesOf("guard", n), bytesOf("key", n), bytesOf("value", n)
	return wallet.NewWallet{
		Wallet: walletID(n), Relay: relay, Index: wallet.Index{Owner: owner, Created: 1_800_000_000 + int64(n/4)},
		Address: [20]byte(address[:20]), Record: record[:], Guard: guard[:],
		Request: wallet.Request{Key: wallet.RequestKey(key), Value: value[:]},
	}
}

// place is a folder that only its owner can write, and the database in it.
func place(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "sigild.db")
}

func open(t testing.TB, path string, create bool) *database {
	t.Helper()
	s, err := openDatabase(path, create)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // closing twice does no harm
	return s
}

func newStore(t testing.TB) *database { return open(t, place(t), true) }

func create(t testing.TB, s *database, w wallet.NewWallet) {
	t.Helper()
	if err := s.Create(t.Context(), w); err != nil {
		t.Fatal(err)
	}
}

// list gives all wallets of a page's relay and owner, page by page.
func list(t testing.TB, s *database, p wallet.Page) (all []seal.ID, pages int) {
	t.Helper()
	for {
		ids, cursor, err := s.List(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		all, pages = append(all, ids...), pages+1
		if cursor == nil {
			return all, pages
		}
		p.After = cursor
	}
}
