package ipc_test

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/sigild/sigild/ipc"
	"github.com/sigild/sigild/ipc/ipctest"
)

func TestPeerIsThisProcess(t *testing.T) {
	who := func(ctx context.Context, _ json.RawMessage) (any, error) {
		p, ok := ipc.PeerFrom(ctx)
		return []any{ok, p.UID, p.GID, p.PID}, nil
	}
	_, path := ipctest.Serve(t, ipc.Options{Allow: everybody, Methods: map[string]ipc.Handler{"test_who": who}})
	c := talk(t, path)
	c.send(`{"jsonrpc":"2.0","id":1,"method":"test_who"}`)
	want, err := json.Marshal([]any{true, os.Getuid(), os.Getgid(), os.Getpid()})
	if err != nil {
		t.Fatal(err)
	}
	c.wantResult(1, string(want))
}

func TestPeerFromAnotherContext(t *testing.T) {
	if p, ok := ipc.PeerFrom(t.Context()); ok || p != (ipc.Peer{}) {
		t.Fatalf("got %v, %v", p, ok)
	}
}

// otherUID is the uid of a real second user, or this one's without the right
// to become another.
func otherUID() int {
	if os.Geteuid() == 0 {
		return 12345
	}
	return os.Geteuid()
}

func connectAs(t *testing.T, uid int, path, request string) string {
	t.Helper()
	cmd := child(t, "connect", "CHILD_UID="+strconv.Itoa(uid), "CHILD_SOCKET="+path)
	cmd.Stdin = strings.NewReader(request)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func TestPeerIsAnotherUsersProcess(t *testing.T) {
	uid := otherUID()
	peers := make(chan ipc.Peer, 1)
	_, path := ipctest.Serve(t, ipc.Options{
		Allow: func(p ipc.Peer) bool {
			peers <- p
			return p.UID == uint32(uid)
		},
		Methods: methods(),
	})
	got := connectAs(t, uid, path, `{"jsonrpc":"2.0","id":1,"method":"test_echo","params":[1]}`)
	if got != `{"jsonrpc":"2.0","id":1,"result":[1]}` {
		t.Fatalf("got %s", got)
	}
	p := await(t, peers)
	if p.UID != uint32(uid) || (os.Geteuid() == 0 && p.GID != 12346) || p.PID == int32(os.Getpid()) {
		t.Fatalf("got %v", p)
	}
}

func TestPeerThatIsNotAllowed(t *testing.T) {
	uid := otherUID()
	called := make(chan struct{}, 1)
	handlers := map[string]ipc.Handler{
		"test_secret": func(context.Context, json.RawMessage) (any, error) {
			called <- struct{}{}
			return nil, nil
		},
	}
	for name, allow := range map[string]func(ipc.Peer) bool{
		"nobody is":  nil,
		"others are": func(p ipc.Peer) bool { return p.UID != uint32(uid) },
	} {
		t.Run(name, func(t *testing.T) {
			_, path := ipctest.Serve(t, ipc.Options{Allow: allow, Methods: handlers})
			got := connectAs(t, uid, path, `{"jsonrpc":"2.0","id":1,"method":"test_secret"}`)
			var a answer
			if err := json.Unmarshal([]byte(got), &a); err != nil || a.ID != nil || ipc.ReasonOf(a.Error) != ipc.ReasonPeerNotAllowed {
				t.Fatalf("got %q, want one error with id null", got)
			}
		})
	}
	if len(called) != 0 {
		t.Fatal("the handler was called")
	}
}

func TestConnectionWithoutPeerNeverReachesAHandler(t *testing.T) {
	pipes := &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
	server := ipc.NewServer(ipc.Options{Allow: everybody, Methods: methods()})
	ipctest.Start(t, server, pipes)
	t.Cleanup(func() { _ = pipes.Close() })
	for range 3 { // the loop goes on
		ours, theirs := net.Pipe()
		pipes.conns <- theirs
		var a answer
		if err := json.NewDecoder(ours).Decode(&a); err != nil || ipc.ReasonOf(a.Error) != ipc.ReasonPeerNotAllowed {
			t.Fatalf("got %+v, %v", a, err)
		}
	}
}

// TestTCPHasNoPeer uses connections that are sockets, but say nothing of their
// peer.
func TestTCPHasNoPeer(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ipctest.Start(t, ipc.NewServer(ipc.Options{Allow: everybody, Methods: methods()}), ln)
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var a answer
	if err := json.NewDecoder(conn).Decode(&a); err != nil || ipc.ReasonOf(a.Error) != ipc.ReasonPeerNotAllowed {
		t.Fatalf("got %+v, %v", a, err)
	}
}

type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// TestAcceptGoesOnAfterPassingErrors lets Accept fail as it does when the
// process is out of descriptors.
func TestAcceptGoesOnAfterPassingErrors(t *testing.T) {
	path := ipctest.Directory(t) + "/s"
	ln, err := ipc.Listen(path, 0o600, -1)
	if err != nil {
		t.Fatal(err)
	}
	failing := &failingListener{Listener: ln, errs: []error{syscall.EMFILE, syscall.ECONNABORTED, syscall.ENFILE}}
	ipctest.Start(t, ipc.NewServer(ipc.Options{Allow: everybody, Methods: methods()}), failing)
	c := talk(t, path)
	c.send(`{"jsonrpc":"2.0","id":1,"method":"test_nothing"}`)
	c.wantResult(1, `null`)
}

type failingListener struct {
	net.Listener
	errs []error
}

func (l *failingListener) Accept() (net.Conn, error) {
	if len(l.errs) == 0 {
		return l.Listener.Accept()
	}
	err := l.errs[0]
	l.errs = l.errs[1:]
	return nil, &net.OpError{Op: "accept", Err: err}
}

func TestConnectionFromIsOnePerConnection(t *testing.T) {
	if _, ok := ipc.ConnectionFrom(context.Background()); ok {
		t.Error("a context from nowhere has a connection")
	}
	seen := make(chan context.Context, 3)
	_, path := ipctest.Serve(t, ipc.Options{
		Allow: everybody,
		Methods: map[string]ipc.Handler{"t": func(ctx context.Context, _ json.RawMessage) (any, error) {
			c, _ := ipc.ConnectionFrom(ctx)
			seen <- c
			return true, nil
		}},
	})
	first, second := ipctest.Connect(t, path), ipctest.Connect(t, path)
	for _, c := range []net.Conn{first, first, second} {
		if _, err := c.Write([]byte(`{"jsonrpc":"2.0","id":1,"method":"t"}`)); err != nil {
			t.Fatal(err)
		}
		var answer json.RawMessage
		if err := json.NewDecoder(c).Decode(&answer); err != nil {
			t.Fatal(err)
		}
	}
	a, b, c := <-seen, <-seen, <-seen
	if a == nil || a != b || a == c {
		t.Error("the contexts do not tell connections apart")
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	<-a.Done() // ends with its connection; the test's time-out is the failure
	if c.Err() != nil {
		t.Error("another connection's context ended")
	}
}
