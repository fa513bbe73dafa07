package confine_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/sigild/sigild/daemon/confine"
)

// part makes this test binary play a process that confines itself. Its rules
// cannot be undone, so each test needs a process of its own.
const part = "CONFINE_TEST_PART"

// scene is what the process is told, and outcome what it met.
type scene struct {
	Read, Write, Devices, Optional []string
	TCP                            bool
	Connect                        []uint16
	Open, Create, Dial             []string
}

type outcome struct {
	State confine.State
	Error string
	Path  bool           // the error is ErrPath
	Met   map[string]int // by what was tried, the error's number
}

func TestMain(m *testing.M) {
	if text := os.Getenv(part); text != "" {
		var s scene
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			panic(err)
		}
		if err := json.NewEncoder(os.Stdout).Encode(play(s)); err != nil {
			panic(err)
		}
		return
	}
	os.Exit(m.Run())
}

func play(s scene) outcome {
	threads, leave := manyThreads()
	defer leave()
	r := confine.Rules{Read: s.Read, Write: s.Write, Devices: s.Devices,
		Optional: func(p string) bool { return strings.Contains(strings.Join(s.Optional, " "), p) }}
	if s.TCP {
		r.TCP = &confine.Ports{Connect: s.Connect}
	}
	state, err := confine.Apply(r)
	o := outcome{State: state, Met: map[string]int{}}
	if err != nil {
		o.Error, o.Path = err.Error(), errors.Is(err, confine.ErrPath)
	}
	for _, path := range s.Open {
		o.Met["open "+path] = number(open(path, os.O_RDONLY))
		for n, do := range threads {
			do(func() { o.Met[fmt.Sprintf("open %s on thread %d", path, n)] = number(open(path, os.O_RDONLY)) })
		}
	}
	for _, path := range s.Create {
		o.Met["create "+path] = number(open(path, os.O_RDWR|os.O_CREATE))
	}
	for _, address := range s.Dial {
		c, err := net.Dial("tcp4", address)
		if err == nil {
			_ = c.Close()
		}
		o.Met["dial "+address] = number(err)
	}
	return o
}

// manyThreads starts threads before the process confines itself. Each runs what
// it is given.
func manyThreads() (threads []func(func()), leave func()) {
	var ends []func()
	for range 8 {
		work, ready := make(chan func()), make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(ready)
			for f := range work {
				f()
			}
		}()
		<-ready
		threads = append(threads, func(f func()) {
			var done sync.WaitGroup
			done.Add(1)
			work <- func() { defer done.Done(); f() }
			done.Wait()
		})
		ends = append(ends, func() { close(work) })
	}
	return threads, func() {
		for _, end := range ends {
			end()
		}
	}
}

func open(path string, flags int) error {
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

func number(err error) int {
	var n syscall.Errno
	if errors.As(err, &n) {
		return int(n)
	}
	if err != nil {
		return -1
	}
	return 0
}

func run(t *testing.T, s scene) outcome {
	t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), part+"="+string(text), "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var o outcome
	if err := json.Unmarshal(out, &o); err != nil {
		t.Fatal(err)
	}
	if o.Error == "" && !o.State.Files {
		t.Fatal("this kernel offers no Landlock: nothing can be seen here")
	}
	return o
}

func file(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (o outcome) want(t *testing.T, what string, errno syscall.Errno) {
	t.Helper()
	if got, tried := o.Met[what]; !tried || got != int(errno) {
		t.Errorf("%s: error %d (tried: %t), want %d", what, got, tried, errno)
	}
}

func TestFilesAndFolders(t *testing.T) {
	single, read, write, other := file(t), file(t), file(t), file(t)
	s := scene{Read: []string{single, filepath.Dir(read), single}, Write: []string{filepath.Dir(write)}, Devices: []string{os.DevNull},
		Open: []string{single, read, write, other, filepath.Dir(single), os.DevNull}}
	for _, f := range []string{single, read, write, other} {
		s.Create = append(s.Create, f, f+".new")
	}
	o := run(t, s)
	for _, path := range []string{single, read, write, os.DevNull} {
		o.want(t, "open "+path, 0)
	}
	for _, path := range []string{other, filepath.Dir(single)} {
		o.want(t, "open "+path, syscall.EACCES)
		for n := range 8 {
			o.want(t, fmt.Sprintf("open %s on thread %d", path, n), syscall.EACCES)
		}
	}
	o.want(t, "create "+write, 0)
	o.want(t, "create "+write+".new", 0)
	for _, path := range []string{single, single + ".new", read, read + ".new", other, other + ".new"} {
		o.want(t, "create "+path, syscall.EACCES)
	}
}

// A rule is for a file and not for its name; one for the folder stays.
func TestMissingPaths(t *testing.T) {
	there := file(t)
	missing := filepath.Join(filepath.Dir(there), "missing")
	o := run(t, scene{Read: []string{missing}, Open: []string{there}})
	if !o.Path || !strings.Contains(o.Error, missing) || o.State != (confine.State{}) {
		t.Errorf("%+v", o)
	}
	o.want(t, "open "+there, 0) // nothing was restricted
	o = run(t, scene{Read: []string{missing}, Optional: []string{missing}, Create: []string{missing}, Open: []string{there}})
	o.want(t, "create "+missing, syscall.EACCES)
	o.want(t, "open "+there, syscall.EACCES)
}

func TestPorts(t *testing.T) {
	var addresses []string
	var numbers []uint16
	for range 2 {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		addresses = append(addresses, l.Addr().String())
		numbers = append(numbers, uint16(l.Addr().(*net.TCPAddr).Port))
	}
	o := run(t, scene{TCP: true, Connect: numbers[:1], Dial: addresses})
	if !o.State.TCP {
		t.Fatalf("this kernel's Landlock (ABI %d) limits no ports: nothing can be seen here", o.State.ABI)
	}
	o.want(t, "dial "+addresses[0], 0)
	o.want(t, "dial "+addresses[1], syscall.EACCES)
	o = run(t, scene{Dial: addresses})
	o.want(t, "dial "+addresses[1], 0)
	if o.State.TCP {
		t.Error("the state says that ports are limited")
	}
}
