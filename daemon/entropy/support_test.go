package entropy_test

import (
	"context"
	"crypto/rand"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/sigild/sigild/daemon/entropy"
)

// memory is an Answers in memory. It outlives a mixer as a database outlives a
// process.
type memory struct {
	mu      sync.Mutex
	digests map[string][32]byte
	err     error
	calls   int
}

func (m *memory) RememberAnswers(_ context.Context, digests map[string][32]byte) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls++
	if m.err != nil {
		return nil, m.err
	}
	var repeated []string
	for name, d := range digests {
		if last, ok := m.digests[name]; ok && last == d {
			repeated = append(repeated, name)
		}
	}
	if len(repeated) > 0 {
		return repeated, nil
	}
	if m.digests == nil {
		m.digests = map[string][32]byte{}
	}
	maps.Copy(m.digests, digests)
	return nil, nil
}

func (m *memory) stored() map[string][32]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.digests)
}

// dispenser is the random function of a device; it keeps every slice that it
// gave out, to see whether it was wiped.
type dispenser struct {
	mu    sync.Mutex
	next  func(ctx context.Context, n int) ([]byte, error)
	given [][]byte
}

func (d *dispenser) random(ctx context.Context, n int) ([]byte, error) {
	d.mu.Lock()
	next := d.next
	d.mu.Unlock()
	b, err := next(ctx, n)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.given = append(d.given, b)
	return b, err
}

// set replaces the behaviour of reads that start from now on.
func (d *dispenser) set(next func(ctx context.Context, n int) ([]byte, error)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.next = next
}

// unwiped returns how many of the slices given out still hold something.
func (d *dispenser) unwiped() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	dirty := 0
	for _, b := range d.given {
		if slices.ContainsFunc(b, func(c byte) bool { return c != 0 }) {
			dirty++
		}
	}
	return dirty
}

func (d *dispenser) reads() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.given)
}

func fresh(_ context.Context, n int) ([]byte, error) {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b, nil
}

// always gives a copy of b each time.
func always(b []byte) func(context.Context, int) ([]byte, error) {
	return func(context.Context, int) ([]byte, error) { return slices.Clone(b), nil }
}

func model(context.Context) (string, string, string, error) { return "ACME", "RNG 1", "2.3", nil }

// bench is a mixer over three honest devices whose behaviour a test replaces.
type bench struct {
	mixer           *entropy.Mixer
	answers         *memory
	kms, token, tpm *dispenser
}

func newBench(t testing.TB, o entropy.MixerOptions) *bench {
	t.Helper()
	b := &bench{answers: &memory{}, kms: &dispenser{next: fresh}, token: &dispenser{next: fresh}, tpm: &dispenser{next: fresh}}
	b.mixer = b.open(t, o)
	return b
}

// open makes a mixer over the same devices and the same stored digests, as a
// restarted daemon would.
func (b *bench) open(t testing.TB, o entropy.MixerOptions) *entropy.Mixer {
	t.Helper()
	m, err := entropy.NewMixer([]entropy.Source{
		entropy.NewDevice("tpm", model, b.tpm.random),
		entropy.NewDevice("kms", model, b.kms.random),
		entropy.NewDevice("token", model, b.token.random),
	}, b.answers, o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (b *bench) device(name string) *dispenser {
	return map[string]*dispenser{"kms": b.kms, "token": b.token, "tpm": b.tpm}[name]
}

// checkWiped fails the test if any answer is still in memory.
func (b *bench) checkWiped(t testing.TB) {
	t.Helper()
	for _, name := range b.mixer.Sources() {
		if n := b.device(name).unwiped(); n > 0 {
			t.Errorf("%d answers of %s are not wiped", n, name)
		}
	}
}

// wantFault checks that err is a SourceError of that source and reason.
func wantFault(t testing.TB, err error, source string, reason entropy.Reason) *entropy.SourceError {
	t.Helper()
	fault, ok := errors.AsType[*entropy.SourceError](err)
	if !ok {
		t.Fatalf("got %v, want a SourceError of %s", err, source)
	}
	if fault.Source != source || fault.Reason != reason {
		t.Fatalf("got %s: %s, want %s: %s (%v)", fault.Source, fault.Reason, source, reason, err)
	}
	return fault
}
