package eth_test

import (
	"encoding/json"
	"errors"
	"math/big"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/ethereum/go-ethereum/accounts"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/sigild/sigild/daemon/eth"
)

func parse(t testing.TB, raw []byte) *eth.Transaction {
	t.Helper()
	tx, err := eth.ParseTransaction(raw)
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

// sign signs digest with the key of the standard's example account.
func sign(t testing.TB, digest [32]byte) (r, s [32]byte, recid byte) {
	t.Helper()
	return vector{PrivateKey: crypto.Keccak256([]byte("cow"))}.signature(t, digest)
}

var cow = common.HexToAddress(checksummed)

func TestTransactionFacts(t *testing.T) {
	facts := parse(t, edited(t, dynamicBase, edit{
		"chainId": "0x89", "value": "0x64", "data": "0xa9059cbb01", "nonce": "0x5", "from": checksummed,
	})).Facts()
	want := eth.Facts{
		Operation: eth.OperationTransaction, Chain: "eip155:137",
		Recipient: "0x3535353535353535353535353535353535353535", Value: big.NewInt(100), MaxCost: big.NewInt(100 + 2*21000),
		Selector: []byte{0xa9, 0x05, 0x9c, 0xbb}, DataLength: 5,
	}
	if !reflect.DeepEqual(facts, want) {
		t.Errorf("facts %+v, want %+v", facts, want)
	}
}

// A transaction of type 4 gives accounts code before it runs, others do not.
func TestDelegationFacts(t *testing.T) {
	by := []any{map[string]any{"chainId": "0x1", "address": checksummed, "nonce": "0x0", "yParity": "0x0", "r": "0x1", "s": "0x1"}}
	if !parse(t, edited(t, dynamicBase, edit{"authorizationList": by})).Facts().Delegates {
		t.Error("type 4 does not delegate")
	}
	for name, base := range map[string]string{"legacy": legacyBase, "dynamic": dynamicBase, "blob": blobBase} {
		if parse(t, edited(t, base, nil)).Facts().Delegates {
			t.Errorf("%s delegates", name)
		}
	}
}

func TestContractCreationFacts(t *testing.T) {
	for _, changes := range []edit{
		{"to": nil, "data": "0x6001600055"},
		{"to": json.RawMessage("null"), "data": nil, "input": "0x6001600055"},
	} {
		facts := parse(t, edited(t, legacyBase, changes)).Facts()
		if !facts.ContractCreation || facts.Recipient != "" || facts.Selector != nil || facts.DataLength != 5 {
			t.Errorf("facts %+v", facts)
		}
	}
}

func TestBlobFacts(t *testing.T) {
	facts := parse(t, edited(t, blobBase, nil)).Facts()
	if facts.MaxCost.Int64() != 2*21000+131072 {
		t.Errorf("facts %+v", facts)
	}
}

// Authorizations that a transaction carries are signed by somebody, or it is not
// signed; whoever may not sign it cannot have that looked into.
func TestCarriedAuthorizationsAreSigned(t *testing.T) {
	v := readVectors(t, "eip7702.json").Vectors[0]
	if err := parse(t, v.Transaction).CheckAuthorizations(); err != nil {
		t.Errorf("three good ones: %v", err)
	}
	for _, bad := range [][2]string{{"r", "0x0"}, {"r", "0x5"}, {"s", "0x" + strings.Repeat("f", 64)}} { // 5 is the x of no point
		var fields struct{ AuthorizationList []map[string]string }
		if err := json.Unmarshal(v.Transaction, &fields); err != nil {
			t.Fatal(err)
		}
		fields.AuthorizationList[1][bad[0]] = bad[1]
		tx := parse(t, edited(t, string(v.Transaction), edit{"authorizationList": fields.AuthorizationList}))
		wantField(t, tx.CheckAuthorizations(), "transaction.authorizationList[1]")
	}
}

func TestAuthorizationFacts(t *testing.T) {
	authorizations := readVectors(t, "eip7702.json").Authorizations
	for i, want := range []eth.Facts{
		{AllChains: true, Recipient: "0x63c0c19a282a1b52b07dd5a65b58948a07dae32b"},
		{Chain: "eip155:1", Recipient: "0x" + strings.Repeat("00", 20)},
	} {
		authorization, err := eth.ParseAuthorization(authorizations[i].Authorization)
		if err != nil {
			t.Fatal(err)
		}
		got := authorization.Facts()
		want.Operation = eth.OperationAuthorization
		if !reflect.DeepEqual(got, want) {
			t.Errorf("facts %+v, want %+v", got, want)
		}
	}
}

func TestUserOperationFacts(t *testing.T) {
	v := readVectors(t, "erc4337.json").Vectors[1]
	operation, err := eth.ParseUserOperation(v.Request)
	if err != nil {
		t.Fatal(err)
	}
	facts := operation.Facts()
	maxCost := big.NewInt((150000 + 60000 + 50000 + 30000 + 20000) * 25e9)
	if facts.Operation != eth.OperationUserOperation || facts.Chain != "eip155:8453" || facts.Value != nil ||
		facts.MaxCost.Cmp(maxCost) != 0 || facts.Recipient != "0x4337084d9e255ff0702461cf8895ce9e3b5ff108" ||
		common.Bytes2Hex(facts.Selector) != "b61d27f6" || facts.DataLength != 100 {
		t.Errorf("facts %+v", facts)
	}
}

// TestFactsAreCopies keeps one caller from changing what another one decides on.
func TestFactsAreCopies(t *testing.T) {
	tx := parse(t, edited(t, dynamicBase, edit{"data": "0x01020304", "from": checksummed}))
	facts := tx.Facts()
	facts.Value.SetInt64(1)
	facts.MaxCost.SetInt64(0)
	facts.Selector[0] = 9
	*tx.From() = common.Address{}
	again := tx.Facts()
	if again.Value.Sign() != 0 || again.MaxCost.Sign() == 0 || again.Selector[0] != 1 || *tx.From() != cow {
		t.Errorf("facts changed: %+v", again)
	}
}

// TestSameTransaction holds that other ways to write a transaction do not
// change what is signed.
func TestSameTransaction(t *testing.T) {
	want := parse(t, []byte(dynamicBase)).SigningDigest()
	null := json.RawMessage("null")
	for _, changes := range []edit{
		{"type": "0x2"}, {"gasLimit": "0x5208"}, {"gas": nil, "gasLimit": "0x5208"}, {"value": "0x0"},
		{"data": "0x"}, {"input": "0x"}, {"data": "0x", "input": "0x"}, {"accessList": []any{}}, {"from": checksummed},
		{"gasPrice": null, "accessList": null, "value": null, "data": null, "input": null, "from": null, "type": null, "blobs": null},
	} {
		if got := parse(t, edited(t, dynamicBase, changes)).SigningDigest(); got != want {
			t.Errorf("%v: digest %x, want %x", changes, got, want)
		}
	}
}

func TestWithSignatureRefusals(t *testing.T) {
	tx := parse(t, edited(t, dynamicBase, edit{"from": checksummed}))
	r, s, recid := sign(t, tx.SigningDigest())
	order := crypto.S256().Params().N
	var highS, zero, tooLarge [32]byte
	new(big.Int).Sub(order, new(big.Int).SetBytes(s[:])).FillBytes(highS[:])
	order.FillBytes(tooLarge[:])
	other := common.HexToAddress("0x01")
	for _, c := range []struct {
		name   string
		r, s   [32]byte
		recid  byte
		signer common.Address
		want   error
	}{
		{"high S", r, highS, recid ^ 1, cow, eth.ErrInvalidSignature},
		{"r is 0", zero, s, recid, cow, eth.ErrInvalidSignature},
		{"s is 0", r, zero, recid, cow, eth.ErrInvalidSignature},
		{"r is n", tooLarge, s, recid, cow, eth.ErrInvalidSignature},
		{"recovery id 2", r, s, recid + 2, cow, eth.ErrInvalidSignature},
		{"recovery id 27", r, s, 27 + recid, cow, eth.ErrInvalidSignature},
		{"other recovery id", r, s, recid ^ 1, cow, eth.ErrWrongSigner},
		{"r and s swapped", s, r, recid, cow, nil},
		{"another sender", r, s, recid, other, eth.ErrWrongSigner},
	} {
		signed, err := tx.WithSignature(c.r, c.s, c.recid, c.signer)
		if signed != nil || err == nil || (c.want != nil && !errors.Is(err, c.want)) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if err := eth.CheckSignature(tx.SigningDigest(), c.r, c.s, c.recid, c.signer); err == nil {
			t.Errorf("%s: CheckSignature takes it", c.name)
		}
	}
	if _, err := tx.WithSignature(r, s, recid, cow); err != nil {
		t.Error(err)
	}
	if _, err := eth.SignatureBytes(r, highS, recid); !errors.Is(err, eth.ErrInvalidSignature) {
		t.Errorf("SignatureBytes takes a high S: %v", err)
	}
}

func TestAuthorizationWithWrongSignature(t *testing.T) {
	authorization, err := eth.ParseAuthorization(readVectors(t, "eip7702.json").Authorizations[0].Authorization)
	if err != nil {
		t.Fatal(err)
	}
	r, s, recid := sign(t, [32]byte{1})
	if signed, err := authorization.WithSignature(r, s, recid, cow); err == nil || signed != nil {
		t.Error("a signature over something else is taken")
	}
}

// TestAddresses holds the examples of EIP-55.
func TestAddresses(t *testing.T) {
	for _, want := range []string{
		"0x52908400098527886E0F7030069857D2E4169EE7", "0xde709f2102306220921060314715629080e2fb77",
		"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
		"0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB", "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
	} {
		if got := eth.Checksum(common.HexToAddress(want)); got != want {
			t.Errorf("checksum %s, want %s", got, want)
		}
	}
	key, err := crypto.ToECDSA(crypto.Keccak256([]byte("cow")))
	if err != nil {
		t.Fatal(err)
	}
	if got := eth.Address([65]byte(crypto.FromECDSAPub(&key.PublicKey))); got != cow {
		t.Errorf("address %s, want %s", got, cow)
	}
}

func TestMessageDigestAgreesWithGoEthereum(t *testing.T) {
	for length := range 300 {
		message := make([]byte, length)
		if eth.MessageDigest(message) != [32]byte(accounts.TextHash(message)) {
			t.Fatalf("%d bytes", length)
		}
	}
}

// TestConcurrentUse lets the race detector look at one transaction in use by
// several goroutines.
func TestConcurrentUse(t *testing.T) {
	tx := parse(t, []byte(dynamicBase))
	r, s, recid := sign(t, tx.SigningDigest())
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if _, err := tx.WithSignature(r, s, recid, cow); err != nil {
				t.Error(err)
			}
			tx.Facts().Value.SetInt64(1)
		})
	}
	group.Wait()
}
