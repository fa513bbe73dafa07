package tpm_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/sigild/sigild/tpm"
	"github.com/sigild/sigild/tpm/tpmtest"
)

// tapped is a host whose bus is tapped.
func tapped(t testing.TB, timeout time.Duration) (*host, *tpmtest.Tap) {
	t.Helper()
	instance := tpmtest.New(t)
	tap := instance.Tap(t)
	return newHostOn(t, instance, tpm.Config{Device: tap.Device, Timeout: timeout}), tap
}

// refusal is a response with nothing but a code.
func refusal(code tpm2.TPMRC) []byte {
	out := []byte{0x80, 0x01, 0, 0, 0, 10}
	return binary.BigEndian.AppendUint32(out, uint32(code))
}

func commandCode(command []byte) tpm2.TPMCC { return tpm2.TPMCC(binary.BigEndian.Uint32(command[6:])) }

func TestNoSecretOnTheBus(t *testing.T) {
	h, tap := tapped(t, 0)
	value, data := random(t, tpm.HMACKeySize), random(t, 32)
	message := random(t, 64)
	approval := h.approve(t)
	key := h.loadKey(t, h.createKey(t, value), approval)
	mac, err := key.HMAC(t.Context(), message)
	if err != nil {
		t.Fatal(err)
	}
	blob := h.seal(t, data)
	if _, err := h.Unseal(t.Context(), blob, h.authority, []tpm.Approval{approval}); err != nil {
		t.Fatal(err)
	}
	drawn, err := h.Random(t.Context(), 32)
	if err != nil {
		t.Fatal(err)
	}
	define(t, h.TPM, 0x01800001, true)
	passed := tap.Passed()
	if !bytes.Contains(passed, blob.Private) {
		t.Fatal("the tap does not see the bus")
	}
	for name, secret := range map[string][]byte{
		"key value": value, "sealed data": data, "message": message, "HMAC": mac[:], "random": drawn,
		"counter authorisation": counterAuth(),
	} {
		if bytes.Contains(passed, secret[:16]) {
			t.Errorf("the %s crossed the bus in the clear", name)
		}
	}
}

func TestRepeatsWhatTheTPMDidNotStart(t *testing.T) {
	for _, code := range []tpm2.TPMRC{tpm2.TPMRCRetry, tpm2.TPMRCYielded, tpm2.TPMRCTesting, tpm2.TPMRCNVRate} {
		h, tap := tapped(t, 0)
		value := random(t, tpm.HMACKeySize)
		approval := h.approve(t)
		var n atomic.Int64
		tap.Handle(func(command []byte, forward func([]byte) []byte) []byte {
			if n.Add(1)%3 != 0 {
				return refusal(code)
			}
			return forward(command)
		})
		key := h.loadKey(t, h.createKey(t, value), approval)
		if mac, err := key.HMAC(t.Context(), []byte("x")); err != nil || mac != software(value, []byte("x")) {
			t.Errorf("%v: %v", code, err)
		}
		tap.Handle(nil)
	}
}

