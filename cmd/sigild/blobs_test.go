package main

import (
	"encoding/binary"
	"encoding/json"
	"math/big"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/accounts"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto/kzg4844"
	"github.com/holiman/uint256"

	"github.com/sigild/sigild/ipc"
	"github.com/sigild/sigild/ipc/ethsigner"
)

// mostBlobs is how many a transaction may have on Ethereum (EIP-7594).
const mostBlobs = 6

// sidecarOf makes blobs, all different and without a zero byte to leave out, with
// their commitments and proofs.
func sidecarOf(t *testing.T, version byte, count int) *types.BlobTxSidecar {
	t.Helper()
	s := types.NewBlobTxSidecar(version, nil, nil, nil)
	for n := range count {
		var blob kzg4844.Blob
		for at := 0; at < len(blob); at += 32 { // field elements, below the modulus
			blob[at] = 0x11
			for word := 8; word < 32; word += 8 {
				binary.BigEndian.PutUint64(blob[at+word:], 0x9e3779b97f4a7c15*uint64(at+word+n+1))
			}
		}
		commitment, err := kzg4844.BlobToCommitment(&blob)
		if err != nil {
			t.Fatal(err)
		}
		proofs := make([]kzg4844.Proof, 1)
		if version == types.BlobSidecarVersion0 {
			proofs[0], err = kzg4844.ComputeBlobProof(&blob, commitment)
		} else {
			proofs, err = kzg4844.ComputeCellProofs(&blob)
		}
		if err != nil {
			t.Fatal(err)
		}
		s.Blobs, s.Commitments, s.Proofs = append(s.Blobs, blob), append(s.Commitments, commitment), append(s.Proofs, proofs...)
	}
	return s
}

func blobTransaction(s *types.BlobTxSidecar) *types.Transaction {
	return types.NewTx(&types.BlobTx{ChainID: uint256.NewInt(1337), GasFeeCap: uint256.NewInt(9), GasTipCap: uint256.NewInt(1), Gas: 21000,
		To: common.HexToAddress("0x9858EfFD232B4033E47d90003D41EC34EcaEda94"), BlobFeeCap: uint256.NewInt(1), BlobHashes: s.BlobHashes(), Sidecar: s})
}

// checkSidecar verifies by go-ethereum alone what came back with a transaction.
func checkSidecar(t *testing.T, tx *types.Transaction, want *types.BlobTxSidecar) {
	t.Helper()
	s := tx.BlobTxSidecar()
	if s == nil || s.Version != want.Version || len(s.Blobs) != len(want.Blobs) {
		t.Fatalf("the sidecar is not the one that was sent: %v", s != nil)
	}
	if err := s.ValidateBlobCommitmentHashes(tx.BlobHashes()); err != nil {
		t.Error(err)
	}
	var err error
	if s.Version == types.BlobSidecarVersion1 {
		err = kzg4844.VerifyCellProofs(s.Blobs, s.Commitments, s.Proofs)
	}
	for n := range s.Blobs {
		if s.Blobs[n] != want.Blobs[n] {
			t.Errorf("blob %d is another one", n)
		}
		if s.Version == types.BlobSidecarVersion0 && err == nil {
			err = kzg4844.VerifyBlobProof(&s.Blobs[n], s.Commitments[n], s.Proofs[n])
		}
	}
	if err != nil {
		t.Error(err)
	}
}

// Blobs are signed with sidecars of both versions, as many as a transaction may
// have: the daemon's default limits hold them.
func TestBlobsAreSigned(t *testing.T) {
	_, c, w := unlocked(t)
	account := ethsigner.New(c, common.HexToAddress(w.Accounts[0].Address))
	for _, s := range []*types.BlobTxSidecar{sidecarOf(t, types.BlobSidecarVersion0, 1), sidecarOf(t, types.BlobSidecarVersion1, mostBlobs)} {
		signed, err := account.SignTx(testContext(t), blobTransaction(s), big.NewInt(1337)) // it checks sender and hash
		if err != nil {
			t.Fatalf("version %d: %v", s.Version, err)
		}
		checkSidecar(t, signed, s)
		s.Proofs[0][1] ^= 1
		if _, err := account.SignTx(testContext(t), blobTransaction(s), big.NewInt(1337)); ipc.ReasonOf(err) != ipc.ReasonInvalidParams || !strings.Contains(err.Error(), "proofs") {
			t.Errorf("version %d, another proof: %v", s.Version, err)
		}
	}
}

// go-ethereum's own client reads no sidecar from an answer; who wants one finds
// it in both of its members.
func TestExternalSignerSignsBlobs(t *testing.T) {
	h, _, w := unlocked(t)
	from := common.HexToAddress(w.Accounts[0].Address)
	s := sidecarOf(t, types.BlobSidecarVersion0, mostBlobs)
	tx := blobTransaction(s)
	signer := types.LatestSignerForChainID(big.NewInt(1337))
	signed, err := externalBackend(t, h).SignTx(accounts.Account{Address: from}, tx, big.NewInt(1337))
	if err != nil {
		t.Fatal(err)
	}
	if sender, err := types.Sender(signer, signed); err != nil || sender != from || signer.Hash(signed) != signer.Hash(tx) {
		t.Errorf("sender %s, %v", sender, err)
	}
	args := map[string]any{"from": from, "to": tx.To(), "chainId": "0x539", "nonce": "0x0", "gas": "0x5208",
		"maxFeePerGas": "0x9", "maxPriorityFeePerGas": "0x1", "maxFeePerBlobGas": "0x1", "blobVersionedHashes": s.BlobHashes(),
		"blobs": s.Blobs, "commitments": s.Commitments, "proofs": s.Proofs}
	var out ipc.SignedTransaction
	if err := gethClient(t, h).CallContext(testContext(t), &out, "account_signTransaction", args); err != nil {
		t.Fatal(err)
	}
	raw := new(types.Transaction)
	if err := raw.UnmarshalBinary(out.Raw); err != nil {
		t.Fatal(err)
	}
	checkSidecar(t, raw, s)
	var shown struct{ Blobs, Commitments, Proofs []hexutil.Bytes }
	if err := json.Unmarshal(out.Tx, &shown); err != nil || len(shown.Blobs) != mostBlobs || len(shown.Commitments) != mostBlobs || len(shown.Proofs) != mostBlobs {
		t.Errorf("tx: %v", err)
	}
}
