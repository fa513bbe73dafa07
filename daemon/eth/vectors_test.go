package eth_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/sigild/sigild/daemon/eth"
)

const vectorFolder = "../../testdata/vectors/eth"

// vector is one case of any of the vector files.
type vector struct {
	Comment       string
	Transaction   json.RawMessage
	TypedData     json.RawMessage
	Authorization json.RawMessage
	Request       json.RawMessage
	Message       hexutil.Bytes
	Repeat        int
	PrivateKey    hexutil.Bytes
	From          common.Address
	Digest        common.Hash
	Raw           hexutil.Bytes
	Hash          *common.Hash
	Signature     hexutil.Bytes
	Signed        json.RawMessage
	ZeroBlobs     int
	RawKeccak     *common.Hash
	// DomainSeparator is there for other implementations that read the file.
	DomainSeparator *common.Hash
}

type vectorFile struct {
	Source         string
	Vectors        []vector
	Messages       []vector
	Authorizations []vector
}

func readVectors(t testing.TB, name string) vectorFile {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(vectorFolder, name))
	if err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.DisallowUnknownFields()
	var file vectorFile
	if err := decoder.Decode(&file); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if file.Source == "" {
		t.Fatalf("%s does not name its source", name)
	}
	if len(file.Vectors)+len(file.Messages)+len(file.Authorizations) == 0 {
		t.Fatalf("%s holds no vectors", name)
	}
	return file
}

