package main

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"golang.org/x/sync/errgroup"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/daemon/guard"
	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/store"
	"github.com/sigild/sigild/daemon/wallet"
	"github.com/sigild/sigild/hsm"
	"github.com/sigild/sigild/ipc"
)

// wallets is how many wallets TestManyWallets has: `make scale` asks for 100,000.
func wallets(t *testing.T) int {
	t.Helper()
	text := os.Getenv("SIGILD_SCALE")
	if text == "" {
		return 300
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("SIGILD_SCALE=%q", text)
	}
	return n
}

// TestManyWallets fills a database and shows what the number of wallets costs:
// look-ups, pages, start and memory. docs/performance.md has its figures.
func TestManyWallets(t *testing.T) {
	n := wallets(t)
	h, c := serving(t)
	create(t, c, "first")
	t.Logf("with one wallet: memory %d MiB", memoryOf(t, h, "RssAnon")>>10)
	timeStart(t, h)
	stop(t, h)
	addresses := fill(t, h, n-1)
	t.Logf("with %d wallets:", n)
	timeStart(t, h)
	info, err := os.Stat(h.Database())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("database %.1f KiB a wallet", float64(info.Size())/float64(n)/1024)
	lookUps(t, c, addresses)
	if seen := walk(t, c, ipc.ListWalletsParams{Limit: 1000}); seen != n {
		t.Errorf("the list has %d wallets, want %d", seen, n)
	}
	walk(t, c, ipc.ListWalletsParams{Limit: 100, From: &ipc.Time{Time: time.Unix(created+int64(n)-50, 0)}})
	walk(t, c, ipc.ListWalletsParams{Tag: "tenth", Limit: 100})
	walk(t, c, ipc.ListWalletsParams{Owner: "owner7", Limit: 100})
	walk(t, c, ipc.ListWalletsParams{State: "frozen", Limit: 100})
	t.Logf("memory after all lists: %d MiB", memoryOf(t, h, "RssAnon")>>10)
	timed(t, "creation", 50, func(i int) error {
		create(t, c, fmt.Sprint("later", i))
		return nil
	})
}

// timeStart starts sigild anew.
func timeStart(t *testing.T, h *daemontest.Host) {
	t.Helper()
	if h.PID() != 0 {
		stop(t, h)
	}
	began := time.Now()
	start(t, h)
	t.Logf("start %v, memory %d MiB", time.Since(began).Round(time.Millisecond), memoryOf(t, h, "RssAnon")>>10)
}

// created is when the first filled-in wallet says it was made.
const created = 1_800_000_000

// filler writes wallets as sigild does, but for keys that nobody needs: their
// records are the first wallet's with other names, authenticated by the token.
type filler struct {
	store    *store.Wallets
	mac      func(context.Context, []byte) ([32]byte, error)
	template *seal.Parsed
}

// fill adds n wallets of n/10 owners to a stopped installation and returns their
// addresses.
func fill(t *testing.T, h *daemontest.Host, n int) []string {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	db := openDatabase(t, h)
	doc := readDocument(t, db)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	useEnvironment(t, h)
	token, err := hsm.Open(ctx, hsm.Config{Module: daemontest.Module, Label: h.Label})
	if err != nil {
		t.Fatal(err)
	}
	if err := token.Login(ctx, h.TokenPIN()); err != nil {
		t.Fatal(err)
	}
	keys, err := token.OpenKeys(ctx, doc.ID, doc.Generations[0].Number, uint(doc.Generations[0].Mechanism))
	if err != nil {
		t.Fatal(err)
	}
	f := &filler{mac: func(ctx context.Context, m []byte) ([32]byte, error) { return keys.HMAC(ctx, hsm.Record, m) }}
	f.store = openWallets(t, h, doc.ID, f.mac)
	began := time.Now()
	addresses, err := f.run(ctx, doc.ID, n)
	if err = errors.Join(err, f.store.Close(), token.Close()); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d records written in %v", n, time.Since(began).Round(time.Second))
	return addresses
}

func (f *filler) run(ctx context.Context, installation seal.ID, n int) ([]string, error) {
	ids, err := f.store.Everything(ctx, nil, 1)
	if err != nil {
		return nil, err
	}
	data, err := f.store.Record(ctx, ids[0])
	if err != nil {
		return nil, err
	}
	if f.template, err = seal.Parse(ctx, data, installation, ids[0], f.mac); err != nil {
		return nil, err
	}
	addresses := make([]string, n)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(64) // they share fsyncs and steps of the anchor
	for i := range n {
		group.Go(func() error {
			address, err := f.add(ctx, i)
			addresses[i] = common.Address(address).Hex()
			return err
		})
	}
	return addresses, group.Wait()
}

