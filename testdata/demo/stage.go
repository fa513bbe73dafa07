package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"

	"github.com/sigild/sigild/daemon/daemontest"
)

const (
	rightPIN = "402916"
	wrongPIN = "739105"
)

// transaction is an EIP-1559 transfer of 0.01 ether.
const transaction = `{
  "type": "0x2", "chainId": "0x1", "nonce": "%#x",
  "to": "0x9858EfFD232B4033E47d90003D41EC34EcaEda94", "value": "0x2386f26fc10000",
  "gas": "0x5208", "maxFeePerGas": "0x4a817c800", "maxPriorityFeePerGas": "0x3b9aca00"
}
`

// stage plays the demo and shows each command as a person would type it.
type stage struct {
	host     *daemontest.Host
	sigilctl string
}

func (s *stage) play(ctx context.Context) error {
	steps := []func(context.Context) error{s.provision, s.start, s.status, s.create, s.sign(0), s.restart, s.sign(1), s.refuse}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	title("Done. Everything is removed again.")
	return nil
}

func title(text string) { fmt.Printf("\n# %s\n", text) }

func (s *stage) provision(ctx context.Context) error {
	title("A new SoftHSM token, a new swtpm and a KMS endpoint; bind them into one installation")
	fmt.Println("$ sigild provision")
	code, err := s.host.Provision(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("  recovery code: %s\n", code)
	return nil
}

func (s *stage) start(ctx context.Context) error {
	fmt.Println("$ sigild run &")
	return s.host.Start(ctx)
}

func (s *stage) restart(ctx context.Context) error {
	title("Stop the daemon, start it again, sign again")
	if err := s.host.Stop(); err != nil {
		return err
	}
	return s.start(ctx)
}

func (s *stage) status(ctx context.Context) error {
	out, err := s.show(ctx, "", "status")
	return shows(out, err, "ready")
}

// shows checks what sigilctl printed, so that a demo that shows something else fails.
func shows(out []byte, err error, words ...string) error {
	for _, w := range words {
		if err == nil && !bytes.Contains(out, []byte(w)) {
			err = fmt.Errorf("sigilctl does not show %q", w)
		}
	}
	return err
}

func (s *stage) create(ctx context.Context) error {
	title("A wallet out of three sources of randomness: AWS KMS, the TPM, the token")
	out, err := s.show(ctx, rightPIN, "wallet", "create", "--owner", "alice", "--request-id", "alice-1")
	return shows(out, err, "kms 64 bytes", "token 64 bytes", "tpm 64 bytes", "0x")
}

// address asks the daemon for the wallet's address.
func (s *stage) address(ctx context.Context) (string, error) {
	out, err := s.ctl(ctx, "", "--json", "wallet", "list")
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	var list struct {
		Wallets []struct{ Accounts []struct{ Address string } }
	}
	if err := json.Unmarshal(out, &list); err != nil {
		return "", err
	}
	if len(list.Wallets) != 1 || len(list.Wallets[0].Accounts) != 1 {
		return "", errors.New("not exactly one wallet with one account")
	}
	return list.Wallets[0].Accounts[0].Address, nil
}

// sign signs a transaction and has go-ethereum recover its sender.
func (s *stage) sign(nonce int) func(context.Context) error {
	return func(ctx context.Context) error {
		title("Sign an EIP-1559 transaction; go-ethereum recovers the sender")
		address, file, err := s.prepare(ctx, nonce)
		if err != nil {
			return err
		}
		out, err := s.ctl(ctx, rightPIN, "--json", "sign", "tx", address, file)
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		fmt.Printf("$ sigilctl sign tx %s tx.json\n  PIN: ******\n", address)
		return checkSender(out, address)
	}
}

func (s *stage) prepare(ctx context.Context, nonce int) (address, file string, err error) {
	if address, err = s.address(ctx); err != nil {
		return "", "", err
	}
	file = filepath.Join(s.host.Dir, "tx.json")
	return address, file, os.WriteFile(file, fmt.Appendf(nil, transaction, nonce), 0o600)
}

func checkSender(answer []byte, address string) error {
	var signed struct{ Raw, Hash hexutil.Bytes }
	if err := json.Unmarshal(answer, &signed); err != nil {
		return err
	}
	tx := new(types.Transaction)
	if err := tx.UnmarshalBinary(signed.Raw); err != nil {
		return err
	}
	sender, err := types.Sender(types.LatestSignerForChainID(tx.ChainId()), tx)
	if err != nil {
		return err
	}
	fmt.Printf("  raw:    %s\n  hash:   %s\n  sender: %s (recovered by go-ethereum)\n", signed.Raw, signed.Hash, sender)
	if sender.Hex() != address {
		return fmt.Errorf("the sender is %s, not %s", sender, address)
	}
	return nil
}

// refuse shows what a wrong PIN gets.
func (s *stage) refuse(ctx context.Context) error {
	title("A wrong PIN is counted, on disk and in the TPM, before it is checked, and refused")
	address, file, err := s.prepare(ctx, 2)
	if err != nil {
		return err
	}
	out, err := s.show(ctx, wrongPIN, "sign", "tx", address, file)
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return fmt.Errorf("a wrong PIN was not refused: %w: %s", err, out)
	}
	return shows(out, nil, "wrongPin", "attempts left: 9")
}

// show runs sigilctl and prints the command and what it says.
func (s *stage) show(ctx context.Context, pin string, args ...string) ([]byte, error) {
	fmt.Printf("$ sigilctl %s\n", strings.ReplaceAll(strings.Join(args, " "), s.host.Dir+"/", ""))
	if pin != "" {
		fmt.Println("  PIN: ******")
	}
	out, err := s.ctl(ctx, pin, args...)
	for line := range strings.Lines(string(out)) {
		fmt.Print("  " + line)
	}
	return out, err
}

// ctl runs sigilctl, with the PIN on a file descriptor.
func (s *stage) ctl(ctx context.Context, pin string, args ...string) ([]byte, error) {
	args = append([]string{"--socket", s.host.Socket}, args...)
	if pin == "" {
		return exec.CommandContext(ctx, s.sigilctl, args...).CombinedOutput()
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close()
	cmd := exec.CommandContext(ctx, s.sigilctl, append(args, "--pin-fd", "3")...)
	cmd.ExtraFiles = []*os.File{read}
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+s.host.Dir) // not the user's own
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if _, err := fmt.Fprintln(write, pin); err != nil {
		return nil, err
	}
	if err := write.Close(); err != nil {
		return nil, err
	}
	err = cmd.Run()
	return out.Bytes(), err
}

// develop leaves the installation running and says how to use it.
func (s *stage) develop(ctx context.Context) error {
	if _, err := s.host.Provision(ctx); err != nil {
		return err
	}
	if err := s.host.Start(ctx); err != nil {
		return err
	}
	out, err := s.ctl(ctx, "", "--json", "status")
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	var status struct{ IdentityKey string }
	if err := json.Unmarshal(out, &status); err != nil {
		return err
	}
	fmt.Printf("\nsocket:       %s\nidentity key: %s\nconfiguration and logs: %s\n\n"+
		"Try: bin/sigilctl --socket %[1]s status\nIts answers carry \"dev\": true. Ctrl-C ends it and removes everything.\n",
		s.host.Socket, status.IdentityKey, s.host.Dir)
	<-ctx.Done()
	return nil
}
