package hsm_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/sigild/sigild/daemon/wipe/wipetest"
	"github.com/sigild/sigild/hsm"
	"github.com/sigild/sigild/hsm/hsmtest"
)

// After use, no copy of an imported secret, of random bytes or of a PIN is in
// the memory of the process: not in Go's, not in what this package gave to the
// module.
func TestSecretsAreWiped(t *testing.T) {
	instance := hsmtest.New(t)
	keys := hsmtest.Provision(t, instance.Open(t), hsmtest.Installation(), 1)
	left := map[string]wipetest.Masked{
		"imported secret":      importAndForget(t, keys),
		"imported private key": importRootAndForget(t, keys),
		"random bytes":         drawAndForget(t, instance),
		"PIN":                  logInAndForget(t, instance),
	}
	runtime.GC()
	for name, m := range left {
		if places := m[:24].Places(t); len(places) > 0 {
			t.Errorf("the %s is still in memory: %v", name, places)
		}
	}
}

func importAndForget(t *testing.T, keys *hsm.Keys) wipetest.Masked {
	secret := make([]byte, 64)
	defer clear(secret)
	_, _ = rand.Read(secret)
	o, err := keys.ImportSecret(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	err = keys.HMACSHA512(t.Context(), o, []byte("x"), new([64]byte))
	if err = errors.Join(err, keys.Destroy(t.Context(), o)); err != nil {
		t.Error(err)
	}
	return wipetest.Mask(secret)
}

// importRootAndForget also carries the key out again, under a key that it knows.
// What is looked for is the private key; SoftHSM may keep a known key's schedule.
func importRootAndForget(t *testing.T, keys *hsm.Keys) wipetest.Masked {
	var scalar, known, out [32]byte
	defer clear(scalar[:])
	defer clear(known[:])
	defer clear(out[:])
	_, _ = rand.Read(scalar[1:])
	_, _ = rand.Read(known[:])
	o, _, err := keys.ImportRoot(t.Context(), &scalar)
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := keys.WrapKnown(t.Context(), o, &known)
	if err != nil {
		t.Fatal(err)
	}
	if err := hsm.UnwrapKnown(&known, wrapped, &out); err != nil || out != scalar {
		t.Errorf("another key came out: %v", err)
	}
	if err := keys.Destroy(t.Context(), o); err != nil {
		t.Error(err)
	}
	return wipetest.Mask(scalar[:])
}

func drawAndForget(t *testing.T, instance *hsmtest.Instance) wipetest.Masked {
	b, err := instance.OpenWith(t, instance.Config()).Random(t.Context(), 64)
	if err != nil {
		t.Fatal(err)
	}
	defer clear(b)
	return wipetest.Mask(b)
}

// logInAndForget gives a wrong PIN: it takes the same way as the right one, of
// which the test itself has copies.
func logInAndForget(t *testing.T, instance *hsmtest.Instance) wipetest.Masked {
	pin := make([]byte, 48)
	defer clear(pin)
	_, _ = rand.Read(pin)
	if err := instance.OpenWith(t, instance.Config()).Login(t.Context(), pin); err == nil {
		t.Error("a wrong PIN is accepted")
	}
	return wipetest.Mask(pin)
}

// A wrapped key that no caller gets is wiped: one whose caller has gone, and one
// whose object was destroyed meanwhile. Wrapping by RFC 5649 has no random part, so
// that the test knows what to look for.
func TestWrappedKeysAreWipedOnErrors(t *testing.T) {
	instance := hsmtest.New(t, hsmtest.WithFaults())
	keys := hsmtest.Provision(t, instance.Open(t), hsmtest.Installation(), 1)
	root, _, err := keys.GenerateRoot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w := &forgotten{t: t, keys: keys, faults: instance.Faults, root: root, calls: map[string]int{}}
	want := w.wrapped()
	if again := w.wrapped(); !bytes.Equal(want, again) {
		t.Fatal("the token wraps differently each time")
	}
	w.gone()
	w.destroyed()
	for _, place := range want[:24].Places(t) {
		if place.Go() { // SoftHSM keeps what it likes
			t.Errorf("the wrapped key is still in memory: %v", place)
		}
	}
}

// forgotten wraps a key in ways that do not give it to the caller.
type forgotten struct {
	t      *testing.T
	keys   *hsm.Keys
	faults *hsmtest.Faults
	root   hsm.Object
	calls  map[string]int
}

func (w *forgotten) wrapped() wipetest.Masked {
	w.t.Helper()
	b, err := w.keys.Wrap(w.t.Context(), hsm.Wrap, w.root)
	if err != nil {
		w.t.Fatal(err)
	}
	defer clear(b)
	return wipetest.Mask(b)
}

// gone wraps for a caller that does not wait for it.
func (w *forgotten) gone() {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := w.hangs(ctx)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		w.t.Errorf("wrap: %v", err)
	}
	w.note("C_CloseSession") // the session is closed after its result was discarded
	w.faults.Clear("C_WrapKey")
	w.awaitCall("C_CloseSession")
}

// destroyed wraps a key that is destroyed before the caller gets it.
func (w *forgotten) destroyed() {
	w.t.Helper()
	ended := w.hangs(w.t.Context())
	w.note("C_DestroyObject")
	w.faults.Hang("C_DestroyObject")
	done := make(chan error, 1)
	go func() { done <- w.keys.Destroy(w.t.Context(), w.root) }()
	w.awaitCall("C_DestroyObject")
	w.faults.Clear("C_WrapKey")
	if err := <-ended; !errors.Is(err, hsm.ErrObjectLost) {
		w.t.Errorf("wrap: %v", err)
	}
	w.faults.Clear("C_DestroyObject")
	if err := <-done; err != nil {
		w.t.Error(err)
	}
}

// hangs has a call in the module that wraps, until C_WrapKey is cleared.
func (w *forgotten) hangs(ctx context.Context) (ended chan error) {
	w.t.Helper()
	w.note("C_WrapKey")
	w.faults.Hang("C_WrapKey")
	ended = make(chan error, 1)
	go func() {
		_, err := w.keys.Wrap(ctx, hsm.Wrap, w.root)
		ended <- err
	}()
	w.awaitCall("C_WrapKey")
	return ended
}

// note takes down how often a function was called; awaitCall waits for one more.
func (w *forgotten) note(function string) { w.calls[function] = w.faults.Calls(function) }

func (w *forgotten) awaitCall(function string) {
	w.t.Helper()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for w.faults.Calls(function) == w.calls[function] {
		select {
		case <-again.C:
		case <-w.t.Context().Done():
			w.t.Fatalf("no call of %s", function)
		}
	}
}
