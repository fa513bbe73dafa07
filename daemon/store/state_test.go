package store_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/store"
	"github.com/sigild/sigild/daemon/wallet"
)

func TestNonceRemembersTheFirst(t *testing.T) {
	s := newStore(t)
	key, value := [16]byte{1}, [16]byte{2}
	if before, err := s.Nonce(t.Context(), key, value); err != nil || before != nil {
		t.Fatalf("new key: %x, %v", before, err)
	}
	for _, later := range [][16]byte{value, {3}} {
		if before, err := s.Nonce(t.Context(), key, later); err != nil || before == nil || *before != value {
			t.Fatalf("known key: %x, %v, want %x", before, err, value)
		}
	}
	if before, err := s.Nonce(t.Context(), [16]byte{9}, value); err != nil || before != nil {
		t.Fatalf("another key: %x, %v", before, err)
	}
}

// Of many who bring one nonce at a time exactly one is first.
func TestNonceHasOneFirst(t *testing.T) {
	s := newStore(t)
	var group sync.WaitGroup
	firsts, answers := make(chan byte, 32), make(chan [16]byte, 32)
	for n := range byte(32) {
		group.Go(func() {
			before, err := s.Nonce(t.Context(), [16]byte{1}, [16]byte{n + 1})
			switch {
			case err != nil:
				t.Error(err)
			case before == nil:
				firsts <- n + 1
			default:
				answers <- *before
			}
		})
	}
	group.Wait()
	if len(firsts) != 1 {
		t.Fatalf("%d were first", len(firsts))
	}
	first := [16]byte{<-firsts}
	close(answers)
	for a := range answers {
		if a != first {
			t.Fatalf("answer %x, want %x", a, first)
		}
	}
}

// A source that repeats its last answer is named, and no source's is replaced.
func TestRememberAnswers(t *testing.T) {
	s := newStore(t)
	digest := func(n byte) [32]byte { return [32]byte{n} }
	for _, step := range []struct {
		answers map[string][32]byte
		want    []string
	}{
		{map[string][32]byte{"kms": digest(1), "tpm": digest(2), "token": digest(3)}, nil},
		{map[string][32]byte{"kms": digest(1), "tpm": digest(4), "token": digest(3)}, []string{"kms", "token"}},
		{map[string][32]byte{"kms": digest(5), "tpm": digest(2), "token": digest(6)}, []string{"tpm"}}, // 4 was not kept
		{map[string][32]byte{"kms": digest(5), "tpm": digest(4), "token": digest(6)}, nil},
		{map[string][32]byte{"tpm": digest(4)}, []string{"tpm"}},
		{map[string][32]byte{}, nil},
	} {
		repeated, err := s.RememberAnswers(t.Context(), step.answers)
		if err != nil || !slices.Equal(repeated, step.want) {
			t.Fatalf("%v: %v, %v, want %v", step.answers, repeated, err, step.want)
		}
	}
}

func TestDocuments(t *testing.T) {
	s := newStore(t)
	all := []store.Document{store.Installation, store.GuardRoot, store.Login}
	for _, d := range all {
		if value, err := s.Get(t.Context(), d); err != nil || value != nil {
			t.Fatalf("%s: %x, %v, want nothing", d, value, err)
		}
	}
	if err := s.Put(t.Context(), map[store.Document][]byte{store.Installation: {1}, store.GuardRoot: {2}, store.Login: {3}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), map[store.Document][]byte{store.Login: nil, store.GuardRoot: {4}}); err != nil {
		t.Fatal(err)
	}
	for d, want := range map[store.Document][]byte{store.Installation: {1}, store.GuardRoot: {4}, store.Login: nil} {
		if value, err := s.Get(t.Context(), d); err != nil || !bytes.Equal(value, want) {
			t.Errorf("%s: %x, %v, want %x", d, value, err, want)
		}
	}
}