func (f *filler) add(ctx context.Context, i int) (address [20]byte, err error) {
	w := wallet.NewWallet{Relay: f.template.Header.Relay, Index: wallet.Index{Owner: fmt.Sprint("owner", i/10),
		Created: created + int64(i), ExternalID: fmt.Sprint("external", i)}}
	if i%10 == 0 {
		w.Index.Tags = []string{"tenth"}
	}
	crand.Read(w.Wallet[:])
	crand.Read(w.Address[:])
	header := *f.template.Header
	header.Wallet, header.Created, header.Owner = w.Wallet, w.Index.Created, w.Index.Owner
	header.Accounts = slices.Clone(header.Accounts)
	header.Accounts[0].Address = w.Address[:]
	state, err := seal.EncodeState(&seal.State{Revision: 1, ExternalID: w.Index.ExternalID, Tags: w.Index.Tags})
	if err != nil {
		return address, err
	}
	record := seal.Record{Box: f.template.Record.Box, State: state}
	if record.Header, err = header.Encode(); err != nil {
		return address, err
	}
	if w.Record, err = record.Encode(ctx, f.mac); err != nil {
		return address, err
	}
	if w.Guard, err = guard.EncodeRow(ctx, &guard.Row{Wallet: w.Wallet, Revision: 1, Recent: []int64{}}, f.mac); err != nil {
		return address, err
	}
	crand.Read(w.Request.Key[:])
	w.Request.Value = make([]byte, 92) // as long as a true one
	return w.Address, f.store.Create(ctx, w)
}

func lookUps(t *testing.T, c *ipc.Client, addresses []string) {
	t.Helper()
	ctx, n := context.Background(), len(addresses)
	timed(t, "look-up by address", 2000, func(int) error {
		_, err := c.GetWallet(ctx, ipc.GetWalletParams{Address: addresses[rand.IntN(n)]})
		return err
	})
	timed(t, "look-up by external id", 2000, func(int) error {
		_, err := c.GetWallet(ctx, ipc.GetWalletParams{ExternalID: fmt.Sprint("external", rand.IntN(n))})
		return err
	})
	timed(t, "look-up of what is not there", 2000, func(i int) error {
		_, err := c.GetWallet(ctx, ipc.GetWalletParams{ExternalID: fmt.Sprint("nobody", i)})
		if errors.Is(err, &ipc.Error{Reason: "notFound"}) {
			return nil
		}
		return fmt.Errorf("found: %w", err)
	})
}

// timed reports the median and the 99th percentile of a call.
func timed(t *testing.T, name string, times int, call func(int) error) {
	t.Helper()
	took := make([]time.Duration, times)
	for i := range took {
		began := time.Now()
		if err := call(i); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	t.Logf("%s: median %v, 99%% %v", name, took[times/2].Round(time.Microsecond), took[times*99/100].Round(time.Microsecond))
}

// walk reads all pages of a list and returns the number of wallets.
func walk(t *testing.T, c *ipc.Client, p ipc.ListWalletsParams) (seen int) {
	t.Helper()
	began, first, slowest, pages := time.Now(), time.Duration(0), time.Duration(0), 0
	for {
		page := time.Now()
		r, err := c.ListWallets(testContext(t), p)
		if err != nil {
			t.Fatal(err)
		}
		took := time.Since(page)
		if pages == 0 {
			first = took
		}
		slowest, pages, seen = max(slowest, took), pages+1, seen+len(r.Wallets)
		if p.Cursor = r.Cursor; p.Cursor == "" {
			break
		}
	}
	p.Cursor = ""
	t.Logf("list %+v: %d wallets, %d pages, first %v, slowest %v, all %v", p, seen, pages,
		first.Round(time.Microsecond), slowest.Round(time.Microsecond), time.Since(began).Round(time.Millisecond))
	return seen
}

// memoryOf is a field of sigild's /proc/PID/status, in KiB. RssAnon leaves out the
// pages of the database, which the kernel maps and takes back.
func memoryOf(t *testing.T, h *daemontest.Host, field string) (kib int) {
	t.Helper()
	return kilobytes(t, h.PID(), field)
}

func kilobytes(t *testing.T, pid int, field string) (kib int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(status) {
		if n, _ := fmt.Sscanf(string(line), field+": %d kB", &kib); n == 1 {
			return kib
		}
	}
	t.Fatalf("no %s in the process's status", field)
	return 0
}
