package hsm_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sigild/sigild/hsm"
	"github.com/sigild/sigild/hsm/hsmtest"
)

// masked is a secret that the test remembers without keeping a copy of it.
type masked []byte

func mask(secret []byte) masked {
	out := bytes.Clone(secret)
	for i := range out {
		out[i] ^= 0x55
	}
	return out
}

// After use, no copy of an imported secret, of random bytes or of a PIN is in
// the memory of the process: not in Go's, not in what this package gave to the
// module.
func TestSecretsAreWiped(t *testing.T) {
	instance := hsmtest.New(t)
	keys := hsmtest.Provision(t, instance.Open(t), hsmtest.Installation(), 1)
	left := map[string]masked{
		"imported secret": importAndForget(t, keys),
		"random bytes":    drawAndForget(t, instance),
		"PIN":             logInAndForget(t, instance),
	}
	runtime.GC()
	for name, m := range left {
		if places := search(t, m[:24]); len(places) > 0 {
			t.Errorf("the %s is still in memory: %v", name, places)
		}
	}
}

func importAndForget(t *testing.T, keys *hsm.Keys) masked {
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
	return mask(secret)
}

func drawAndForget(t *testing.T, instance *hsmtest.Instance) masked {
	b, err := instance.OpenWith(t, instance.Config()).Random(t.Context(), 64)
	if err != nil {
		t.Fatal(err)
	}
	defer clear(b)
	return mask(b)
}

// logInAndForget gives a wrong PIN: it takes the same way as the right one, of
// which the test itself has copies.
func logInAndForget(t *testing.T, instance *hsmtest.Instance) masked {
	pin := make([]byte, 48)
	defer clear(pin)
	_, _ = rand.Read(pin)
	if err := instance.OpenWith(t, instance.Config()).Login(t.Context(), pin); err == nil {
		t.Error("a wrong PIN is accepted")
	}
	return mask(pin)
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
	for _, place := range search(t, want[:24]) {
		var start uint64
		if _, err := fmt.Sscanf(place, "%x-", &start); err != nil {
			t.Fatal(err)
		}
		if start>>36 > 0 && start < 0x7000_0000_0000 { // Go's heap; SoftHSM keeps what it likes
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

func (w *forgotten) wrapped() masked {
	w.t.Helper()
	b, err := w.keys.Wrap(w.t.Context(), hsm.Wrap, w.root)
	if err != nil {
		w.t.Fatal(err)
	}
	defer clear(b)
	return mask(b)
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

// search returns where the secret is found in writable memory.
func search(t *testing.T, m masked) []string {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	var places []string
	lines := bufio.NewScanner(bytes.NewReader(maps))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		var low, high int64
		if _, err := fmt.Sscanf(fields[0], "%x-%x", &low, &high); err != nil || !strings.HasPrefix(fields[1], "rw") {
			continue
		}
		if searchRange(mem, low, high, m) {
			places = append(places, lines.Text())
		}
	}
	return places
}

// searchRange reads in pieces that overlap by more than the secret.
func searchRange(mem *os.File, low, high int64, m masked) bool {
	buffer := make([]byte, 1<<16)
	defer clear(buffer)
	for at := low; at < high; at += int64(len(buffer) - 64) {
		n, _ := mem.ReadAt(buffer[:min(int64(len(buffer)), high-at)], at) // parts may be unmapped meanwhile
		if contains(buffer[:n], m) {
			return true
		}
	}
	return false
}

func contains(b []byte, m masked) bool {
	for {
		i := bytes.IndexByte(b, m[0]^0x55)
		if i < 0 || i+len(m) > len(b) {
			return false
		}
		if matches(b[i:], m) {
			return true
		}
		b = b[i+1:]
	}
}

func matches(b []byte, m masked) bool {
	for i := range m {
		if b[i]^0x55 != m[i] {
			return false
		}
	}
	return true
}
