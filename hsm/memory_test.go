package hsm_test

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

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
