package tpm_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"github.com/sigild/sigild/tpm"
)

// counterAuth has zero bytes in the middle and at the end.
func counterAuth() []byte { return []byte("sixteen\x00 bytes \x00\x00") }

func define(t testing.TB, on *tpm.TPM, handle uint32, orderly bool) *tpm.Counter {
	t.Helper()
	counter, err := on.DefineCounter(t.Context(), handle, orderly, counterAuth())
	if err != nil {
		t.Fatal(err)
	}
	return counter
}

func increment(t testing.TB, counter *tpm.Counter) uint64 {
	t.Helper()
	value, err := counter.Increment(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func read(t testing.TB, counter *tpm.Counter) uint64 {
	t.Helper()
	value, err := counter.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func spec(counter *tpm.Counter) tpm.CounterSpec {
	return tpm.CounterSpec{
		Handle: counter.Handle(), Orderly: counter.Orderly(), Auth: counterAuth(), Name: counter.Name(),
	}
}

func TestCounterCounts(t *testing.T) {
	h := newHost(t)
	for handle, orderly := range map[uint32]bool{0x01800001: true, 0x01800002: false} {
		counter := define(t, h.TPM, handle, orderly)
		start := read(t, counter)
		for i := range uint64(10) {
			if got := increment(t, counter); got != start+i+1 || read(t, counter) != got {
				t.Fatalf("step %d from %d gives %d", i, start, got)
			}
		}
		again, err := h.OpenCounter(t.Context(), spec(counter))
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, again); got != start+10 || !bytes.Equal(again.Name(), counter.Name()) {
			t.Errorf("opened again: %d, want %d", got, start+10)
		}
	}
}

func TestTwoCountersTakeTurns(t *testing.T) {
	h := newHost(t)
	key := h.loadKey(t, h.createKey(t, random(t, tpm.HMACKeySize)), h.approve(t))
	anchor, unclean := define(t, h.TPM, 0x01800001, true), define(t, h.TPM, 0x01800002, false)
	a, u := read(t, anchor), read(t, unclean)
	for i := range uint64(5) {
		if got := increment(t, anchor); got != a+i+1 {
			t.Fatalf("anchor %d, want %d", got, a+i+1)
		}
		if _, err := key.HMAC(t.Context(), []byte("x")); err != nil {
			t.Fatal(err)
		}
		if got := increment(t, unclean); got != u+i+1 {
			t.Fatalf("unclean counter %d, want %d", got, u+i+1)
		}
	}
}

func TestPowerCutMovesCountersForwardOnly(t *testing.T) {
	h := newHost(t)
	orderly, durable := define(t, h.TPM, 0x01800001, true), define(t, h.TPM, 0x01800002, false)
	for range 3 {
		increment(t, orderly)
		increment(t, durable)
	}
	o, d := read(t, orderly), read(t, durable)

	h.instance.Restart(true)
	if err := h.Reopen(t.Context()); err != nil {
		t.Fatal(err)
	}
	if gotO, gotD := read(t, orderly), read(t, durable); gotO != o || gotD != d {
		t.Errorf("an orderly restart moves %d, %d to %d, %d", o, d, gotO, gotD)
	}
	increment(t, orderly)
	h.instance.Restart(false)
	if err := h.Reopen(t.Context()); err != nil {
		t.Fatal(err)
	}
	jumped := read(t, orderly)
	if jumped <= o+1 || jumped > o+1+256 {
		t.Errorf("a power cut moves the orderly counter from %d to %d", o+1, jumped)
	}
	if got := read(t, durable); got != d {
		t.Errorf("a power cut moves the durable counter from %d to %d", d, got)
	}
	if got := increment(t, orderly); got != jumped+1 {
		t.Errorf("after the jump to %d comes %d", jumped, got)
	}
}

func TestCounterIsThePinnedOne(t *testing.T) {
	h := newHost(t)
	counter := define(t, h.TPM, 0x01800001, true)
	good := spec(counter)
	for name, c := range map[string]struct {
		change func(*tpm.CounterSpec)
		want   error
	}{
		"missing":      {func(s *tpm.CounterSpec) { s.Handle = 0x01800009 }, tpm.ErrCounterMissing},
		"durable":      {func(s *tpm.CounterSpec) { s.Orderly = false }, tpm.ErrCounterChanged},
		"no name":      {func(s *tpm.CounterSpec) { s.Name = nil }, tpm.ErrCounterChanged},
		"other name":   {func(s *tpm.CounterSpec) { s.Name = bytes.Repeat([]byte{0}, 34) }, tpm.ErrCounterChanged},
		"other auth":   {func(s *tpm.CounterSpec) { s.Auth = bytes.Repeat([]byte{1}, 16) }, tpm.ErrCounterAuth},
		"short auth":   {func(s *tpm.CounterSpec) { s.Auth = s.Auth[:15] }, tpm.ErrArgument},
		"no NV handle": {func(s *tpm.CounterSpec) { s.Handle = 0x81000001 }, tpm.ErrArgument},
	} {
		changed := good
		c.change(&changed)
		if _, err := h.OpenCounter(t.Context(), changed); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := h.DefineCounter(t.Context(), 0x01800001, true, counterAuth()); !errors.Is(err, tpm.ErrCounterExists) {
		t.Errorf("define twice: %v", err)
	}
	if _, err := h.OpenCounter(t.Context(), good); err != nil {
		t.Errorf("after all that: %v", err)
	}
}

func TestRedefinedCounterIsNotRewound(t *testing.T) {
	h := newHost(t)
	counter := define(t, h.TPM, 0x01800001, false)
	for range 20 {
		increment(t, counter)
	}
	last := read(t, counter)
	if err := h.UndefineCounter(t.Context(), counter.Handle()); err != nil {
		t.Fatal(err)
	}
	if _, err := counter.Read(t.Context()); !errors.Is(err, tpm.ErrCounterMissing) {
		t.Errorf("read a deleted counter: %v", err)
	}
	if err := h.UndefineCounter(t.Context(), counter.Handle()); !errors.Is(err, tpm.ErrCounterMissing) {
		t.Errorf("delete twice: %v", err)
	}
	if got := read(t, define(t, h.TPM, 0x01800001, false)); got <= last {
		t.Errorf("the counter starts again at %d, below %d", got, last)
	}
}

// An ordinary index can be written back; it must not pass for a counter.
func TestOrdinaryIndexInPlaceOfTheCounter(t *testing.T) {
	h := newHost(t)
	counter := define(t, h.TPM, 0x01800001, false)
	if err := h.UndefineCounter(t.Context(), counter.Handle()); err != nil {
		t.Fatal(err)
	}
	bus, err := linuxudstpm.Open(h.instance.Device)
	if err != nil {
		t.Fatal(err)
	}
	_, err = tpm2.NVDefineSpace{
		AuthHandle: tpm2.TPMRHOwner,
		PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
			NVIndex: 0x01800001, NameAlg: tpm2.TPMAlgSHA256, DataSize: 8,
			Attributes: tpm2.TPMANV{NT: tpm2.TPMNTOrdinary, AuthRead: true, AuthWrite: true, NoDA: true},
		}),
	}.Execute(bus)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.OpenCounter(t.Context(), spec(counter)); !errors.Is(err, tpm.ErrCounterChanged) {
		t.Errorf("open: %v", err)
	}
	if _, err := counter.Increment(t.Context()); err == nil {
		t.Error("increment of an ordinary index")
	}
	if err := h.UndefineCounter(t.Context(), 0x01800001); !errors.Is(err, tpm.ErrCounterChanged) {
		t.Errorf("delete somebody else's index: %v", err)
	}
}
