package ipctest

import (
	"encoding/json"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"github.com/sigild/sigild/ipc"
)

// Message is a JSON-RPC request or answer by its members.
type Message map[string]json.RawMessage

// Relay stands between clients and a daemon, and may do what it likes with what
// passes: a hook changes a message, and swallows it by returning false.
type Relay struct {
	Request func(method string, m Message) bool
	Answer  func(method string, m Message) bool
	// Hangup, called after each message of the daemon, says whether the relay
	// ends the client's connection.
	Hangup func(method string) bool

	mu      sync.Mutex
	methods map[string]string // by the request's id
}

// Serve starts the relay in front of the daemon's socket, and gives its own. It
// ends with the test.
func (r *Relay) Serve(t testing.TB, daemon string) string {
	t.Helper()
	r.methods = map[string]string{}
	path := filepath.Join(Directory(t), "relay")
	ln, err := ipc.Listen(path, 0o666, -1)
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	t.Cleanup(running.Wait)
	t.Cleanup(func() { _ = ln.Close() })
	ctx := t.Context()
	running.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("unix", daemon)
			if err != nil {
				_ = client.Close()
				continue
			}
			running.Go(func() { r.up(client, server) })
			running.Go(func() { r.down(client, server) })
			running.Go(func() { <-ctx.Done(); _ = client.Close(); _ = server.Close() })
		}
	})
	return path
}

func (r *Relay) up(client, server net.Conn) {
	defer server.Close()
	for in, out := json.NewDecoder(client), json.NewEncoder(server); ; {
		var m Message
		if in.Decode(&m) != nil {
			return
		}
		method := r.note(m)
		if r.Request != nil && !r.Request(method, m) {
			continue
		}
		if out.Encode(m) != nil {
			return
		}
	}
}

func (r *Relay) down(client, server net.Conn) {
	defer client.Close()
	for in, out := json.NewDecoder(server), json.NewEncoder(client); ; {
		var m Message
		if in.Decode(&m) != nil {
			return
		}
		method := r.methodOf(m)
		pass := r.Answer == nil || r.Answer(method, m)
		if r.Hangup != nil && r.Hangup(method) {
			return
		}
		if pass && out.Encode(m) != nil {
			return
		}
	}
}

func (r *Relay) note(m Message) string {
	var method string
	_ = json.Unmarshal(m["method"], &method)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.methods[string(m["id"])] = method
	return method
}

func (r *Relay) methodOf(m Message) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.methods[string(m["id"])]
}
