package eth_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto/kzg4844"

	"github.com/sigild/sigild/daemon/eth"
)

// sidecar is one blob with all that belongs to it, made by go-ethereum.
type sidecar struct {
	blob       kzg4844.Blob
	commitment kzg4844.Commitment
	hash       common.Hash
	proof      kzg4844.Proof
	cellProofs []kzg4844.Proof
}

func newSidecar(t *testing.T) *sidecar {
	t.Helper()
	var s sidecar
	for i := 0; i < len(s.blob); i += 32 {
		s.blob[i+1], s.blob[i+31] = byte(i), byte(i>>8)
	}
	var err error
	if s.commitment, err = kzg4844.BlobToCommitment(&s.blob); err != nil {
		t.Fatal(err)
	}
	s.hash = kzg4844.CalcBlobHashV1(sha256.New(), &s.commitment)
	if s.proof, err = kzg4844.ComputeBlobProof(&s.blob, s.commitment); err != nil {
		t.Fatal(err)
	}
	if s.cellProofs, err = kzg4844.ComputeCellProofs(&s.blob); err != nil {
		t.Fatal(err)
	}
	return &s
}

// members are a transaction's fields for the sidecar with these proofs.
func (s *sidecar) members(proofs []kzg4844.Proof, changes edit) edit {
	e := edit{
		"blobVersionedHashes": []common.Hash{s.hash}, "blobs": []*kzg4844.Blob{&s.blob},
		"commitments": []kzg4844.Commitment{s.commitment}, "proofs": proofs,
	}
	for name, change := range changes {
		e[name] = change
	}
	return e
}

func TestSidecars(t *testing.T) {
	s := newSidecar(t)
	versions := [][]kzg4844.Proof{{s.proof}, s.cellProofs}
	bare := parse(t, edited(t, blobBase, edit{"blobVersionedHashes": []common.Hash{s.hash}}))
	for version, proofs := range versions {
		for _, named := range []edit{nil, {"blobVersion": version}, {"blobVersion": []string{"0x0", "0x1"}[version]}} {
			tx := parse(t, edited(t, blobBase, s.members(proofs, named)))
			if tx.SigningDigest() != bare.SigningDigest() {
				t.Error("the sidecar changes the digest")
			}
			r, sValue, recid := sign(t, tx.SigningDigest())
			signed, err := tx.WithSignature(r, sValue, recid, cow)
			if err != nil {
				t.Fatal(err)
			}
			checkSidecar(t, signed, s, byte(version), proofs)
		}
	}
	t.Run("refusals", func(t *testing.T) { checkSidecarRefusals(t, s) })
}

func checkSidecar(t *testing.T, signed *eth.Signed, s *sidecar, version byte, proofs []kzg4844.Proof) {
	t.Helper()
	var decoded types.Transaction
	if err := decoded.UnmarshalBinary(signed.Raw); err != nil {
		t.Fatal(err)
	}
	got := decoded.BlobTxSidecar()
	if got == nil || got.Version != version || len(got.Blobs) != 1 || got.Blobs[0] != s.blob ||
		got.Commitments[0] != s.commitment || len(got.Proofs) != len(proofs) || got.Proofs[len(proofs)-1] != proofs[len(proofs)-1] {
		t.Errorf("the network form lacks the sidecar of version %d", version)
	}
	if decoded.Hash() != signed.Hash || bytes.Contains(signed.Transaction, []byte("blobs")) {
		t.Error("hash or shown transaction include the sidecar")
	}
}

func checkSidecarRefusals(t *testing.T, s *sidecar) {
	v0, otherBlob, otherProofs := []kzg4844.Proof{s.proof}, s.blob, append([]kzg4844.Proof(nil), s.cellProofs...)
	otherBlob[31] ^= 1
	otherProofs[127] = s.proof
	infinity := kzg4844.Commitment{0xc0}
	for _, c := range []struct {
		proofs  []kzg4844.Proof
		changes edit
		field   string
	}{
		{v0, edit{"blobs": []*kzg4844.Blob{&otherBlob}}, "transaction.proofs[0]"},
		{s.cellProofs, edit{"blobs": []*kzg4844.Blob{&otherBlob}}, "transaction.proofs"},
		{otherProofs, nil, "transaction.proofs"},
		{[]kzg4844.Proof{{0xc0}}, nil, "transaction.proofs[0]"},
		{[]kzg4844.Proof{{}}, nil, "transaction.proofs[0]"},
		{s.cellProofs[:127], nil, "transaction.proofs"},
		{[]kzg4844.Proof{}, nil, "transaction.proofs"},
		{v0, edit{"proofs": nil}, "transaction.proofs"},
		{v0, edit{"proofs": "0x"}, "transaction.proofs"},
		{v0, edit{"blobs": nil}, "transaction.blobs"},
		{v0, edit{"blobs": []string{"0x00"}}, "transaction.blobs[0]"},
		{v0, edit{"blobs": []string{}}, "transaction.blobs"},
		{v0, edit{"commitments": []string{}}, "transaction.commitments"},
		{v0, edit{"commitments": []kzg4844.Commitment{infinity}}, "transaction.blobVersionedHashes[0]"},
		{v0, edit{"blobVersion": 1}, "transaction.blobVersion"},
		{s.cellProofs, edit{"blobVersion": json.RawMessage("0")}, "transaction.blobVersion"},
		{v0, edit{"blobVersion": 2}, "transaction.blobVersion"},
	} {
		_, err := eth.ParseTransaction(edited(t, blobBase, s.members(c.proofs, c.changes)))
		wantField(t, err, c.field)
	}
}
