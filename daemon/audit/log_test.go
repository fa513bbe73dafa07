package audit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sigild/sigild/daemon/audit"
)

func place(t testing.TB) string { return filepath.Join(t.TempDir(), "audit.log") }

func open(t testing.TB, path string) *audit.Log {
	t.Helper()
	l, err := audit.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func closeLog(t testing.TB, l *audit.Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func entry(action string) audit.Entry {
	return audit.Entry{Time: time.Unix(1_800_000_000, 0).UTC(), Action: action, UID: 1000, PID: 42,
		Wallet: "0x00", Digest: "0x01", Result: "ok", Detail: map[string]string{"operation": "message\n\u2028"}}
}

func write(t testing.TB, l *audit.Log, action string) {
	t.Helper()
	if err := l.Write(t.Context(), entry(action)); err != nil {
		t.Fatal(err)
	}
}

// read gives the file's entries and wants them whole and numbered from 1.
func read(t testing.TB, path string) []audit.Entry {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > 0 && data[len(data)-1] != '\n' {
		t.Fatalf("the last line is cut short: %q", data[max(0, len(data)-80):])
	}
	var entries []audit.Entry
	for line := range bytes.Lines(data) {
		var e audit.Entry
		d := json.NewDecoder(bytes.NewReader(line))
		d.DisallowUnknownFields()
		if err := d.Decode(&e); err != nil || e.Sequence != uint64(len(entries)+1) {
			t.Fatalf("line %d: %q: %v", len(entries)+1, line, err)
		}
		entries = append(entries, e)
	}
	return entries
}

func TestEntriesAreNumberedAndOnDisk(t *testing.T) {
	path := place(t)
	l := open(t, path)
	for n := range 5 {
		write(t, l, fmt.Sprint("action-", n))
		entries := read(t, path) // while the log is open: Write returned
		if len(entries) != n+1 || entries[n].Action != fmt.Sprint("action-", n) {
			t.Fatalf("%d entries after %d", len(entries), n+1)
		}
	}
	closeLog(t, l)
	got, want := read(t, path)[0], entry("action-0")
	if !got.Time.Equal(want.Time) || got.UID != want.UID || got.PID != want.PID || got.Wallet != want.Wallet ||
		got.Digest != want.Digest || got.Result != want.Result || got.Detail["operation"] != want.Detail["operation"] {
		t.Fatalf("%+v, want %+v", got, want)
	}
}

func TestFileIsPrivate(t *testing.T) {
	path := place(t)
	closeLog(t, open(t, path))
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Fatalf("mode %v, %v, want 0600", info.Mode(), err)
	}
}

func TestReopenGoesOn(t *testing.T) {
	path := place(t)
	for n := range 3 {
		l := open(t, path)
		write(t, l, fmt.Sprint("action-", n))
		closeLog(t, l)
	}
	if n := len(read(t, path)); n != 3 {
		t.Fatalf("%d entries, want 3", n)
	}
}

// Writers at the same time all get their own number and share fsyncs.
func TestConcurrentWriters(t *testing.T) {
	path := place(t)
	l := open(t, path)
	var group sync.WaitGroup
	for n := range 400 {
		group.Go(func() {
			if err := l.Write(t.Context(), entry(fmt.Sprint("action-", n))); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	closeLog(t, l)
	seen := map[string]bool{}
	for _, e := range read(t, path) {
		seen[e.Action] = true
	}
	if len(seen) != 400 {
		t.Fatalf("%d different entries, want 400", len(seen))
	}
}

// A line that a crash cut short was never acknowledged; what stood before it was.
func TestTornLastLineIsCut(t *testing.T) {
	path := place(t)
	l := open(t, path)
	write(t, l, "first")
	write(t, l, "second")
	closeLog(t, l)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	first := bytes.IndexByte(whole, '\n') + 1
	for cut := range len(whole) {
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		l := open(t, path)
		write(t, l, "after")
		closeLog(t, l)
		want := 1
		if cut >= first {
			want = 2
		}
		if entries := read(t, path); len(entries) != want || entries[want-1].Action != "after" {
			t.Fatalf("cut at %d of %d: %d entries, want %d", cut, len(whole), len(entries), want)
		}
	}
}

// Garbage without a line's end, such as the zeros of a file that grew before
// its content came, goes the way of a torn line.
func TestZerosBehindTheLastLineAreCut(t *testing.T) {
	path := place(t)
	l := open(t, path)
	write(t, l, "first")
	closeLog(t, l)
	appendTo(t, path, make([]byte, 4096))
	l = open(t, path)
	write(t, l, "second")
	closeLog(t, l)
	if n := len(read(t, path)); n != 2 {
		t.Fatalf("%d entries, want 2", n)
	}
}

func appendTo(t *testing.T, path string, data []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// A file that does not end in an entry is refused and left as it is.
func TestGarbageIsRefused(t *testing.T) {
	for name, tail := range map[string][]byte{
		"text":                []byte("hello\n"),
		"an empty line":       []byte("\n"),
		"an entry without nr": []byte(`{"action":"sign"}` + "\n"),
		"zeros and a line":    append(make([]byte, 100), '\n'),
		"2 MiB without end":   make([]byte, 2<<20),
	} {
		t.Run(name, func(t *testing.T) {
			path := place(t)
			l := open(t, path)
			write(t, l, "first")
			closeLog(t, l)
			appendTo(t, path, tail)
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := audit.Open(path); err == nil || !strings.Contains(err.Error(), path) {
				t.Fatalf("err = %v, want one that names the file", err)
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
				t.Fatalf("the file changed: %d of %d bytes, %v", len(after), len(before), err)
			}
		})
	}
}

// The end is found in a log that is longer than what Open looks back.
func TestReopenLongLog(t *testing.T) {
	path := place(t)
	l := open(t, path)
	long := entry("long")
	long.Detail = map[string]string{"text": strings.Repeat("x", 100<<10)}
	for range 15 {
		if err := l.Write(t.Context(), long); err != nil {
			t.Fatal(err)
		}
	}
	closeLog(t, l)
	appendTo(t, path, []byte(`{"seq":16,"torn`))
	l = open(t, path)
	write(t, l, "after")
	closeLog(t, l)
	if n := len(read(t, path)); n != 16 {
		t.Fatalf("%d entries, want 16", n)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	if _, err := audit.Open(dir); err == nil {
		t.Error("a folder was opened")
	}
	if _, err := audit.Open(filepath.Join(dir, "no", "audit.log")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("err = %v, want fs.ErrNotExist", err)
	}
}

func TestWriteAfterClose(t *testing.T) {
	path := place(t)
	l := open(t, path)
	write(t, l, "first")
	closeLog(t, l)
	if err := l.Write(t.Context(), entry("late")); !errors.Is(err, audit.ErrClosed) {
		t.Fatalf("err = %v, want ErrClosed", err)
	}
	if n := len(read(t, path)); n != 1 {
		t.Fatalf("%d entries, want 1", n)
	}
}

// While the log closes, each entry is either acknowledged and in the file, or
// refused and not.
func TestCloseWhileWriting(t *testing.T) {
	path := place(t)
	l := open(t, path)
	acknowledged := make(chan string, 400)
	var group sync.WaitGroup
	for n := range 400 {
		group.Go(func() {
			name := fmt.Sprint("action-", n)
			switch err := l.Write(t.Context(), entry(name)); {
			case err == nil:
				acknowledged <- name
			case !errors.Is(err, audit.ErrClosed):
				t.Error(err)
			}
			if n == 100 {
				closeLog(t, l)
			}
		})
	}
	group.Wait()
	close(acknowledged)
	written := map[string]bool{}
	for _, e := range read(t, path) {
		written[e.Action] = true
	}
	count := 0
	for name := range acknowledged {
		if count++; !written[name] {
			t.Errorf("%s was acknowledged and is lost", name)
		}
	}
	if count != len(written) {
		t.Errorf("%d acknowledged, %d written", count, len(written))
	}
}

func TestWriteEndsWithItsContext(t *testing.T) {
	l := open(t, place(t))
	defer closeLog(t, l)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 { // which of the two ends Write sees first is open
		if err := l.Write(ctx, entry("late")); err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
}

// An entry that cannot be encoded is refused, and the log goes on.
func TestUnencodableEntry(t *testing.T) {
	path := place(t)
	l := open(t, path)
	bad := entry("bad")
	bad.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
	if err := l.Write(t.Context(), bad); err == nil {
		t.Fatal("a time that JSON cannot hold was taken")
	}
	write(t, l, "good")
	closeLog(t, l)
	if n := len(read(t, path)); n != 1 {
		t.Fatalf("%d entries, want 1", n)
	}
}

// FuzzOpen wants that a file is either refused and left alone, or continued
// with a whole line.
func FuzzOpen(f *testing.F) {
	line := `{"seq":7,"time":"2027-01-15T08:00:00Z","action":"sign","uid":1000,"pid":42,"account":0,"result":"ok"}` + "\n"
	for _, seed := range []string{"", line, line + line[:20], "\n", "x\n", line + "\x00\x00"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		path := place(t)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := audit.Open(path)
		after, readErr := os.ReadFile(path)
		if readErr != nil || !bytes.HasPrefix(data, after) {
			t.Fatalf("%q became %q, %v", data, after, readErr)
		}
		if err != nil {
			return
		}
		write(t, l, "after")
		closeLog(t, l)
		got, readErr := os.ReadFile(path)
		if readErr != nil || !bytes.HasPrefix(got, after) || bytes.Count(got[len(after):], []byte{'\n'}) != 1 {
			t.Fatalf("%q became %q, %v", after, got, readErr)
		}
	})
}

func BenchmarkWriteParallel(b *testing.B) {
	l := open(b, place(b))
	defer closeLog(b, l)
	b.SetParallelism(16)
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if err := l.Write(b.Context(), entry("sign")); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// A link may lead anywhere, and what others may write to is no evidence.
func TestOpenRefusesPlaces(t *testing.T) {
	for what, make := range map[string]func(path string) error{
		"a link": func(path string) error { return os.Symlink(path+".other", path) },
		"a pipe": func(path string) error { return unix.Mkfifo(path, 0o600) },
		"a file of the group": func(path string) error {
			return errors.Join(os.WriteFile(path, nil, 0o600), os.Chmod(path, 0o660))
		},
	} {
		path := place(t)
		if err := make(path); err != nil {
			t.Fatal(err)
		}
		if _, err := audit.Open(path); !errors.Is(err, audit.ErrPlace) {
			t.Errorf("%s: %v, want ErrPlace", what, err)
		}
	}
}

func TestCloseTwice(t *testing.T) {
	l := open(t, place(t))
	closeLog(t, l)
	if err := l.Close(); err == nil {
		t.Error("the second Close says nothing")
	}
	if err := l.Write(t.Context(), entry("late")); !errors.Is(err, audit.ErrClosed) {
		t.Errorf("%v, want ErrClosed", err)
	}
}

// Two installations that were given one log by mistake would cut off each other's lines.
func TestLogHasOneWriter(t *testing.T) {
	path := place(t)
	l := open(t, path)
	if _, err := audit.Open(path); !errors.Is(err, audit.ErrInUse) {
		t.Errorf("a second writer: %v, want ErrInUse", err)
	}
	closeLog(t, l)
	closeLog(t, open(t, path))
}

// The newest time is known again after a restart, whatever the last line says.
func TestNewest(t *testing.T) {
	path := place(t)
	l := open(t, path)
	if newest := l.Newest(); !newest.IsZero() {
		t.Errorf("an empty log was at %v", newest)
	}
	late := time.Unix(1_900_000_000, 0)
	for _, at := range []time.Time{time.Unix(1_800_000_000, 0), late, time.Unix(946_684_800, 0)} {
		e := entry("sign")
		e.Time = at.UTC()
		if err := l.Write(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if newest := l.Newest(); !newest.Equal(late) {
		t.Errorf("the log was at %v, want %v", newest, late)
	}
	closeLog(t, l)
	l = open(t, path)
	defer closeLog(t, l)
	if newest := l.Newest(); !newest.Equal(late) {
		t.Errorf("after a restart the log was at %v, want %v", newest, late)
	}
}
