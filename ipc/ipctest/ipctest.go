// Package ipctest runs golden conversations with a server and starts servers
// for one test.
//
// A conversation is a text file of lines in the manner of go-ethereum's
// rpc/testdata:
//
//	// a comment
//	--> {"jsonrpc":"2.0","id":1,"method":"sigild_status","params":[{}]}
//	<-- {"jsonrpc":"2.0","id":1,"result":{"state":"ready","version":"<any>"}}
//	<-- <closed>
//
// What follows "--> " is sent as it is, with a newline. What follows "<-- " is
// compared with the next value from the server as JSON, so that the order of
// members and whitespace do not matter; the string "<any>" stands for every
// value, and "<closed>" alone for the end of the connection.
package ipctest

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sigild/sigild/ipc"
)

// patience bounds each step with the server.
const patience = 20 * time.Second

const (
	anyValue = "<any>"
	closed   = "<closed>"
)

// Run plays every conversation that the pattern matches, each as a subtest on
// a connection of its own from dial. A pattern that matches nothing, and a file
// without a line for the server, fail the test.
func Run(t *testing.T, pattern string, dial func(*testing.T) net.Conn) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no conversation matches %q (error %v)", pattern, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), filepath.Ext(file)), func(t *testing.T) {
			play(t, file, dial(t))
		})
	}
}

func play(t *testing.T, file string, conn net.Conn) {
	t.Helper()
	defer conn.Close()
	in, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	answers := json.NewDecoder(conn)
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 8<<20)
	sent := 0
	for number := 1; lines.Scan(); number++ {
		sent += step(t, number, lines.Text(), conn, answers)
	}
	if err := lines.Err(); err != nil || sent == 0 {
		t.Fatalf("%s: %d requests, error %v", file, sent, err)
	}
}

// step plays one line and returns 1 if it was sent to the server.
func step(t *testing.T, number int, line string, conn net.Conn, answers *json.Decoder) int {
	t.Helper()
	switch text, want := strings.CutPrefix(line, "--> "); {
	case want:
		if _, err := io.WriteString(conn, text+"\n"); err != nil {
			t.Fatalf("line %d: %v", number, err)
		}
		return 1
	case strings.HasPrefix(line, "<-- "):
		expect(t, number, strings.TrimPrefix(line, "<-- "), answers)
	case strings.TrimSpace(line) != "" && !strings.HasPrefix(line, "//"):
		t.Fatalf("line %d is neither a comment nor -->, <--", number)
	}
	return 0
}

func expect(t *testing.T, number int, want string, answers *json.Decoder) {
	t.Helper()
	var got any
	err := answers.Decode(&got)
	if want == closed {
		if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("line %d: got %v, error %v, want the connection closed", number, got, err)
		}
		return
	}
	if err != nil {
		t.Fatalf("line %d: no answer: %v, want %s", number, err, want)
	}
	var expected any
	if err := json.Unmarshal([]byte(want), &expected); err != nil {
		t.Fatalf("line %d is not JSON: %v", number, err)
	}
	if !matches(expected, got) {
		text, _ := json.Marshal(got)
		t.Fatalf("line %d:\n got %s\nwant %s", number, text, want)
	}
}

// matches compares decoded JSON; anyValue in want stands for everything.
func matches(want, got any) bool {
	if want == anyValue {
		return true
	}
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok || len(g) != len(w) {
			return false
		}
		for key, value := range w {
			if other, there := g[key]; !there || !matches(value, other) {
				return false
			}
		}
		return true
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return false
		}
		for i, value := range w {
			if !matches(value, g[i]) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(want, got)
}

// Directory returns a directory for sockets that is gone with the test. Its
// path is short, as sun_path needs, and every user may enter it.
func Directory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ipc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Serve starts a server of opts on a fresh socket that every user may connect
// to, and returns both. It ends with the test, which fails if Serve does.
func Serve(t testing.TB, opts ipc.Options) (*ipc.Server, string) {
	t.Helper()
	path := filepath.Join(Directory(t), "s")
	ln, err := ipc.Listen(path, 0o666, -1)
	if err != nil {
		t.Fatal(err)
	}
	server := ipc.NewServer(opts)
	Start(t, server, ln)
	return server, path
}

// Start runs server on ln until the test ends.
func Start(t testing.TB, server *ipc.Server, ln net.Listener) {
	t.Helper()
	result := make(chan error, 1)
	ctx := t.Context() // ends just before the clean-up
	go func() { result <- server.Serve(ctx, ln) }()
	t.Cleanup(func() {
		select {
		case err := <-result:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(patience):
			t.Error("Serve did not return")
		}
	})
}

// Connect returns a connection to path that fails a test which hangs.
func Connect(t testing.TB, path string) *net.UnixConn {
	t.Helper()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}
