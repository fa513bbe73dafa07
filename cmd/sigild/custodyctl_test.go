package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/ipc"
)

// TestSigilctlMovesAWallet goes the way of docs/operate.md: each account of a
// wallet becomes a wallet of another installation, with its old address.
func TestSigilctlMovesAWallet(t *testing.T) {
	from, _ := serving(t, custody())
	to, plain := serving(t, custody())
	c, ctx, dir := dialSealed(t, from, from.Socket), testContext(t), buildSigilctl(t)
	made, err := c.CreateWallet(ctx, ipc.CreateWalletParams{RequestID: "1", Owner: "alice", PIN: ipc.Secret(rightPIN), Exportable: true})
	if err != nil {
		t.Fatal(err)
	}
	derived, err := c.DeriveAccount(ctx, ipc.DeriveAccountParams{RequestID: "2", WalletID: made.Wallet.WalletID, PIN: ipc.Secret(rightPIN)})
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{made.Wallet.Accounts[0].Address, derived.Account.Address} {
		for _, step := range []struct {
			h    *daemontest.Host
			args string
		}{{from, "account export --yes --out key " + address}, {to, "wallet import --owner alice --key-file key --address " + address}} {
			cmd := exec.CommandContext(ctx, "sh", "-euc", `exec ./sigilctl --socket "$SOCKET" `+step.args+" --pin-fd 3 3<pin")
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "SOCKET="+step.h.Socket, "SIGIL_IDENTITY="+ipc.Hex(identity(t, step.h)).String(), "XDG_CONFIG_HOME="+dir)
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), address) {
				t.Fatalf("%s: %v\n%s", step.args, err, out)
			}
		}
		if err := os.Remove(filepath.Join(dir, "key")); err != nil {
			t.Fatal(err)
		}
		w, err := plain.GetWallet(ctx, ipc.GetWalletParams{Address: address})
		if err != nil || w.Custody != "import" || len(w.Accounts) != 1 {
			t.Fatalf("%+v, %v", w, err)
		}
		signAll(t, plain, *w, 0)
	}
}

// buildSigilctl builds the program into a new folder, with the right PIN beside it.
func buildSigilctl(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if out, err := exec.CommandContext(testContext(t), "go", "build", "-o", dir, "../sigilctl").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	if err := os.WriteFile(filepath.Join(dir, "pin"), []byte(rightPIN+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}