// Many writers at a time lose nothing, and of those who change one wallet from
// one state exactly one succeeds.
func TestConcurrentWriters(t *testing.T) {
	s := newStore(t)
	var group sync.WaitGroup
	for n := range uint32(24) {
		group.Go(func() {
			w := newWallet(n, 1000, "user")
			if err := errors.Join(s.Create(t.Context(), w), s.PutGuardRow(t.Context(), w.Wallet, w.Guard)); err != nil {
				t.Error(err)
			}
			if _, _, err := s.List(t.Context(), wallet.Page{Relay: 1000, Limit: 5}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for n := range uint32(24) {
		checkWhole(t, s, n)
	}
	checkOneWins(t, s)
}

func checkOneWins(t *testing.T, s *database) {
	t.Helper()
	var group sync.WaitGroup
	won := make(chan uint32, 16)
	w := newWallet(0, 1000, "user")
	for n := range uint32(16) {
		group.Go(func() {
			err := s.Replace(t.Context(), wallet.Change{Wallet: w.Wallet, Relay: 1000, Prev: w.Record, Next: []byte{byte(n)}})
			if err == nil {
				won <- n
			} else if !errors.Is(err, wallet.ErrConflict) {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if len(won) != 1 {
		t.Fatalf("%d changes succeeded", len(won))
	}
	if record, err := s.Record(t.Context(), w.Wallet); err != nil || !bytes.Equal(record, []byte{byte(<-won)}) {
		t.Fatalf("record %x, %v", record, err)
	}
}

func TestReopenKeepsEverything(t *testing.T) {
	path := place(t)
	s := open(t, path, true)
	create(t, s, newWallet(0, 1000, "user"))
	if _, err := s.Nonce(t.Context(), [16]byte{1}, [16]byte{2}); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), map[store.Document][]byte{store.Installation: {1}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.RememberAnswers(t.Context(), map[string][32]byte{"tpm": {1}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := open(t, path, false)
	checkWhole(t, again, 0)
	if before, err := again.Nonce(t.Context(), [16]byte{1}, [16]byte{3}); err != nil || before == nil || *before != [16]byte{2} {
		t.Errorf("nonce %x, %v", before, err)
	}
	if value, err := again.Get(t.Context(), store.Installation); err != nil || !bytes.Equal(value, []byte{1}) {
		t.Errorf("document %x, %v", value, err)
	}
	if repeated, err := again.RememberAnswers(t.Context(), map[string][32]byte{"tpm": {1}}); err != nil || len(repeated) != 1 {
		t.Errorf("repeated %v, %v", repeated, err)
	}
	if n, err := again.Count(t.Context()); err != nil || n != 1 {
		t.Errorf("count %d, %v", n, err)
	}
}

// P7: kill -9 at any moment loses no acknowledged wallet and leaves no half of
// one. The killed process is this test binary: see TestMain.
func TestP7KillLeavesWholeWallets(t *testing.T) {
	path, next := place(t), uint32(0)
	for round := range 8 {
		acknowledged := createAndKill(t, path, next, 1+rand.IntN(60))
		s, err := openDatabase(path, false)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		count, err := s.Count(t.Context())
		if err != nil || count < uint64(acknowledged) || count > uint64(acknowledged)+1 {
			t.Fatalf("round %d: %d wallets of %d acknowledged, %v", round, count, acknowledged, err)
		}
		checkListed(t, s, uint32(count))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		next = uint32(count)
	}
}

// checkListed wants the wallets 0 to n-1 whole, and no other.
func checkListed(t *testing.T, s *database, n uint32) {
	t.Helper()
	var want []seal.ID
	for i := range n {
		checkWhole(t, s, i)
		want = append(want, walletID(i))
	}
	got, _ := list(t, s, wallet.Page{Relay: 1000, Owner: "user", Limit: 1000})
	order := func(a, b seal.ID) int { return bytes.Compare(a[:], b[:]) }
	slices.SortFunc(got, order)
	slices.SortFunc(want, order)
	if !slices.Equal(got, want) {
		t.Fatalf("%d wallets listed, want %d", len(got), n)
	}
}

// createAndKill has a process create wallets from number first on, kills it
// once some were acknowledged, and gives how many there are in all.
func createAndKill(t *testing.T, path string, first uint32, some int) (acknowledged uint32) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), fmt.Sprintf("%s=%d %s", childVariable, first, path))
	child.Stderr = os.Stderr
	pipe, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(pipe)
	last := first - 1
	for n := 0; lines.Scan(); n++ {
		if n+1 == some {
			if err := child.Process.Kill(); err != nil {
				t.Error(err)
			}
		}
		number, err := strconv.ParseUint(lines.Text(), 10, 32)
		if err != nil {
			break // cut short by the kill: not acknowledged
		}
		last = uint32(number)
	}
	_, _ = io.Copy(io.Discard, pipe)
	if err := child.Wait(); err == nil || last+1 < first+uint32(some) {
		t.Fatalf("the process ended by itself after wallet %d: %v", last, err)
	}
	return last + 1
}

func BenchmarkCreate(b *testing.B) {
	s := newStore(b)
	for n := uint32(0); b.Loop(); n++ {
		create(b, s, newWallet(n, 1000, "user"))
	}
}

func BenchmarkPutGuardRowParallel(b *testing.B) {
	s := newStore(b)
	b.SetParallelism(8)
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if err := s.PutGuardRow(b.Context(), [16]byte{1}, []byte("row")); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
