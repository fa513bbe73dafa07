package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/accounts"
	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/accounts/abi/bind/v2"
	"github.com/ethereum/go-ethereum/accounts/external"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/ethclient"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/ipc/ethsigner"
)

// gethDir is a module that does nothing but pin the node.
const gethDir = "../../testdata/geth"

// buildGeth gives the node's binary. It is built once, in minutes, and kept in
// the user's cache.
func buildGeth(t *testing.T) string {
	t.Helper()
	sums, err := os.ReadFile(filepath.Join(gethDir, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	key := sha256.Sum256(append(sums, runtime.Version()...))
	path := filepath.Join(cache, "sigild-test", "geth-"+hex.EncodeToString(key[:8]))
	if _, err := os.Stat(path); err == nil {
		return path
	}
	begun := time.Now()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", path+".new", "github.com/ethereum/go-ethereum/cmd/geth")
	cmd.Dir = gethDir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	t.Logf("geth was built in %s", time.Since(begun).Round(time.Second))
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return path
}

// startGeth runs a node until the test ends and gives a client of its socket.
func startGeth(t *testing.T, geth, dir string, args ...string) *ethclient.Client {
	t.Helper()
	socket := filepath.Join(dir, "geth.ipc")
	args = append(args, "--datadir", dir, "--ipcpath", socket, "--authrpc.port", freePort(t), "--port", "0",
		"--nodiscover", "--maxpeers", "0", "--nat", "none", "--verbosity", "2")
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(geth, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		<-ended
		_ = log.Close()
		if text, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("%s:\n%s", dir, text)
		}
	})
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if c, err := ethclient.DialContext(testContext(t), socket); err == nil {
			t.Cleanup(c.Close)
			return c
		}
		select {
		case <-tick.C:
		case err := <-ended:
			ended <- err
			t.Fatalf("geth ended: %v", err)
		case <-t.Context().Done():
			t.Fatal("geth does not answer")
		}
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// wantReceipt waits until the node has taken a transaction into a block.
func wantReceipt(t *testing.T, node *ethclient.Client, tx *types.Transaction, from common.Address, what string) *types.Receipt {
	t.Helper()
	r, err := bind.WaitMined(testContext(t), node, tx.Hash())
	if err != nil {
		t.Fatal(err)
	}
	sender, err := node.TransactionSender(testContext(t), tx, r.BlockHash, r.TransactionIndex)
	if err != nil || r.Status != types.ReceiptStatusSuccessful || sender != from {
		t.Fatalf("%s: sender %s, status %d, %v", what, sender, r.Status, err)
	}
	t.Logf("%s: transaction %s of type %d by %s in block %s, status %d, gas %d, contract %s",
		what, r.TxHash, r.Type, sender, r.BlockNumber, r.Status, r.GasUsed, r.ContractAddress)
	return r
}

// fund has the node's own account send ten ether.
func fund(t *testing.T, node *ethclient.Client, to common.Address) {
	t.Helper()
	var from []common.Address
	if err := node.Client().CallContext(testContext(t), &from, "eth_accounts"); err != nil || len(from) != 1 {
		t.Fatalf("%v, %v", from, err)
	}
	var hash common.Hash
	err := node.Client().CallContext(testContext(t), &hash, "eth_sendTransaction",
		map[string]any{"from": from[0], "to": to, "value": "0x8ac7230489e80000"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bind.WaitMined(testContext(t), node, hash); err != nil {
		t.Fatal(err)
	}
}

// answerCode deploys a contract that answers 42.
const answerCode = "69602a60005260206000f3600052600a6016f3"

// TestGethAcceptsWhatSigildSigned needs SIGILD_GETH=1: building the node
// takes minutes the first time.
func TestGethAcceptsWhatSigildSigned(t *testing.T) {
	if os.Getenv("SIGILD_GETH") != "1" {
		t.Log("not run: it needs SIGILD_GETH=1 (make geth)")
		return
	}
	geth := buildGeth(t)
	h, c, w := unlocked(t)
	from := common.HexToAddress(w.Accounts[0].Address)
	node := startGeth(t, geth, gethData(t), "--dev")
	chain, err := node.ChainID(testContext(t))
	if err != nil || chain.Int64() != 1337 {
		t.Fatalf("chain %v, %v", chain, err)
	}
	fund(t, node, from)

	t.Run("bind", func(t *testing.T) {
		opts := ethsigner.New(c, from).TransactOpts(testContext(t), chain)
		address, tx, err := bind.DeployContract(opts, common.FromHex(answerCode), node, nil)
		if err != nil {
			t.Fatal(err)
		}
		wantReceipt(t, node, tx, from, "deployed by bind")
		contract := bind.NewBoundContract(address, abi.ABI{}, node, node, node)
		answer, err := contract.CallRaw(nil, nil)
		if err != nil || new(big.Int).SetBytes(answer).Int64() != 42 {
			t.Errorf("the contract answers %x, %v", answer, err)
		}
		if tx, err = contract.RawTransact(opts, []byte{1, 2, 3, 4}); err != nil {
			t.Fatal(err)
		}
		wantReceipt(t, node, tx, from, "called by bind")
	})
	t.Run("bind's Clef transactor", func(t *testing.T) {
		signer, err := external.NewExternalSigner(h.Socket)
		if err != nil {
			t.Fatal(err)
		}
		opts := bind.NewClefTransactor(signer, accounts.Account{Address: from})
		_, tx, err := bind.DeployContract(opts, common.FromHex(answerCode), node, nil)
		if err != nil {
			t.Fatal(err)
		}
		wantReceipt(t, node, tx, from, "deployed by bind's Clef transactor")
	})
	t.Run("--signer", func(t *testing.T) { gethWithSigner(t, geth, h, node, from) })
}

// gethWithSigner has a second node sign, since geth refuses --dev together with
// --signer.
func gethWithSigner(t *testing.T, geth string, h *daemontest.Host, node *ethclient.Client, from common.Address) {
	cmd := exec.CommandContext(testContext(t), geth, "--dev", "--signer", h.Socket, "--datadir", gethData(t), "--authrpc.port", freePort(t), "--ipcdisable")
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "can't be used at the same time") {
		t.Errorf("geth --dev --signer: %v\n%s", err, out)
	}
	dir := gethData(t)
	genesis := filepath.Join(dir, "genesis.json")
	if err := os.WriteFile(genesis, []byte(`{"config":{"chainId":1337,"homesteadBlock":0,"eip150Block":0,"eip155Block":0,"eip158Block":0,
"byzantiumBlock":0,"constantinopleBlock":0,"petersburgBlock":0,"istanbulBlock":0,"berlinBlock":0,"londonBlock":0,"shanghaiTime":0,
"terminalTotalDifficulty":0},"difficulty":"0x0","gasLimit":"0x1c9c380","alloc":{}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(testContext(t), geth, "init", "--datadir", dir, genesis).CombinedOutput(); err != nil {
		t.Fatalf("geth init: %v\n%s", err, out)
	}
	signing := startGeth(t, geth, dir, "--networkid", "1337", "--signer", h.Socket)
	ask := func(result any, method string, params ...any) {
		t.Helper()
		if err := signing.Client().CallContext(testContext(t), result, method, params...); err != nil {
			t.Fatalf("%s: %v", method, err)
		}
	}
	var list []common.Address
	if ask(&list, "eth_accounts"); len(list) != 1 || list[0] != from {
		t.Fatalf("accounts %v", list)
	}
	nonce, err := node.PendingNonceAt(testContext(t), from)
	if err != nil {
		t.Fatal(err)
	}
	var out struct {
		Raw hexutil.Bytes      `json:"raw"`
		Tx  *types.Transaction `json:"tx"`
	}
	ask(&out, "eth_signTransaction", map[string]any{"from": from, "to": from, "value": "0x1", "gas": "0x5208", "nonce": fmt.Sprintf("%#x", nonce),
		"maxFeePerGas": "0x77359400", "maxPriorityFeePerGas": "0x1", "chainId": "0x539"})
	if err := node.SendTransaction(testContext(t), out.Tx); err != nil {
		t.Fatal(err)
	}
	wantReceipt(t, node, out.Tx, from, "signed by geth --signer")
	var signature hexutil.Bytes
	ask(&signature, "eth_sign", from, hexutil.Bytes("hello"))
	recovered(t, accounts.TextHash([]byte("hello")), signature, nil, from)
}

// gethData is a folder whose path is short, for the node's socket.
func gethData(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "geth")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
