package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/sigild/sigild/ipc"
)

// vector is one case of testdata/vectors/eth, as far as it is used here.
type vector struct {
	Comment       string
	Transaction   json.RawMessage
	TypedData     json.RawMessage
	Authorization json.RawMessage
	Request       json.RawMessage
	Message       ipc.Hex
	Repeat        int
	Digest        common.Hash
	ZeroBlobs     int
}

// readVectors gives the cases of one file. One without a source is no vector.
func readVectors(t *testing.T, name string) []vector {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../testdata/vectors/eth", name))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Source                            string
		Vectors, Messages, Authorizations []vector
	}
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	all := append(append(file.Vectors, file.Messages...), file.Authorizations...)
	if file.Source == "" || len(all) == 0 {
		t.Fatalf("%s: source %q, %d vectors", name, file.Source, len(all))
	}
	return all
}

// anything is the policy of a wallet that may sign whatever there is.
func anything() *ipc.Policy {
	every := []string{ipc.Any}
	return &ipc.Policy{Operations: []string{"transaction", "message", "typedData", "authorization", "userOperation", "rawDigest"},
		Chains: every, Recipients: every, Selectors: every, MaxValue: ipc.Any, MaxCost: ipc.Any, ContractCreation: true}
}

// vectorSigner signs vectors with one wallet.
type vectorSigner struct {
	client  *ipc.Client
	wallet  ipc.Hex
	address common.Address
}

// TestVectorsThroughTheSocket signs every vector of the EIPs with a wallet's
// own key: the digest is the vector's, and go-ethereum recovers the wallet.
func TestVectorsThroughTheSocket(t *testing.T) {
	// Under the race detector the proofs of one blob take up to a minute.
	_, c := serving(t, withConfig(map[string]string{"limits": "request_timeout = \"10m\""}))
	r, err := c.CreateWallet(testContext(t), ipc.CreateWalletParams{RequestID: "1", Owner: "alice", Policy: anything(), PIN: ipc.Secret(rightPIN)})
	if err != nil {
		t.Fatal(err)
	}
	s := &vectorSigner{c, r.Wallet.WalletID, common.HexToAddress(r.Wallet.Accounts[0].Address)}
	for _, file := range []struct {
		name string
		sign func(*testing.T, vector) error
	}{
		{"eip155.json", s.transaction}, {"eip2930.json", s.transaction}, {"eip1559.json", s.transaction},
		{"eip4844.json", s.transaction}, {"eip7702.json", s.transactionOrAuthorization}, {"go-ethereum.json", s.transaction},
		{"eip712.json", s.typedData}, {"eip712-shapes.json", s.typedData}, {"eip191.json", s.message}, {"erc4337.json", s.userOperation},
	} {
		for _, v := range readVectors(t, file.name) {
			t.Run(file.name+"/"+v.Comment, func(t *testing.T) {
				if err := file.sign(t, v); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func (s *vectorSigner) transactionOrAuthorization(t *testing.T, v vector) error {
	if v.Authorization != nil {
		return s.authorization(t, v)
	}
	return s.transaction(t, v)
}

func (s *vectorSigner) transaction(t *testing.T, v vector) error {
	r, err := s.client.SignTransaction(testContext(t), ipc.SignTransactionParams{WalletID: s.wallet,
		Transaction: withBlobs(t, v), PIN: ipc.Secret(rightPIN)})
	if err != nil {
		return err
	}
	tx := new(types.Transaction)
	if err := tx.UnmarshalBinary(r.Raw); err != nil {
		return err
	}
	signer := types.LatestSignerForChainID(tx.ChainId())
	sender, err := types.Sender(signer, tx)
	if err != nil {
		return err
	}
	if sender != s.address || signer.Hash(tx) != v.Digest || !bytes.Equal(r.Hash, tx.Hash().Bytes()) {
		return fmt.Errorf("sender %s, digest %s, hash %s: want %s, %s, %s", sender, signer.Hash(tx), r.Hash, s.address, v.Digest, tx.Hash())
	}
	if (tx.BlobTxSidecar() != nil) != (v.ZeroBlobs > 0) {
		return fmt.Errorf("the sidecar was not passed through")
	}
	return nil
}

// withBlobs adds the sidecar of blobs of zeros, whose commitment and proof are
// the point at infinity.
func withBlobs(t *testing.T, v vector) json.RawMessage {
	t.Helper()
	if v.ZeroBlobs == 0 {
		return v.Transaction
	}
	var object map[string]any
	if err := json.Unmarshal(v.Transaction, &object); err != nil {
		t.Fatal(err)
	}
	var blobs, infinities []string
	for range v.ZeroBlobs {
		blobs = append(blobs, hexutil.Encode(make([]byte, 131072)))
		infinities = append(infinities, hexutil.Encode(append([]byte{0xc0}, make([]byte, 47)...)))
	}
	object["blobs"], object["commitments"], object["proofs"] = blobs, infinities, infinities
	text, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (s *vectorSigner) typedData(t *testing.T, v vector) error {
	r, err := s.client.SignTypedData(testContext(t), s.payload(v.TypedData))
	return s.check(v, r, err)
}

func (s *vectorSigner) userOperation(t *testing.T, v vector) error {
	r, err := s.client.SignUserOperation(testContext(t), s.payload(v.Request))
	return s.check(v, r, err)
}

func (s *vectorSigner) message(t *testing.T, v vector) error {
	m, err := s.client.SignMessage(testContext(t), ipc.SignMessageParams{WalletID: s.wallet,
		Message: bytes.Repeat(v.Message, max(v.Repeat, 1)), PIN: ipc.Secret(rightPIN)})
	if err != nil {
		return err
	}
	return s.check(v, &ipc.SignPayloadResult{Signature: m.Signature, Digest: m.Digest}, nil)
}

// authorization is also checked as the tuple that a transaction carries.
func (s *vectorSigner) authorization(t *testing.T, v vector) error {
	r, err := s.client.SignAuthorization(testContext(t), s.payload(v.Authorization))
	if err := s.check(v, r, err); err != nil {
		return err
	}
	var tuple types.SetCodeAuthorization
	if err := json.Unmarshal(r.Signed, &tuple); err != nil {
		return err
	}
	if authority, err := tuple.Authority(); err != nil || authority != s.address {
		return fmt.Errorf("the authority is %s, %v", authority, err)
	}
	return nil
}

func (s *vectorSigner) payload(raw json.RawMessage) ipc.SignPayloadParams {
	return ipc.SignPayloadParams{WalletID: s.wallet, Payload: raw, PIN: ipc.Secret(rightPIN)}
}

func (s *vectorSigner) check(v vector, r *ipc.SignPayloadResult, err error) error {
	if err != nil {
		return err
	}
	signature := bytes.Clone(r.Signature)
	signature[64] -= 27
	key, err := crypto.SigToPub(v.Digest[:], signature)
	if err != nil {
		return err
	}
	if got := crypto.PubkeyToAddress(*key); got != s.address || !bytes.Equal(r.Digest, v.Digest[:]) {
		return fmt.Errorf("signed by %s over %s, want %s over %s", got, r.Digest, s.address, v.Digest)
	}
	return nil
}
