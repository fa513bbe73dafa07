package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sigild/sigild/hsm/hsmtest"
)

// memory is where a sigild has its memory, in KiB.
//
// Its resident size alone says little: it goes up and down by the memory of the PIN
// checks that run, by the database's pages, which are mapped from its file, and by what
// SoftHSM keeps of every session object.
type memory struct {
	resident int
	mapped   int // of that, pages of files
	live     int // of Go's heap, without garbage
	taken    int // by Go of the kernel; never given back by this measure
	module   int // allocated by C code
	database int // size of its file
	objects  int // how many session objects the token has made
}

// What may be added in a soak without anything being kept for good.
const (
	moreLive   = 2 << 10  // caches and tables at another moment
	moreTaken  = 16 << 10 // a larger heap at a fuller moment; Argon2's memory is not on it
	moreMapped = 4 << 10  // code that was not used before
	moreModule = 1 << 10  // OpenSSL's and glibc's own
	// keptByObject is what SoftHSM 2.6.1 keeps of each session object that was
	// destroyed, in bytes: 240, some 30 more where it was unwrapped. It lets go
	// of that in C_Finalize.
	keptByObject = 320
)

// check compares with an earlier measurement.
func (m memory) check(t *testing.T, before memory) {
	t.Helper()
	grown := func(what string, kib, allowed int) {
		t.Helper()
		if kib > allowed {
			t.Errorf("%s grew by %d KiB; %d are explained: before %+v, now %+v", what, kib, allowed, before, m)
		}
	}
	grown("Go's live heap", m.live-before.live, moreLive)
	grown("what Go took of the kernel", m.taken-before.taken, moreTaken)
	grown("memory of C code", m.module-before.module, moreModule+keptByObject*(m.objects-before.objects)/1024)
	grown("mapped files", m.mapped-before.mapped, moreMapped+m.database-before.database)
}

// gauge reads a sigild's memory.
type gauge struct {
	host  *faultHost
	fetch *http.Client
}

// newGauge has sigild, which must not run yet, serve its metrics.
func newGauge(t *testing.T, h *faultHost) *gauge {
	t.Helper()
	path := filepath.Join(h.Dir, "metrics.sock")
	h.Config["metrics"] = fmt.Sprintf("listen = %q", "unix:"+path)
	if err := h.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	return &gauge{h, &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// read measures now; live still has garbage in it.
func (g *gauge) read(t *testing.T) memory {
	t.Helper()
	allocated, _ := g.host.token.Memory()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.host.PID()))
	if err != nil {
		t.Fatal(err)
	}
	figures := scrapeBy(t, g.fetch)
	file, err := os.Stat(g.host.Database())
	if err != nil {
		t.Fatal(err)
	}
	return memory{
		resident: figure(t, string(status), "VmRSS:"), mapped: figure(t, string(status), "RssFile:"),
		live: figure(t, figures, "\ngo_memstats_heap_alloc_bytes ") >> 10, taken: figure(t, figures, "\ngo_memstats_sys_bytes ") >> 10,
		module: allocated >> 10, database: int(file.Size() >> 10), objects: objectsMade(g.host.token),
	}
}

// settled measures after a collection of garbage that nothing but the scraping
// itself brought about, when no PIN is being stretched, and its sweeping.
func (g *gauge) settled(t *testing.T) memory {
	t.Helper()
	collections := func() int { return figure(t, scrapeBy(t, g.fetch), "\ngo_gc_duration_seconds_count ") }
	begun := collections()
	await(t, "two collections", func() bool { return collections() > begun+1 })
	least := g.read(t)
	for range 20 {
		m := g.read(t)
		m.live = min(m.live, least.live)
		least = m
	}
	return least
}

// objectsMade counts the session objects that were made, by calls.
func objectsMade(f *hsmtest.Faults) int {
	return f.Calls("C_UnwrapKey") + f.Calls("C_CreateObject") + 2*f.Calls(generate)
}

// figure is the number that stands behind a name.
func figure(t *testing.T, text, name string) int {
	t.Helper()
	var n float64
	_, rest, _ := strings.Cut(text, name)
	if _, err := fmt.Sscan(rest, &n); err != nil {
		t.Fatalf("%q: %v", name, err)
	}
	return int(n)
}
