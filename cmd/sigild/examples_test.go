package main

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"

	"github.com/sigild/sigild/ipc"
	"github.com/sigild/sigild/ipc/ipctest"
)

const examples = "../../testdata/examples"

// typed are the PINs of the examples' user: a wrong one, and a new one, among
// them.
const typed = "402916\n000000\n402916\n402916\n402916\n402916\n591823\n"

// TestExampleRelayInGo runs testdata/examples/relay, twice: its requests are
// carried out once.
func TestExampleRelayInGo(t *testing.T) {
	program := filepath.Join(t.TempDir(), "relay")
	build := exec.CommandContext(testContext(t), "go", "build", "-o", program, "./relay")
	build.Dir = examples
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	runExample(t, program)
}

// TestExampleRelayInNode runs testdata/examples/relay.mjs, where Node is
// installed, as it must be in CI.
func TestExampleRelayInNode(t *testing.T) {
	if !ipctest.Program(t, "node") {
		return
	}
	runExample(t, "node", filepath.Join(examples, "relay.mjs"))
}

func runExample(t *testing.T, command ...string) {
	t.Helper()
	h, c := serving(t)
	status, err := c.Status(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	command = append(command, h.Socket, status.IdentityKey.String())
	said := played(t, typed, command)
	wallet := checkExample(t, said)
	info, err := c.GetWallet(testContext(t), ipc.GetWalletParams{ExternalID: "user:4711"})
	if err != nil || info.WalletID.String() != wallet || info.AttemptsLeft != 10 || info.PINSetAt == nil {
		t.Errorf("%+v, %v", info, err)
	}
	if _, err := tryPIN(t, c, info.WalletID, "591823"); err != nil {
		t.Errorf("the new PIN: %v", err)
	}
	// The relay lost its memory of all that, and starts again.
	later := played(t, strings.ReplaceAll(typed, rightPIN, "591823"), command)
	mustContain(t, later, "wallet "+wallet+" existed true", "PIN changed")
	if n := countWallets(t, c); n != 1 {
		t.Errorf("%d wallets", n)
	}
}

// played runs an example and returns what it said.
func played(t *testing.T, pins string, command []string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdin = strings.NewReader(pins)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// checkExample reads an example's lines and gives the wallet's id.
func checkExample(t *testing.T, said string) (wallet string) {
	t.Helper()
	var address string
	var order []string
	for line := range strings.Lines(said) {
		words := strings.Fields(line)
		order = append(order, words[0])
		switch words[0] {
		case "wallet":
			wallet = words[1]
		case "address":
			address = words[1]
		case "transaction":
			if sender := senderOf(t, words[1]); sender != address {
				t.Errorf("the sender is %s, want %s", sender, address)
			}
		}
	}
	const want = "asking wallet address asking wrong asking transaction asking unlocked message message unlocking asking unlocked message asking asking PIN"
	if got := strings.Join(order, " "); got != want {
		t.Errorf("the example said\n%s", said)
	}
	mustContain(t, said, "existed false", "wrong PIN, attempts left: 9", "unlocked for 2 signatures", "PIN changed")
	return wallet
}

// senderOf has go-ethereum recover the sender of a raw transaction.
func senderOf(t *testing.T, raw string) string {
	t.Helper()
	data, err := hexutil.Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	tx := new(types.Transaction)
	if err := tx.UnmarshalBinary(data); err != nil {
		t.Fatal(err)
	}
	sender, err := types.Sender(types.LatestSignerForChainID(tx.ChainId()), tx)
	if err != nil {
		t.Fatal(err)
	}
	return sender.Hex()
}
