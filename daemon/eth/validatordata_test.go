package eth_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/sigild/sigild/daemon/eth"
)

func TestValidatorData(t *testing.T) {
	validator := common.HexToAddress("0x9858EfFD232B4033E47d90003D41EC34EcaEda94")
	for _, message := range []string{"0x", "0x68656c6c6f"} {
		digest, facts, err := eth.ValidatorDataDigest(json.RawMessage(` {"address":"` + validator.Hex() + `","message":"` + message + `"}`))
		if err != nil {
			t.Fatal(err)
		}
		signed := append(append([]byte("\x19\x00"), validator[:]...), hexutil.MustDecode(message)...)
		if digest != crypto.Keccak256Hash(signed) {
			t.Errorf("%s: digest %x", message, digest)
		}
		if facts.Operation != eth.OperationValidatorData || facts.Recipient != "0x9858effd232b4033e47d90003d41ec34ecaeda94" ||
			!facts.AllChains || facts.Chain != "" || facts.DataLength != len(signed)-22 {
			t.Errorf("facts %+v", facts)
		}
	}
}

func TestValidatorDataRefusals(t *testing.T) {
	const address = `"address":"0x9858effd232b4033e47d90003d41ec34ecaeda94"`
	for raw, field := range map[string]string{
		`{` + address + `}`:                                                       "data.message",
		`{"message":"0x"}`:                                                        "data.address",
		`{` + address + `,"message":"hello"}`:                                     "data.message",
		`{` + address + `,"message":null}`:                                        "data.message",
		`{` + address + `,"message":"0x","message":"0x00"}`:                       "data.message",
		`{` + address + `,"message":"0x","version":"0x00"}`:                       "data.version",
		`{"address":"0x9858","message":"0x"}`:                                     "data.address",
		`{"Address":"0x9858effd232b4033e47d90003d41ec34ecaeda94","message":"0x"}`: "data.Address",
		`{"address":"0x9858EffD232B4033E47d90003D41EC34EcaEda94","message":"0x"}`: "data.address",
		`"0x00"`: "data", `[]`: "data", `null`: "data", ``: "data", `{`: "data",
	} {
		_, _, err := eth.ValidatorDataDigest(json.RawMessage(raw))
		t.Log(raw)
		wantField(t, err, field)
	}
}

// FuzzValidatorData: what is taken is of the given address, and only that.
func FuzzValidatorData(f *testing.F) {
	f.Add([]byte(`{"address":"0x9858effd232b4033e47d90003d41ec34ecaeda94","message":"0x00"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		digest, facts, err := eth.ValidatorDataDigest(raw)
		if err != nil {
			fieldErrors(t, err)
			return
		}
		var given struct {
			Address common.Address
			Message hexutil.Bytes
		}
		if err := json.Unmarshal(raw, &given); err != nil {
			t.Fatalf("encoding/json: %v", err)
		}
		signed := bytes.Join([][]byte{{0x19, 0}, given.Address[:], given.Message}, nil)
		if digest != crypto.Keccak256Hash(signed) || common.HexToAddress(facts.Recipient) != given.Address {
			t.Errorf("%s: %x for %s", raw, digest, facts.Recipient)
		}
	})
}
