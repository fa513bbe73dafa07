package tpm_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sigild/sigild/tpm"
	"github.com/sigild/sigild/tpm/tpmtest"
)

func TestRandomIsOfTheLengthAskedFor(t *testing.T) {
	opened := open(t, tpmtest.New(t).Device)
	seen := map[string]bool{}
	for _, n := range []int{1, 31, 32, 48, 64, 65, 200, tpm.MaxRandom} {
		out, err := opened.Random(t.Context(), n)
		if err != nil || len(out) != n {
			t.Fatalf("%d bytes asked for: %d, %v", n, len(out), err)
		}
		if n >= 31 && seen[string(out[:31])] {
			t.Errorf("%d bytes begin like an earlier answer", n)
		}
		seen[string(out[:min(n, 31)])] = true
	}
	for _, n := range []int{-1, 0, tpm.MaxRandom + 1} {
		if _, err := opened.Random(t.Context(), n); !errors.Is(err, tpm.ErrArgument) {
			t.Errorf("%d bytes asked for: %v", n, err)
		}
	}
}

func TestOpenRefusesWhatIsNoTPM(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		config tpm.Config
		want   error
	}{
		{tpm.Config{}, tpm.ErrArgument},
		{tpm.Config{Device: "relative/path"}, tpm.ErrArgument},
		{tpm.Config{Device: file}, tpm.ErrArgument},
		{tpm.Config{Device: "/dev/null", Timeout: -1}, tpm.ErrArgument},
		{tpm.Config{Device: filepath.Join(filepath.Dir(file), "missing")}, tpm.ErrUnavailable},
		{tpm.Config{Device: "/dev/null", Timeout: 50 * time.Millisecond}, tpm.ErrUnavailable},
	} {
		if _, err := tpm.Open(t.Context(), c.config); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v, want %v", c.config, err, c.want)
		}
	}
}

func TestSRKIsPinned(t *testing.T) {
	instance, other := tpmtest.New(t), tpmtest.New(t)
	opened := open(t, instance.Device)
	name := opened.SRKName()
	if len(name) != 34 {
		t.Fatalf("a name of %d bytes", len(name))
	}
	if err := opened.PinSRK(name); err != nil {
		t.Fatal(err)
	}
	stranger := open(t, other.Device)
	if bytes.Equal(stranger.SRKName(), name) {
		t.Fatal("two TPMs have one storage root key")
	}
	for _, wrong := range [][]byte{nil, name[:33], make([]byte, 34)} {
		if err := stranger.PinSRK(wrong); !errors.Is(err, tpm.ErrSRKChanged) {
			t.Errorf("pin of %d wrong bytes: %v", len(wrong), err)
		}
	}
	if _, err := stranger.Random(t.Context(), 1); !errors.Is(err, tpm.ErrSRKChanged) {
		t.Errorf("a TPM with another key is used: %v", err)
	}
	if err := stranger.Reopen(t.Context()); !errors.Is(err, tpm.ErrSRKChanged) {
		t.Errorf("a TPM with another key is opened again: %v", err)
	}
}

func TestInfoAndClock(t *testing.T) {
	instance := tpmtest.New(t)
	opened := open(t, instance.Device)
	info, err := opened.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.Manufacturer != "IBM" || info.VendorString != "SW   TPM" || info.SpecFamily != "2.0" ||
		info.FirmwareVersion == "" || len(info.SpecRevision) != 4 {
		t.Errorf("%+v", info)
	}
	before, err := opened.Clock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	instance.Restart(true)
	if err := opened.Reopen(t.Context()); err != nil {
		t.Fatal(err)
	}
	after, err := opened.Clock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if after.ResetCount != before.ResetCount+1 || after.Clock < before.Clock || !after.Safe {
		t.Errorf("before %+v, after a restart %+v", before, after)
	}
	instance.Restart(false)
	if err := opened.Reopen(t.Context()); err != nil {
		t.Fatal(err)
	}
	if cut, err := opened.Clock(t.Context()); err != nil || cut.Safe || cut.ResetCount != after.ResetCount+1 {
		t.Errorf("after a power cut %+v, %v", cut, err)
	}
}

func TestCloseFreesEverything(t *testing.T) {
	h := newHost(t)
	key := h.loadKey(t, h.createKey(t, random(t, tpm.HMACKeySize)), h.approve(t))
	counter := define(t, h.TPM, 0x01800001, true)
	if len(h.instance.Loaded(t)) == 0 {
		t.Fatal("nothing is loaded: the test tests nothing")
	}
	for range 2 {
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
	}
	h.instance.CheckLeaks(t)
	if _, err := key.HMAC(t.Context(), []byte("x")); !errors.Is(err, tpm.ErrClosed) {
		t.Errorf("HMAC: %v", err)
	}
	if _, err := counter.Read(t.Context()); !errors.Is(err, tpm.ErrClosed) {
		t.Errorf("Read: %v", err)
	}
	if err := h.Reopen(t.Context()); !errors.Is(err, tpm.ErrClosed) {
		t.Errorf("Reopen: %v", err)
	}
	if err := key.Close(); err != nil {
		t.Errorf("close a key after its TPM: %v", err)
	}
}

