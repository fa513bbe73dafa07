package guard_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/sigild/sigild/daemon/guard"
)

// hexBytes are bytes that a vector writes in hexadecimal, or null.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	*h = b
	return err
}

type rowVector struct {
	Name      string
	RecordKey hexBytes
	Row       struct {
		Wallet                hexBytes
		Revision              uint64
		Consecutive, Lifetime uint32
		Recent                []int64
		NotBefore, LastPass   int64
		Given                 uint32
		Accepted              uint64
	}
	Body, MACInput, MAC, Stored hexBytes
}

func (v *rowVector) row() *guard.Row {
	r := v.Row
	return &guard.Row{Wallet: [16]byte(r.Wallet), Revision: r.Revision, Consecutive: r.Consecutive, Lifetime: r.Lifetime,
		Recent: r.Recent, NotBefore: r.NotBefore, LastPass: r.LastPass, Given: r.Given, Accepted: r.Accepted}
}

type rootVector struct {
	Name      string
	RecordKey hexBytes
	Root      struct {
		Installation             hexBytes
		Epoch, Step, AnchorValue uint64
		AnchorName               hexBytes
		Keys, Tree, Audit        hexBytes
		UncleanName              hexBytes
		UncleanValue             uint64
		Resets                   uint32
		Accepted, UncleanDue     uint64
	}
	Body, MACInput, MAC, Stored hexBytes
}

func (v *rootVector) root() *guard.Root {
	r := v.Root
	return &guard.Root{Installation: [16]byte(r.Installation), Epoch: r.Epoch, Step: r.Step, AnchorName: r.AnchorName,
		AnchorValue: r.AnchorValue, Keys: r.Keys, Tree: r.Tree, Audit: r.Audit,
		UncleanName: r.UncleanName, UncleanValue: r.UncleanValue, Resets: r.Resets, Accepted: r.Accepted, UncleanDue: r.UncleanDue}
}

type vectors struct {
	Source string
	Rows   []rowVector
	Roots  []rootVector
}

func readVectors(t testing.TB) *vectors {
	t.Helper()
	data, err := os.ReadFile("../../testdata/vectors/guard.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	if v.Source == "" || len(v.Rows) == 0 || len(v.Roots) == 0 {
		t.Fatal("no vectors, or no source of them")
	}
	return &v
}

// hmacSHA256 is the MAC of a token whose record key is key.
func hmacSHA256(key []byte) guard.MAC {
	return func(_ context.Context, message []byte) ([32]byte, error) {
		m := hmac.New(sha256.New, key)
		m.Write(message)
		return [32]byte(m.Sum(nil)), nil
	}
}

var errDisk = errors.New("no space left on device")

// memoryRows is a disk that can be full. It notes each write and whether its
// context had ended.
type memoryRows struct {
	mu       sync.Mutex
	rows     map[[16]byte][]byte
	puts     int
	steps    int
	accepted uint64
	getErr   error
	putErr   error
	// stepErr is what the TPM says to a step whose write is on disk.
	stepErr error
}

func (m *memoryRows) Row(ctx context.Context, wallet [16]byte) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.getErr != nil {
		return nil, m.getErr
	}
	return m.rows[wallet], ctx.Err()
}

func (m *memoryRows) SwapRow(ctx context.Context, wallet [16]byte, prev, next []byte, step bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := errors.Join(ctx.Err(), m.putErr); err != nil {
		return err
	}
	if !bytes.Equal(m.rows[wallet], prev) {
		return guard.ErrSwapped
	}
	m.puts++
	m.rows[wallet] = append([]byte{}, next...)
	if !step {
		return nil
	}
	m.steps++
	return m.stepErr
}

func (m *memoryRows) Accepted(context.Context) (uint64, error) { return m.accepted, nil }

func (m *memoryRows) full(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.putErr = err
}

// bench is a guard over a scripted disk, with one wallet and a clock.
type bench struct {
	*guard.Guard
	t      testing.TB
	disk   *memoryRows
	mac    guard.MAC
	wallet [16]byte
	now    time.Time
	skew   time.Duration // of the wall clock
	limits guard.Limits
}

func newBench(t testing.TB) *bench {
	t.Helper()
	key := make([]byte, 32)
	rand.Read(key)
	b := &bench{t: t, disk: &memoryRows{rows: map[[16]byte][]byte{}, accepted: 1}, mac: hmacSHA256(key),
		now: time.Unix(1_800_000_000, 0), limits: guard.Limits{Consecutive: 10, Window: 1000, Days: 30, Lifetime: 1000}}
	rand.Read(b.wallet[:])
	b.Guard = guard.New(b.disk, b.mac, b.clock())
	row, err := b.NewRow(t.Context(), b.wallet)
	if err != nil {
		t.Fatal(err)
	}
	b.disk.rows[b.wallet] = row
	return b
}

// clock is one that the test moves: the TPM's began at the Unix epoch.
func (b *bench) clock() guard.Clock {
	return guard.Clock{Wall: func() time.Time { return b.now.Add(b.skew) },
		Powered: func() time.Duration { return time.Duration(b.now.UnixNano()) }}
}

// stored is the row as it is on disk.
func (b *bench) stored() *guard.Row {
	b.t.Helper()
	r, err := guard.DecodeRow(b.t.Context(), b.disk.rows[b.wallet], b.wallet, b.mac)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

// charge waits as long as the guard wants, and charges.
func (b *bench) charge() *guard.Charge {
	b.t.Helper()
	b.now = b.now.Add(b.attempts().Wait)
	c, err := b.Charge(b.t.Context(), b.wallet, b.limits)
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

func (b *bench) attempts() guard.Attempts {
	b.t.Helper()
	a, err := b.Attempts(b.t.Context(), b.wallet, b.limits)
	if err != nil {
		b.t.Fatal(err)
	}
	return a
}
