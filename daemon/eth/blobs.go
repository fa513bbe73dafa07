package eth

import (
	"crypto/sha256"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto/kzg4844"
	"github.com/holiman/uint256"
)

// maxBlobs bounds the blobs of one transaction. Ethereum's own limit is 6
// (EIP-7594); chains with another one stay well below this.
const maxBlobs = 64

func (b *body) blobTx(f fields) (types.TxData, error) {
	blobFeeCap, err := read(f, "maxFeePerBlobGas", value.word)
	if err != nil {
		return nil, err
	}
	hashes, err := read(f, "blobVersionedHashes", versionedHashes)
	if err != nil {
		return nil, err
	}
	sidecar, err := parseSidecar(f, hashes)
	if err != nil {
		return nil, err
	}
	return &types.BlobTx{
		ChainID: uint256.NewInt(b.chainID), Nonce: b.nonce, GasTipCap: b.tipCap, GasFeeCap: b.feeCap,
		Gas: b.gas, To: *b.to, Value: b.value, Data: b.data, AccessList: b.accessList,
		BlobFeeCap: blobFeeCap, BlobHashes: hashes, Sidecar: sidecar,
	}, nil
}

func versionedHashes(v value) ([]common.Hash, error) {
	if v.kind == list && len(v.items) == 0 {
		return nil, problem("must not be empty (EIP-4844)")
	}
	return each(v, maxBlobs, func(item value) (common.Hash, error) {
		hash, err := item.hash()
		if err == nil && !kzg4844.IsValidVersionedHash(hash[:]) {
			return hash, problem("must start with the version 0x01 (EIP-4844)")
		}
		return hash, err
	})
}

// parseSidecar reads and verifies blobs, commitments and proofs. It returns nil
// if there are none: a transaction may be signed without them.
func parseSidecar(f fields, hashes []common.Hash) (*types.BlobTxSidecar, error) {
	if _, given := f.hasAny("blobs", "commitments", "proofs", "blobVersion"); !given {
		return nil, nil
	}
	if err := f.require("blobs", "commitments", "proofs"); err != nil {
		return nil, err
	}
	commitments, err := read(f, "commitments", ofSize[kzg4844.Commitment](len(hashes)))
	if err != nil {
		return nil, err
	}
	if err := matchCommitments(commitments, hashes); err != nil {
		return nil, err
	}
	blobs, err := read(f, "blobs", ofSize[kzg4844.Blob](len(hashes)))
	if err != nil {
		return nil, err
	}
	version, proofs, err := versionAndProofs(f, len(blobs))
	if err != nil {
		return nil, err
	}
	sidecar := types.NewBlobTxSidecar(version, blobs, commitments, proofs)
	return sidecar, verifyProofs(sidecar)
}

// fixed are the byte arrays of a sidecar.
type fixed interface {
	kzg4844.Blob | kzg4844.Commitment | kzg4844.Proof
}

// ofSize returns a reader of an array of exactly n byte strings.
func ofSize[T fixed](n int) func(value) ([]T, error) {
	return func(v value) ([]T, error) {
		if v.kind == list && len(v.items) != n {
			return nil, problem("has %d elements, but %d are needed", len(v.items), n)
		}
		return each(v, n, fixedArray[T])
	}
}

func fixedArray[T fixed](v value) (array T, err error) {
	switch dst := any(&array).(type) {
	case *kzg4844.Blob:
		err = v.fixedBytes(dst[:])
	case *kzg4844.Commitment:
		err = v.fixedBytes(dst[:])
	case *kzg4844.Proof:
		err = v.fixedBytes(dst[:])
	}
	return array, err
}

// matchCommitments checks that each versioned hash, which is what gets signed,
// is 0x01 ‖ SHA-256(commitment)[1:].
func matchCommitments(commitments []kzg4844.Commitment, hashes []common.Hash) error {
	hasher := sha256.New()
	for i := range commitments {
		if kzg4844.CalcBlobHashV1(hasher, &commitments[i]) != hashes[i] {
			return at("blobVersionedHashes", atIndex(i, problem("is not the versioned hash of the commitment at the same place")))
		}
	}
	return nil
}

// versionAndProofs reads the proofs, whose number tells the sidecar's version,
// and compares it with the blobVersion that go-ethereum's clients send.
func versionAndProofs(f fields, blobs int) (version byte, proofs []kzg4844.Proof, err error) {
	wanted := blobs
	if len(f["proofs"].items) != blobs {
		version, wanted = types.BlobSidecarVersion1, blobs*kzg4844.CellProofsPerBlob
	}
	if proofs, err = read(f, "proofs", ofSize[kzg4844.Proof](wanted)); err != nil {
		return 0, nil, err
	}
	if !f.has("blobVersion") {
		return version, proofs, nil
	}
	named, err := read(f, "blobVersion", blobVersion)
	if err != nil {
		return 0, nil, err
	}
	if named != version {
		return 0, nil, at("blobVersion", problem("contradicts the number of proofs, which is that of version %d", version))
	}
	return version, proofs, nil
}

// blobVersion reads a sidecar version. go-ethereum sends it as a JSON number.
func blobVersion(v value) (byte, error) {
	switch {
	case (v.kind == number && v.text == "0") || (v.kind == text && v.text == "0x0"):
		return types.BlobSidecarVersion0, nil
	case (v.kind == number && v.text == "1") || (v.kind == text && v.text == "0x1"):
		return types.BlobSidecarVersion1, nil
	default:
		return 0, problem("must be 0 or 1")
	}
}

// verifyProofs checks that the blobs are those of the commitments.
func verifyProofs(sidecar *types.BlobTxSidecar) error {
	if sidecar.Version == types.BlobSidecarVersion1 {
		if kzg4844.VerifyCellProofs(sidecar.Blobs, sidecar.Commitments, sidecar.Proofs) != nil {
			return at("proofs", problem("do not prove that the commitments are those of the blobs"))
		}
		return nil
	}
	for i := range sidecar.Blobs {
		if kzg4844.VerifyBlobProof(&sidecar.Blobs[i], sidecar.Commitments[i], sidecar.Proofs[i]) != nil {
			return at("proofs", atIndex(i, problem("does not prove that the commitment is that of the blob")))
		}
	}
	return nil
}