// signature returns the case's signature, made with its key where it has one.
func (v vector) signature(t testing.TB, digest [32]byte) (r, s [32]byte, recid byte) {
	t.Helper()
	signature := []byte(v.Signature)
	if len(v.PrivateKey) > 0 {
		key, err := crypto.ToECDSA(v.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		if signature, err = crypto.Sign(digest[:], key); err != nil {
			t.Fatal(err)
		}
	}
	return [32]byte(signature[:32]), [32]byte(signature[32:64]), signature[64]
}

func (v vector) signer(t testing.TB, digest [32]byte) common.Address {
	t.Helper()
	if v.From != (common.Address{}) {
		return v.From
	}
	pub, err := crypto.SigToPub(digest[:], v.Signature)
	if err != nil {
		t.Fatal(err)
	}
	return crypto.PubkeyToAddress(*pub)
}

func TestTransactionVectors(t *testing.T) {
	for _, name := range []string{
		"eip155.json", "eip2930.json", "eip1559.json", "eip4844.json", "eip7702.json", "go-ethereum.json",
	} {
		for _, v := range readVectors(t, name).Vectors {
			t.Run(name+"/"+v.Comment, func(t *testing.T) { checkTransaction(t, v) })
		}
	}
}

func checkTransaction(t *testing.T, v vector) {
	tx, err := eth.ParseTransaction(v.Transaction)
	if err != nil {
		t.Fatal(err)
	}
	digest := tx.SigningDigest()
	if common.Hash(digest) != v.Digest {
		t.Fatalf("digest %x, want %x", digest, v.Digest)
	}
	r, s, recid := v.signature(t, digest)
	signed, err := tx.WithSignature(r, s, recid, v.signer(t, digest))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(signed.Raw, v.Raw) {
		t.Fatalf("raw %x, want %x", signed.Raw, v.Raw)
	}
	if v.Hash != nil && signed.Hash != *v.Hash {
		t.Errorf("hash %x, want %x", signed.Hash, v.Hash)
	}
	checkSender(t, signed, digest, v.signer(t, digest))
	if v.ZeroBlobs > 0 {
		checkZeroBlobs(t, v)
	}
}

// checkSender decodes the raw transaction anew and recovers its sender.
func checkSender(t testing.TB, signed *eth.Signed, digest [32]byte, sender common.Address) {
	t.Helper()
	var decoded types.Transaction
	if err := decoded.UnmarshalBinary(signed.Raw); err != nil {
		t.Fatalf("the raw transaction does not decode: %v", err)
	}
	signer := types.LatestSignerForChainID(decoded.ChainId())
	if signer.Hash(&decoded) != common.Hash(digest) {
		t.Errorf("go-ethereum hashes the raw transaction to %x, not to %x", signer.Hash(&decoded), digest)
	}
	recovered, err := types.Sender(signer, &decoded)
	if err != nil || recovered != sender || signed.From != sender {
		t.Errorf("recovered %s and said %s, want %s (%v)", recovered, signed.From, sender, err)
	}
	if decoded.Hash() != signed.Hash {
		t.Errorf("hash %x, want %x", signed.Hash, decoded.Hash())
	}
	var shown types.Transaction
	if err := shown.UnmarshalJSON(signed.Transaction); err != nil || shown.Hash() != signed.Hash {
		t.Errorf("the shown transaction is another one: %v", err)
	}
}

// checkZeroBlobs signs the case again with a sidecar of blobs of zeros.
func checkZeroBlobs(t *testing.T, v vector) {
	blob, infinity := `"0x`+strings.Repeat("00", 131072)+`"`, `"0xc0`+strings.Repeat("00", 47)+`"`
	sidecar := `,"blobs":[` + blob + `],"commitments":[` + infinity + `],"proofs":[` + infinity + `]}`
	v.Transaction = append(bytes.TrimSuffix(bytes.TrimSpace(v.Transaction), []byte("}")), sidecar...)
	tx, err := eth.ParseTransaction(v.Transaction)
	if err != nil {
		t.Fatal(err)
	}
	if common.Hash(tx.SigningDigest()) != v.Digest {
		t.Error("the sidecar changes the digest")
	}
	r, s, recid := v.signature(t, v.Digest)
	signed, err := tx.WithSignature(r, s, recid, v.From)
	if err != nil {
		t.Fatal(err)
	}
	if got := crypto.Keccak256Hash(signed.Raw); got != *v.RawKeccak {
		t.Errorf("the network form hashes to %x, want %x", got, v.RawKeccak)
	}
	if signed.Hash != *v.Hash {
		t.Error("the sidecar changes the hash")
	}
}

func TestMessageVectors(t *testing.T) {
	for _, v := range readVectors(t, "eip191.json").Messages {
		t.Run(v.Comment, func(t *testing.T) {
			message := bytes.Repeat(v.Message, max(v.Repeat, 1))
			digest := eth.MessageDigest(message)
			if common.Hash(digest) != v.Digest {
				t.Fatalf("digest %x, want %x", digest, v.Digest)
			}
			checkSignatureBytes(t, v, digest)
			if facts := eth.MessageFacts(message); facts.DataLength != len(message) || !facts.AllChains {
				t.Errorf("facts %+v", facts)
			}
		})
	}
}

// checkSignatureBytes compares the signature of a case that has a key and one.
func checkSignatureBytes(t *testing.T, v vector, digest [32]byte) {
	t.Helper()
	if len(v.PrivateKey) == 0 {
		return
	}
	r, s, recid := v.signature(t, digest)
	if err := eth.CheckSignature(digest, r, s, recid, v.From); err != nil {
		t.Error(err)
	}
	signature, err := eth.SignatureBytes(r, s, recid)
	if err != nil || !bytes.Equal(signature, v.Signature) {
		t.Errorf("signature %x, want %x (%v)", signature, v.Signature, err)
	}
}

func TestTypedDataVectors(t *testing.T) {
	for _, name := range []string{"eip712.json", "eip712-shapes.json"} {
		for _, v := range readVectors(t, name).Vectors {
			t.Run(name+"/"+v.Comment, func(t *testing.T) {
				digest, _, err := eth.TypedDataDigest(v.TypedData)
				if err != nil {
					t.Fatal(err)
				}
				if common.Hash(digest) != v.Digest {
					t.Fatalf("digest %x, want %x", digest, v.Digest)
				}
				checkSignatureBytes(t, v, digest)
			})
		}
	}
}

func TestAuthorizationVectors(t *testing.T) {
	for _, v := range readVectors(t, "eip7702.json").Authorizations {
		authorization, err := eth.ParseAuthorization(v.Authorization)
		if err != nil {
			t.Fatal(err)
		}
		digest := authorization.SigningDigest()
		if common.Hash(digest) != v.Digest {
			t.Fatalf("digest %x, want %x", digest, v.Digest)
		}
		r, s, recid := v.signature(t, digest)
		signed, err := authorization.WithSignature(r, s, recid, v.From)
		if err != nil {
			t.Fatal(err)
		}
		var got, want types.SetCodeAuthorization
		if json.Unmarshal(signed, &got) != nil || json.Unmarshal(v.Signed, &want) != nil || got != want {
			t.Errorf("signed %s, want %s", signed, v.Signed)
		}
	}
}

func TestUserOperationVectors(t *testing.T) {
	for _, v := range readVectors(t, "erc4337.json").Vectors {
		t.Run(v.Comment, func(t *testing.T) {
			operation, err := eth.ParseUserOperation(v.Request)
			if err != nil {
				t.Fatal(err)
			}
			digest := operation.SigningDigest()
			if common.Hash(digest) != v.Digest {
				t.Fatalf("digest %x, want %x", digest, v.Digest)
			}
			checkSignatureBytes(t, v, digest)
		})
	}
}

// TestVectorFiles keeps a vector file from being read by no test.
func TestVectorFiles(t *testing.T) {
	found, err := filepath.Glob(filepath.Join(vectorFolder, "*.json"))
	if err != nil || len(found) != 10 {
		t.Fatalf("found %d vector files (%v): name a new one in the tests, and count it here", len(found), err)
	}
}
