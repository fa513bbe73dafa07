package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/accounts"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/sigild/sigild/ipc"
)

const (
	dynamicFee = `{"type":"0x2","chainId":"0x1","nonce":"%#x","to":"0x9858EfFD232B4033E47d90003D41EC34EcaEda94","value":"0x2386f26fc10000","gas":"0x5208","maxFeePerGas":"0x4a817c800","maxPriorityFeePerGas":"0x3b9aca00"}`
	legacy     = `{"type":"0x0","chainId":"0x1","nonce":"%#x","to":"0x9858EfFD232B4033E47d90003D41EC34EcaEda94","value":"0x2386f26fc10000","gas":"0x5208","gasPrice":"0x4a817c800"}`
)

// signTransaction signs and has go-ethereum recover the sender.
func signTransaction(t testing.TB, c *ipc.Client, w ipc.WalletInfo, account uint32, form string, nonce int) {
	t.Helper()
	r, err := c.SignTransaction(testContext(t), ipc.SignTransactionParams{WalletID: w.WalletID, Account: &account,
		Transaction: json.RawMessage(fmt.Sprintf(form, nonce)), PIN: ipc.Secret(rightPIN)})
	if err != nil {
		t.Fatal(err)
	}
	if err := checkTransaction(r, w.Accounts[account].Address, uint64(nonce)); err != nil {
		t.Fatal(err)
	}
}

// checkTransaction looks at an answer with go-ethereum only.
func checkTransaction(r *ipc.SignTransactionResult, address string, nonce uint64) error {
	tx := new(types.Transaction)
	if err := tx.UnmarshalBinary(r.Raw); err != nil {
		return err
	}
	sender, err := types.Sender(types.LatestSignerForChainID(tx.ChainId()), tx)
	if err != nil {
		return err
	}
	if sender.Hex() != address || tx.Nonce() != nonce || !bytes.Equal(r.Hash, tx.Hash().Bytes()) {
		return fmt.Errorf("sender %s, nonce %d, hash %s: want %s, %d, %s", sender, tx.Nonce(), r.Hash, address, nonce, tx.Hash())
	}
	v, rr, s := tx.RawSignatureValues()
	parity := byte(v.Uint64() & 1)
	if tx.Type() == types.LegacyTxType {
		parity = byte(v.Uint64() - 37) // 35 + 2·chain id (EIP-155)
	}
	if !crypto.ValidateSignatureValues(parity, rr, s, true) || len(r.Signature) != 65 || r.Signature[64] != parity {
		return fmt.Errorf("v %v, r %v, s %v are not a low-S signature", v, rr, s)
	}
	return nil
}

// checkMessage looks at a signature with go-ethereum only.
func checkMessage(r *ipc.SignMessageResult, text, address string) error {
	digest := accounts.TextHash([]byte(text))
	if len(r.Signature) != 65 || !bytes.Equal(r.Digest, digest) {
		return fmt.Errorf("signature %s over %s, want 65 bytes over %x", r.Signature, r.Digest, digest)
	}
	sig := bytes.Clone(r.Signature)
	sig[64] -= 27
	key, err := crypto.SigToPub(digest, sig)
	if err != nil {
		return err
	}
	if got := crypto.PubkeyToAddress(*key).Hex(); got != address {
		return fmt.Errorf("signed by %s, want %s", got, address)
	}
	if !crypto.VerifySignature(crypto.FromECDSAPub(key), digest, sig[:64]) { // refuses a high S
		return fmt.Errorf("not a low-S signature: %s", r.Signature)
	}
	return nil
}

// signAll signs one payload of each form.
func signAll(t testing.TB, c *ipc.Client, w ipc.WalletInfo, nonce int) {
	t.Helper()
	signTransaction(t, c, w, 0, dynamicFee, nonce)
	signTransaction(t, c, w, 0, legacy, nonce)
	r, err := tryPIN(t, c, w.WalletID, rightPIN)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkMessage(r, "hello", w.Accounts[0].Address); err != nil {
		t.Fatal(err)
	}
}

