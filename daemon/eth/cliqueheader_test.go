package eth_test

import (
	"bytes"
	"math/big"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/rlp"

	"github.com/sigild/sigild/daemon/eth"
)

// goerliOne is block 1 of Görli, which the chain's one first signer sealed.
func goerliOne() *types.Header {
	return &types.Header{
		ParentHash: common.HexToHash("0xbf7e331f7f7c1dd2e05159666b3bf8bc7a8a3a9eb1d518969eab529dd9b88c1a"), UncleHash: types.EmptyUncleHash,
		Root:   common.HexToHash("0x5d6cded585e73c4e322c30c2f782a336316f17dd85a4863b9d838d2d4b8b3008"),
		TxHash: types.EmptyTxsHash, ReceiptHash: types.EmptyReceiptsHash,
		Difficulty: big.NewInt(2), Number: big.NewInt(1), GasLimit: 10475521, Time: 1548947453,
		Extra: common.FromHex("0x506172697479205465636820417574686f7269747900000000000000000000002bbf886181970654ed46e3fae0ded41ee53fec702c47431988a7ae80e6576f3552684f069af80ba11d36327aaf846d470526e4a1c461601b2fd4ebdcdc2b734a01"),
	}
}

// The seal of a block on a real chain is by its signer over the digest.
func TestCliqueHeaderOfGoerli(t *testing.T) {
	h := goerliOne()
	if h.Hash() != common.HexToHash("0x8f5bab218b6bb34476f51ca588e9f4553a3a7ce5e13a66c660a5283e97e9a85a") {
		t.Fatalf("this is another block: %s", h.Hash())
	}
	seal := h.Extra[32:]
	h.Extra = h.Extra[:32]
	encoded := encode(t, h)
	digest, facts, err := eth.CliqueHeaderDigest(encoded)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := crypto.SigToPub(digest[:], seal)
	if err != nil || crypto.PubkeyToAddress(*pub) != common.HexToAddress("0xe0a2bd4258d2768837baa26a28fe71dc079f84c7") {
		t.Errorf("sealed by another: %v", err)
	}
	if facts.Operation != eth.OperationCliqueHeader || !facts.AllChains || facts.DataLength != len(encoded) || facts.Recipient != "" {
		t.Errorf("facts %+v", facts)
	}
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	encoded, err := rlp.EncodeToBytes(v)
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

func TestCliqueHeaderForms(t *testing.T) {
	for name, change := range map[string]func(*types.Header){
		"plain":        func(*types.Header) {},
		"base fee":     func(h *types.Header) { h.BaseFee = big.NewInt(7) },
		"base fee 0":   func(h *types.Header) { h.BaseFee = new(big.Int) },
		"checkpoint":   func(h *types.Header) { h.Extra = make([]byte, 32+3*20) },
		"vote":         func(h *types.Header) { h.Nonce = types.EncodeNonce(1<<64 - 1); h.Coinbase[0] = 1 },
		"not its turn": func(h *types.Header) { h.Difficulty = big.NewInt(1) },
	} {
		h := goerliOne()
		h.Extra = h.Extra[:32]
		change(h)
		digest, _, err := eth.CliqueHeaderDigest(encode(t, h))
		if err != nil || digest != h.Hash() {
			t.Errorf("%s: %x, %v, want %s", name, digest, err, h.Hash())
		}
	}
}

func TestCliqueHeaderRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*types.Header)
		field  string
	}{
		"sealed":       {func(h *types.Header) { h.Extra = goerliOne().Extra }, "data.extraData"},
		"no vanity":    {func(h *types.Header) { h.Extra = nil }, "data.extraData"},
		"uncles":       {func(h *types.Header) { h.UncleHash = common.Hash{1} }, "data.sha3Uncles"},
		"difficulty 0": {func(h *types.Header) { h.Difficulty = new(big.Int) }, "data.difficulty"},
		"difficulty 3": {func(h *types.Header) { h.Difficulty = big.NewInt(3) }, "data.difficulty"},
		"large":        {func(h *types.Header) { h.Difficulty = new(big.Int).Lsh(big.NewInt(1), 64) }, "data.difficulty"},
		"mixed":        {func(h *types.Header) { h.MixDigest[31] = 1 }, "data.mixHash"},
		"nonce":        {func(h *types.Header) { h.Nonce[0] = 1 }, "data.nonce"},
		"withdrawals":  {func(h *types.Header) { h.BaseFee, h.WithdrawalsHash = new(big.Int), &common.Hash{} }, "data"},
	} {
		h := goerliOne()
		h.Extra = h.Extra[:32]
		c.change(h)
		_, facts, err := eth.CliqueHeaderDigest(encode(t, h))
		t.Log(name)
		wantField(t, err, c.field)
		if facts.Operation != "" {
			t.Errorf("%s: refused with the facts %+v", name, facts)
		}
	}
	good := goerliOne()
	good.Extra = good.Extra[:32]
	encoded := encode(t, good)
	for name, raw := range map[string][]byte{
		"nothing": {}, "a string": {0x80}, "more behind": append(bytes.Clone(encoded), 0), "cut": encoded[:len(encoded)-1],
		"an empty list": {0xc0}, "an envelope": append([]byte{2}, encoded...),
	} {
		_, _, err := eth.CliqueHeaderDigest(raw)
		t.Log(name)
		wantField(t, err, "data")
	}
	// What a transaction's digest is made of is no header, whatever its data.
	chain := types.LatestSignerForChainID(big.NewInt(1337))
	for _, tx := range []types.TxData{
		&types.LegacyTx{GasPrice: big.NewInt(1), Gas: 21000, To: &cow, Value: big.NewInt(1), Data: encoded},
		&types.DynamicFeeTx{ChainID: big.NewInt(1337), GasFeeCap: big.NewInt(1), GasTipCap: big.NewInt(1), Gas: 21000, To: &cow, Value: big.NewInt(1), Data: encoded},
	} {
		inner := types.NewTx(tx)
		raw := encode(t, []any{inner.Nonce(), inner.GasPrice(), inner.Gas(), inner.To(), inner.Value(), inner.Data(), chain.ChainID(), uint(0), uint(0)})
		if inner.Type() == types.LegacyTxType && crypto.Keccak256Hash(raw) != chain.Hash(inner) {
			t.Fatal("this is not what is signed of a legacy transaction")
		}
		_, _, err := eth.CliqueHeaderDigest(raw)
		wantField(t, err, "data")
	}
}

// FuzzCliqueHeader: what is taken is a header to go-ethereum, by the same digest,
// in the same bytes.
func FuzzCliqueHeader(f *testing.F) {
	h := goerliOne()
	f.Add(encode(f, h))
	h.Extra = h.Extra[:32]
	f.Add(encode(f, h))
	h.BaseFee = new(big.Int)
	f.Add(encode(f, h))
	f.Fuzz(func(t *testing.T, encoded []byte) {
		digest, _, err := eth.CliqueHeaderDigest(encoded)
		if err != nil {
			fieldErrors(t, err)
			return
		}
		var h types.Header
		if err := rlp.DecodeBytes(encoded, &h); err != nil || h.Hash() != digest {
			t.Errorf("go-ethereum: %v, %x", err, h.Hash())
		}
	})
}
