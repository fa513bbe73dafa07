package argon2_test

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"runtime"
	"runtime/metrics"
	"testing"

	other "golang.org/x/crypto/argon2"

	"github.com/sigild/sigild/daemon/seal/argon2"
	"github.com/sigild/sigild/daemon/seal/argon2/argon2test"
)

// derive is the tag with all inputs. It fails the test when the memory is not clear
// afterwards.
func derive(t testing.TB, in argon2test.Inputs, c argon2test.Cost) [argon2.TagSize]byte {
	t.Helper()
	memory := make([]argon2.Block, argon2.Blocks(c.Time, c.Memory, c.Lanes))
	for i := range memory { // so that what is not cleared is seen
		memory[i][7][7][1] = uint64(i) + 1
	}
	var tag [argon2.TagSize]byte
	argon2.Derive(&tag, in.PIN, in.Salt, in.Secret, in.Data, c.Time, c.Memory, c.Lanes, memory)
	for i := range memory {
		if memory[i] != (argon2.Block{}) {
			t.Fatalf("%+v: block %d of %d is not clear", c, i, len(memory))
		}
	}
	return tag
}

// Section 5.3 of RFC 9106.
func TestRFC9106(t *testing.T) {
	in := argon2test.Inputs{
		PIN: bytes.Repeat([]byte{1}, 32), Salt: bytes.Repeat([]byte{2}, 16),
		Secret: bytes.Repeat([]byte{3}, 8), Data: bytes.Repeat([]byte{4}, 12),
	}
	cost := argon2test.Cost{Time: 3, Memory: 32, Lanes: 4}
	const want = "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659"
	if got := derive(t, in, cost); hex.EncodeToString(got[:]) != want {
		t.Errorf("got %x, want %s", got, want)
	}
	if got := argon2test.Key(in, cost, nil); hex.EncodeToString(got[:]) != want {
		t.Errorf("the tests' own: got %x, want %s", got, want)
	}
}

// key is Key, without an error.
func key(t testing.TB, pin, salt []byte, c argon2test.Cost) (tag [argon2.TagSize]byte) {
	t.Helper()
	if err := argon2.Key(&tag, pin, salt, c.Time, c.Memory, uint8(c.Lanes)); err != nil {
		t.Fatalf("%+v: %v", c, err)
	}
	return tag
}

// same compares with two other implementations.
func same(t testing.TB, pin, salt []byte, c argon2test.Cost) {
	t.Helper()
	got := key(t, pin, salt, c)
	if want := other.IDKey(pin, salt, c.Time, c.Memory, uint8(c.Lanes), argon2.TagSize); !bytes.Equal(got[:], want) {
		t.Errorf("%+v, PIN %x, salt %x: got %x, x/crypto %x", c, pin, salt, got, want)
	}
	if want := argon2test.Key(argon2test.Inputs{PIN: pin, Salt: salt}, c, nil); got != want {
		t.Errorf("%+v, PIN %x, salt %x: got %x, argon2test %x", c, pin, salt, got, want)
	}
}

// Memories round the multiples of 4p that they are rounded to, the least among them,
// and round 128 blocks a segment, where a new block of addresses begins.
func TestSameAsOthers(t *testing.T) {
	salt := make([]byte, 16)
	rand.Read(salt)
	for time := uint32(1); time <= 4; time++ {
		for lanes := uint32(1); lanes <= 4; lanes++ {
			memories := []uint32{8 * lanes, 8*lanes + 1, 12*lanes - 1, 12 * lanes, 77}
			if time == 1 { // later passes have no addresses
				memories = append(memories, 127*4*lanes, 128*4*lanes+3, 129*4*lanes)
			}
			for _, memory := range memories {
				same(t, []byte("402916"), salt, argon2test.Cost{Time: time, Memory: memory, Lanes: lanes})
			}
		}
	}
}

// Lengths round BLAKE2b's block of 128 bytes, nothing at all among them.
func TestSameAsOthersForAllLengths(t *testing.T) {
	bytes := make([]byte, 200)
	rand.Read(bytes)
	for n := range bytes {
		same(t, bytes[:n], bytes[n/3:n], argon2test.Cost{Time: 1, Memory: 8, Lanes: 1})
	}
}

func TestRefusesCosts(t *testing.T) {
	for _, c := range []argon2test.Cost{{}, {Time: 1, Memory: 8}, {Memory: 8, Lanes: 1}, {Time: 1, Memory: 7, Lanes: 1}, {Time: 1, Memory: 31, Lanes: 4}} {
		tag := [argon2.TagSize]byte{1}
		if err := argon2.Key(&tag, []byte("402916"), make([]byte, 16), c.Time, c.Memory, uint8(c.Lanes)); err == nil || tag[0] != 1 {
			t.Errorf("%+v: err = %v, tag %x", c, err, tag)
		}
	}
}

// runtime/secret does not cover other goroutines, however short they live.
func TestStartsNoGoroutine(t *testing.T) {
	const times = 8
	created := func(f func()) uint64 {
		runtime.GC() // which starts the collector's own
		count := []metrics.Sample{{Name: "/sched/goroutines-created:goroutines"}}
		metrics.Read(count)
		before := count[0].Value.Uint64()
		for range times {
			f()
		}
		metrics.Read(count)
		return count[0].Value.Uint64() - before
	}
	cost := argon2test.Cost{Time: 2, Memory: 256, Lanes: 4}
	if n := created(func() { key(t, []byte("402916"), make([]byte, 16), cost) }); n >= times {
		t.Errorf("%d goroutines for %d tags", n, times)
	}
	if n := created(func() { other.IDKey([]byte("402916"), make([]byte, 16), 2, 256, 4, 32) }); n < times {
		t.Errorf("x/crypto started %d goroutines for %d tags: the count proves nothing", n, times)
	}
}

// The memory goes back at once, and nothing but it is allocated.
func TestGivesMemoryBack(t *testing.T) {
	size := func() (pages int) {
		text, err := os.ReadFile("/proc/self/statm")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscan(string(text), &pages); err != nil {
			t.Fatal(err)
		}
		return pages * os.Getpagesize()
	}
	cost := argon2test.Cost{Time: 1, Memory: 8 << 10, Lanes: 1}
	key(t, []byte("402916"), make([]byte, 16), cost)
	before := size()
	var m0, m1 runtime.MemStats
	runtime.ReadMemStats(&m0)
	const times = 10
	for range times {
		key(t, []byte("402916"), make([]byte, 16), cost)
	}
	runtime.ReadMemStats(&m1)
	if grown := size() - before; grown >= times*int(cost.Memory)<<10/2 {
		t.Errorf("the process is %d KiB larger after %d tags of %d KiB", grown>>10, times, cost.Memory)
	}
	if made := (m1.TotalAlloc - m0.TotalAlloc) / times; made > 4<<10 {
		t.Errorf("%d bytes of Go's heap for a tag", made)
	}
}

func FuzzKey(f *testing.F) {
	f.Add([]byte("402916"), []byte("0123456789abcdef"), uint8(0), uint8(0), uint16(0))
	f.Add([]byte("correct horse battery"), []byte("0123456789abcdef"), uint8(1), uint8(3), uint16(517))
	f.Add([]byte{}, []byte{}, uint8(3), uint8(2), uint16(1000))
	f.Fuzz(func(t *testing.T, pin, salt []byte, time, lanes uint8, memory uint16) {
		c := argon2test.Cost{Time: 1 + uint32(time%4), Lanes: 1 + uint32(lanes%4)}
		c.Memory = 8*c.Lanes + uint32(memory%1024)
		same(t, pin, salt, c)
	})
}