func TestProvisionCreateSignRestartSign(t *testing.T) {
	h, c := serving(t)
	w := create(t, c, "1")
	if w.Custody != "software-token" || w.State != "active" || w.AttemptsLeft != 10 || len(w.Provenance) != 3 || len(w.Dropped) != 0 {
		t.Errorf("wallet %+v", w)
	}
	signAll(t, c, w, 0)
	stop(t, h)
	start(t, h)
	signAll(t, c, w, 1)
	if left := attemptsLeft(t, c, w.WalletID); left != 10 {
		t.Errorf("%d attempts left after right PINs", left)
	}
}

func TestReceiptIsSignedByTheInstallation(t *testing.T) {
	_, c := serving(t)
	status, err := c.Status(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.CreateWallet(testContext(t), ipc.CreateWalletParams{RequestID: "1", Owner: "alice", PIN: ipc.Secret(rightPIN)})
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), status.IdentityKey)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("sigild/receipt/v1\n" + r.Receipt.Statement))
	if !ecdsa.VerifyASN1(key, digest[:], r.Receipt.Signature) || !bytes.Equal(r.Receipt.Key, status.IdentityKey) {
		t.Error("the receipt is not signed by the identity key of the status")
	}
	mustContain(t, strings.ToLower(r.Receipt.Statement), r.Wallet.WalletID.String(), strings.ToLower(r.Wallet.Accounts[0].Address))
}

func TestWrongPINTellsAttemptsLeft(t *testing.T) {
	_, c := serving(t)
	w := create(t, c, "1")
	for _, want := range []int{9, 8} {
		_, err := tryPIN(t, c, w.WalletID, wrongPIN)
		e := wantReason(t, err, "wrongPin")
		if e.AttemptsLeft == nil || *e.AttemptsLeft != want || e.Charged == nil || !*e.Charged {
			t.Errorf("got %+v, want %d attempts left, charged", e, want)
		}
	}
	if _, err := tryPIN(t, c, w.WalletID, rightPIN); err != nil {
		t.Fatal(err)
	}
	if left := attemptsLeft(t, c, w.WalletID); left != 10 {
		t.Errorf("%d attempts left after the right PIN", left)
	}
}

func TestTenWrongPINsLockForGood(t *testing.T) {
	h, c := serving(t)
	w := create(t, c, "1")
	for left := 9; left >= 0; left-- {
		_, err := tryPIN(t, c, w.WalletID, wrongPIN)
		e := wantReason(t, err, "wrongPin")
		if *e.AttemptsLeft != left {
			t.Fatalf("%d attempts left, want %d", *e.AttemptsLeft, left)
		}
		if e.RetryAfter != nil {
			_, err := tryPIN(t, c, w.WalletID, rightPIN)
			wantReason(t, err, "pinWait")
			passTime(t, h, time.Duration(*e.RetryAfter*float64(time.Second)))
		}
	}
	for _, after := range []struct {
		name    string
		restart func()
	}{
		{"nothing", func() {}},
		{"a stop", func() { stop(t, h); start(t, h) }},
		{"a kill", func() { kill(t, h); start(t, h) }},
		{"a reboot", func() { reboot(t, h) }},
	} {
		after.restart()
		_, err := tryPIN(t, c, w.WalletID, rightPIN)
		if e := wantReason(t, err, "locked"); e.Charged == nil || *e.Charged {
			t.Errorf("after %s: %+v, want it not charged", after.name, e)
		}
		info, err := c.GetWallet(testContext(t), ipc.GetWalletParams{WalletID: w.WalletID})
		if err != nil || info.State != "locked" || info.AttemptsLeft != 0 {
			t.Errorf("after %s: %+v, %v", after.name, info, err)
		}
	}
}

// TestStopRightAfterTheStart stops sigild in the moment in which it begins to
// serve.
func TestStopRightAfterTheStart(t *testing.T) {
	h := newHost(t)
	provision(t, h)
	for range 5 {
		start(t, h)
		stop(t, h)
	}
}