func TestOpenFreesWhatAKilledClientLeft(t *testing.T) {
	h := newHost(t)
	approval, blob := h.approve(t), h.createKey(t, random(t, tpm.HMACKeySize))
	for range 4 { // each leaves a storage root key, a key and two sessions behind
		next := open(t, h.instance.Device)
		if _, err := next.LoadHMACKey(t.Context(), blob, h.authority, []tpm.Approval{approval}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRestartOfTheTPM(t *testing.T) {
	h := newHost(t)
	value, message := random(t, tpm.HMACKeySize), []byte("message")
	key := h.loadKey(t, h.createKey(t, value), h.approve(t))
	counter := define(t, h.TPM, 0x01800001, false)
	last, err := counter.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h.instance.Stop(false)
	if _, err := key.HMAC(t.Context(), message); !errors.Is(err, tpm.ErrUnavailable) {
		t.Fatalf("HMAC without a TPM: %v", err)
	}
	if err := h.Reopen(t.Context()); !errors.Is(err, tpm.ErrUnavailable) {
		t.Fatalf("Reopen without a TPM: %v", err)
	}
	h.instance.Restart(false)
	if _, err := counter.Read(t.Context()); !errors.Is(err, tpm.ErrUnavailable) {
		t.Fatalf("Read before Reopen: %v", err)
	}
	if err := h.Reopen(t.Context()); err != nil {
		t.Fatal(err)
	}
	if mac, err := key.HMAC(t.Context(), message); err != nil || mac != software(value, message) {
		t.Errorf("HMAC after Reopen: %v", err)
	}
	if got, err := counter.Read(t.Context()); err != nil || got != last {
		t.Errorf("Read after Reopen: %d, %v; want %d", got, err, last)
	}
}

func TestUnnoticedRestartIsNoticed(t *testing.T) {
	h := newHost(t)
	key := h.loadKey(t, h.createKey(t, random(t, tpm.HMACKeySize)), h.approve(t))
	h.instance.Restart(true) // between two commands: nothing tells the client
	if _, err := key.HMAC(t.Context(), []byte("x")); !errors.Is(err, tpm.ErrUnavailable) {
		t.Fatalf("HMAC with handles of before the restart: %v", err)
	}
	if err := h.Reopen(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := key.HMAC(t.Context(), []byte("x")); err != nil {
		t.Fatal(err)
	}
}

func TestReopenRefusesAnotherTPM(t *testing.T) {
	first, second := tpmtest.New(t), tpmtest.New(t)
	link := filepath.Join(t.TempDir(), "tpm")
	if err := os.Symlink(first.Device, link); err != nil {
		t.Fatal(err)
	}
	opened := open(t, link)
	if err := opened.Reopen(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	first.Restart(true) // frees what is loaded there
	if err := os.Symlink(second.Device, link); err != nil {
		t.Fatal(err)
	}
	if err := opened.Reopen(t.Context()); !errors.Is(err, tpm.ErrSRKChanged) {
		t.Fatalf("Reopen on another TPM: %v", err)
	}
	if _, err := opened.Random(t.Context(), 32); !errors.Is(err, tpm.ErrSRKChanged) {
		t.Errorf("the other TPM is used: %v", err)
	}
}

func TestCanceledContext(t *testing.T) {
	h := newHost(t)
	approval := h.approve(t)
	key := h.loadKey(t, h.createKey(t, random(t, tpm.HMACKeySize)), approval)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, open := tpm.Open(ctx, tpm.Config{Device: h.instance.Device})
	_, random := h.Random(ctx, 32)
	_, mac := key.HMAC(ctx, []byte("x"))
	_, unseal := h.Unseal(ctx, h.seal(t, []byte("x")), h.authority, []tpm.Approval{approval})
	_, pcrs := h.ReadPCRs(ctx, h.profile.PCRs())
	_, clock := h.Clock(ctx)
	for name, err := range map[string]error{
		"Open": open, "Random": random, "HMAC": mac, "Unseal": unseal, "ReadPCRs": pcrs, "Clock": clock,
		"Reopen": h.Reopen(ctx),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := key.HMAC(t.Context(), []byte("x")); err != nil {
		t.Errorf("a cancelled caller costs the others the TPM: %v", err)
	}
}
