package main

import (
	"flag"
	"net"
	"testing"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/ipc/ipctest"
)

// update writes the answers of this run into the recorded conversations:
//
//	go test ./cmd/sigild -run 'Documented|Recorded' -update
var update = flag.Bool("update", false, "write recorded conversations anew")

// recorded plays conversations with a host's sigild.
func recorded(h *daemontest.Host) ipctest.Recorded {
	return ipctest.Recorded{Update: *update, Prepare: (&sealer{host: h}).prepare,
		Dial: func(t *testing.T) net.Conn { return ipctest.Connect(t, h.Socket) }}
}

// TestDocumentedMethods plays the examples of docs/rpc.md.
func TestDocumentedMethods(t *testing.T) {
	h, _ := serving(t, forClients, custody())
	recorded(h).Play(t, "../../docs/rpc.md")
}