func TestRepeatsEndWithTheTimeout(t *testing.T) {
	h, tap := tapped(t, 100*time.Millisecond)
	tap.Handle(func([]byte, func([]byte) []byte) []byte { return refusal(tpm2.TPMRCRetry) })
	_, err := h.Random(deadline(t), 32)
	if !errors.Is(err, tpm2.TPMRCRetry) || errors.Is(err, tpm.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	var refused *tpm.CommandError
	if !errors.As(err, &refused) || refused.Command != "TPM2_StartAuthSession" {
		t.Errorf("%v", err)
	}
	tap.Handle(nil)
	if _, err := h.Random(deadline(t), 32); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestCancelEndsRepeatsWithoutALeak(t *testing.T) {
	h, tap := tapped(t, time.Minute)
	ctx, cancel := context.WithCancel(deadline(t))
	var only atomic.Bool // refuses the command only, not the flush after it
	tap.Handle(func(command []byte, forward func([]byte) []byte) []byte {
		if commandCode(command) == tpm2.TPMCCGetRandom {
			only.Store(true)
			cancel()
			return refusal(tpm2.TPMRCRetry)
		}
		return forward(command)
	})
	if _, err := h.Random(ctx, 32); !errors.Is(err, context.Canceled) || !only.Load() {
		t.Errorf("%v", err)
	}
	if loaded := h.instance.Loaded(t); len(loaded) != 1 {
		t.Errorf("loaded are %#x, want the storage root key alone", loaded)
	}
}

func TestHangingTPMIsAbandonedAndComesBack(t *testing.T) {
	h, tap := tapped(t, 200*time.Millisecond)
	value := random(t, tpm.HMACKeySize)
	key := h.loadKey(t, h.createKey(t, value), h.approve(t))
	release := make(chan struct{})
	tap.Handle(func([]byte, func([]byte) []byte) []byte { <-release; return nil })
	if _, err := key.HMAC(deadline(t), []byte("x")); !errors.Is(err, tpm.ErrUnavailable) {
		t.Errorf("hanging: %v", err)
	}
	if err := h.Reopen(deadline(t)); !errors.Is(err, tpm.ErrUnavailable) {
		t.Errorf("Reopen, hanging: %v", err)
	}
	tap.Handle(nil)
	close(release)
	if _, err := h.Random(deadline(t), 1); !errors.Is(err, tpm.ErrUnavailable) {
		t.Errorf("before Reopen: %v", err)
	}
	if err := h.Reopen(deadline(t)); err != nil {
		t.Fatal(err)
	}
	if mac, err := key.HMAC(deadline(t), []byte("x")); err != nil || mac != software(value, []byte("x")) {
		t.Errorf("after Reopen: %v", err)
	}
}

func TestWaitingCallerLeavesWithItsContext(t *testing.T) {
	h, tap := tapped(t, time.Minute)
	entered, release := make(chan struct{}, 8), make(chan struct{})
	tap.Handle(func(command []byte, forward func([]byte) []byte) []byte {
		entered <- struct{}{}
		<-release
		return forward(command)
	})
	first := make(chan error, 1)
	go func() {
		_, err := h.Clock(t.Context())
		first <- err
	}()
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := h.Clock(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("second caller: %v", err)
	}
	close(release)
	if err := <-first; err != nil {
		t.Errorf("first caller: %v", err)
	}
}

func TestMalformedResponses(t *testing.T) {
	for name, response := range map[string][]byte{
		"hang-up":       nil,
		"short header":  {0x80, 0x01, 0, 0},
		"size too low":  {0x80, 0x01, 0, 0, 0, 9, 0, 0, 0, 0},
		"size too high": {0x80, 0x01, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0},
		"cut off":       {0x80, 0x01, 0, 0, 0, 40, 0, 0, 0, 0},
		"too long":      {0x80, 0x01, 0, 0, 0, 10, 0, 0, 0, 0, 1},
		"empty":         {0x80, 0x01, 0, 0, 0, 10, 0, 0, 0, 0},
		"no session":    {0x80, 0x01, 0, 0, 0, 14, 0, 0, 0, 0, 0, 2, 0xaa, 0xbb},
		"area too long": {0x80, 0x02, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0},
		"no area":       {0x80, 0x02, 0, 0, 0, 18, 0, 0, 0, 0, 0, 0, 0, 4, 0, 2, 0xaa, 0xbb},
	} {
		h, tap := tapped(t, time.Second)
		tap.Handle(func(command []byte, forward func([]byte) []byte) []byte {
			if commandCode(command) == tpm2.TPMCCGetRandom {
				return response
			}
			return forward(command)
		})
		if out, err := h.Random(deadline(t), 32); !errors.Is(err, tpm.ErrUnavailable) || out != nil {
			t.Errorf("%s: %v", name, err)
		}
		tap.Handle(nil)
		if err := h.Reopen(deadline(t)); err != nil {
			t.Errorf("%s: Reopen: %v", name, err)
		}
	}
}

// Whatever bit of the answer is changed on the bus, it is noticed.
func TestChangedResponsesAreNoticed(t *testing.T) {
	h, tap := tapped(t, time.Second)
	approval := h.approve(t)
	key := h.loadKey(t, h.createKey(t, random(t, tpm.HMACKeySize)), approval)
	counter := define(t, h.TPM, 0x01800001, true)
	blob := h.seal(t, random(t, 32))
	for _, c := range []struct {
		code tpm2.TPMCC
		call func() error
	}{
		{tpm2.TPMCCHMAC, func() error { _, err := key.HMAC(t.Context(), []byte("x")); return err }},
		{tpm2.TPMCCGetRandom, func() error { _, err := h.Random(t.Context(), 16); return err }},
		{tpm2.TPMCCNVRead, func() error { _, err := counter.Read(t.Context()); return err }},
		{tpm2.TPMCCPCRRead, func() error { _, err := h.ReadPCRs(t.Context(), h.profile.PCRs()); return err }},
		{tpm2.TPMCCUnseal, func() error {
			_, err := h.Unseal(t.Context(), blob, h.authority, []tpm.Approval{approval})
			return err
		}},
	} {
		for _, at := range []int{14, 16, 20, 30, 45, -1, -20} {
			tap.Handle(func(command []byte, forward func([]byte) []byte) []byte {
				response := forward(command)
				if commandCode(command) == c.code && response != nil {
					response[(at+len(response))%len(response)] ^= 1
				}
				return response
			})
			if err := c.call(); !errors.Is(err, tpm.ErrUnavailable) {
				t.Errorf("%v, byte %d changed: %v", c.code, at, err)
			}
			tap.Handle(nil)
			if err := h.Reopen(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// The nonce of an earlier answer makes a replay useless.
func TestReplayedCounterValueIsNoticed(t *testing.T) {
	h, tap := tapped(t, time.Second)
	counter := define(t, h.TPM, 0x01800001, true)
	var old []byte
	tap.Handle(func(command []byte, forward func([]byte) []byte) []byte {
		response := forward(command)
		if commandCode(command) != tpm2.TPMCCNVRead {
			return response
		}
		if old == nil {
			old = response
		}
		return old
	})
	read(t, counter)
	if _, err := counter.Increment(t.Context()); !errors.Is(err, tpm.ErrUnavailable) {
		t.Errorf("an old value is taken: %v", err)
	}
	tap.Handle(nil)
	if err := h.Reopen(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A session that a resource manager lost is replaced within the call.
func TestLostSessionIsReplaced(t *testing.T) {
	h, tap := tapped(t, 0)
	value := random(t, tpm.HMACKeySize)
	key := h.loadKey(t, h.createKey(t, value), h.approve(t))
	counter := define(t, h.TPM, 0x01800001, true)
	last := read(t, counter)
	for _, code := range []tpm2.TPMRC{tpm2.TPMRCReferenceH0, tpm2.TPMRCReferenceS0, tpm2.TPMRCContextGap} {
		lose := map[tpm2.TPMCC]bool{tpm2.TPMCCPolicyPCR: true, tpm2.TPMCCNVIncrement: true}
		tap.Handle(func(command []byte, forward func([]byte) []byte) []byte {
			if cc := commandCode(command); lose[cc] {
				delete(lose, cc)
				return refusal(code)
			}
			return forward(command)
		})
		if mac, err := key.HMAC(t.Context(), []byte("x")); err != nil || mac != software(value, []byte("x")) {
			t.Errorf("HMAC, %v: %v", code, err)
		}
		if got := increment(t, counter); got != last+1 {
			t.Errorf("Increment, %v: %d, want %d", code, got, last+1)
		}
		last++
		tap.Handle(nil)
	}
}

// After the increment, a failed read must not lead to a second increment.
func TestCounterIsIncrementedOnce(t *testing.T) {
	h, tap := tapped(t, 0)
	counter := define(t, h.TPM, 0x01800001, true)
	last := read(t, counter)
	tap.Handle(func(command []byte, forward func([]byte) []byte) []byte {
		if commandCode(command) == tpm2.TPMCCNVRead {
			return refusal(tpm2.TPMRCContextGap)
		}
		return forward(command)
	})
	if _, err := counter.Increment(t.Context()); !errors.Is(err, tpm2.TPMRCContextGap) {
		t.Errorf("%v", err)
	}
	tap.Handle(nil)
	if got := read(t, counter); got != last+1 {
		t.Errorf("%d steps instead of one", got-last)
	}
}

// A TPM that refuses a command and then the flush of its session keeps that one. Once
// it takes no more of them the connection is given up, and another begins without them.
func TestSessionsThatCouldNotBeFlushed(t *testing.T) {
	h, tap := tapped(t, 0)
	tap.Handle(func(command []byte, forward func([]byte) []byte) []byte {
		switch commandCode(command) {
		case tpm2.TPMCCGetRandom, tpm2.TPMCCFlushContext:
			return refusal(tpm2.TPMRCLockout)
		}
		return forward(command)
	})
	var err error
	for n := 0; n < 64 && !errors.Is(err, tpm.ErrUnavailable); n++ {
		if _, err = h.Random(deadline(t), 32); err == nil {
			t.Fatal("random bytes of a TPM that refuses them")
		}
	}
	if !errors.Is(err, tpm.ErrUnavailable) {
		t.Errorf("%v, want ErrUnavailable", err)
	}
	tap.Handle(nil)
	if err := h.Reopen(deadline(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Random(deadline(t), 32); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}
