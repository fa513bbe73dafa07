package main

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/sigild/sigild/ipc"
	"github.com/sigild/sigild/ipc/ipctest"
)

// block is one fenced block of a document.
var block = regexp.MustCompile("(?ms)^```(sh|js)\n(.*?)^```$")

// TestClientsDocument runs docs/clients.md from its first block to its last.
func TestClientsDocument(t *testing.T) {
	if !ipctest.Node(t) {
		return
	}
	installLibraries(t)
	text, err := os.ReadFile("../../docs/clients.md")
	if err != nil {
		t.Fatal(err)
	}
	h, c := serving(t, forClients)
	address := create(t, c, "1").Accounts[0].Address
	dir := buildSigilctl(t)
	env := append(os.Environ(), "SOCKET="+h.Socket, "ADDRESS="+address, "HOME="+dir, "XDG_CONFIG_HOME="+dir, "XDG_STATE_HOME="+dir,
		"PATH="+dir+":"+os.Getenv("PATH"))
	blocks := block.FindAllStringSubmatch(string(text), -1)
	if len(blocks) != 4 {
		t.Fatalf("%d blocks", len(blocks))
	}
	signatures := 0
	for _, b := range blocks {
		cmd := exec.CommandContext(testContext(t), "sh", "-eu")
		cmd.Dir = dir
		if b[1] == "js" {
			cmd = exec.CommandContext(testContext(t), "node", "--input-type=module")
			cmd.Dir = clientsDir
		}
		cmd.Stdin, cmd.Env = strings.NewReader(b[2]), env
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s\n%s", err, b[2], out)
		}
		if b[1] == "js" {
			signatures += strings.Count(string(out), address)
		}
	}
	if signatures != 4 {
		t.Errorf("%d signatures were by the account, want 4", signatures)
	}
	if _, err := callAs[ipc.Hex](t, c, "eth_sign", address, ipc.Hex("hello")); ipc.ReasonOf(err) != "unlockRequired" {
		t.Errorf("after the lock: %v", err)
	}
}
