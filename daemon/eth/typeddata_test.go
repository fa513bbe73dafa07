package eth_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/signer/core/apitypes"

	"github.com/sigild/sigild/daemon/eth"
)

// mail returns the standard's example, from which the cases are made.
func mail(t testing.TB) string {
	t.Helper()
	return string(readVectors(t, "eip712.json").Vectors[0].TypedData)
}

// typed returns typed data whose message has one field v of the given type.
func typed(fieldType, content string) string {
	return `{"types":{"EIP712Domain":[{"name":"name","type":"string"}],"S":[{"name":"v","type":"` + fieldType +
		`"}],"Inner":[{"name":"x","type":"uint8"}]},"primaryType":"S","domain":{"name":"n"},"message":{"v":` + content + `}}`
}

func TestTypedDataFacts(t *testing.T) {
	_, facts, err := eth.TypedDataDigest(json.RawMessage(mail(t)))
	if err != nil {
		t.Fatal(err)
	}
	if facts.Operation != eth.OperationTypedData || facts.Chain != "eip155:1" || facts.AllChains ||
		facts.Recipient != "0xcccccccccccccccccccccccccccccccccccccccc" {
		t.Errorf("facts %+v", facts)
	}
	if facts.Value != nil || facts.MaxCost != nil {
		t.Error("typed data has a value")
	}
}

func TestTypedDataWithoutChain(t *testing.T) {
	_, facts, err := eth.TypedDataDigest(json.RawMessage(typed("bool", "true")))
	if err != nil {
		t.Fatal(err)
	}
	if !facts.AllChains || facts.Chain != "" || facts.Recipient != "" {
		t.Errorf("facts %+v", facts)
	}
}

// TestTypedDataUserOperation shows that a user operation is one in any guise.
func TestTypedDataUserOperation(t *testing.T) {
	fields := []string{
		"address sender", "uint256 nonce", "bytes initCode", "bytes callData",
		"bytes32 accountGasLimits", "uint256 preVerificationGas", "bytes32 gasFees", "bytes paymasterAndData",
	}
	var declared []map[string]string
	for _, field := range fields {
		typ, name, _ := strings.Cut(field, " ")
		declared = append(declared, map[string]string{"name": name, "type": typ})
	}
	v := readVectors(t, "erc4337.json").Vectors[0]
	var request struct {
		UserOperation json.RawMessage
		EntryPoint    string
	}
	if err := json.Unmarshal(v.Request, &request); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(map[string]any{
		"types": map[string]any{"PackedUserOperation": declared, "EIP712Domain": []map[string]string{
			{"name": "name", "type": "string"}, {"name": "version", "type": "string"},
			{"name": "chainId", "type": "uint256"}, {"name": "verifyingContract", "type": "address"},
		}},
		"primaryType": "PackedUserOperation",
		"domain":      map[string]any{"name": "ERC4337", "version": "1", "chainId": 1, "verifyingContract": request.EntryPoint},
		"message":     request.UserOperation,
	})
	if err != nil {
		t.Fatal(err)
	}
	digest, facts, err := eth.TypedDataDigest(raw)
	if err != nil {
		t.Fatal(err)
	}
	if digest != [32]byte(v.Digest) || facts.Operation != eth.OperationUserOperation {
		t.Errorf("digest %x as %s", digest, facts.Operation)
	}
}

func TestTypedDataValues(t *testing.T) {
	twos := strings.Repeat("2", 79)
	for _, c := range []struct {
		typ, content string
		field        string // of the error; empty if the value is good
	}{
		{"uint8", "255", ""}, {"uint8", "256", "v"}, {"uint8", "-1", "v"}, {"uint8", `"0xff"`, ""}, {"uint8", `"0x00ff"`, ""},
		{"uint8", "1.0", "v"}, {"uint8", "1e2", "v"}, {"uint8", "-0", "v"}, {"uint8", `"01"`, "v"}, {"uint8", `""`, "v"},
		{"uint8", `"0x"`, "v"}, {"uint8", `" 1"`, "v"}, {"uint8", `"+1"`, "v"}, {"uint8", `"0x-1"`, "v"}, {"uint8", `"-0x1"`, "v"},
		{"uint8", "true", "v"}, {"uint8", "null", "v"}, {"uint8", "[]", "v"}, {"uint8", `"1_0"`, "v"},
		{"int8", "127", ""}, {"int8", "128", "v"}, {"int8", "-128", ""}, {"int8", "-129", "v"}, {"int8", `"-128"`, ""}, {"int8", `"0x80"`, "v"},
		{"uint256", "9007199254740991", ""}, {"uint256", "9007199254740992", "v"}, {"uint256", `"9007199254740993"`, ""},
		{"uint256", `"` + twos + `"`, "v"}, {"int256", `"0x8` + strings.Repeat("0", 63) + `"`, "v"},
		{"bytes4", `"0x01020304"`, ""}, {"bytes4", `"0x010203"`, "v"}, {"bytes4", `"0x0102030405"`, "v"}, {"bytes", `"0x0"`, "v"}, {"bytes", `"text"`, "v"},
		{"bool", "false", ""}, {"bool", "0", "v"}, {"bool", `"true"`, "v"}, {"string", `"\ud83e\udd8a"`, ""}, {"string", "1", "v"},
		{"address", `"` + checksummed + `"`, ""}, {"address", `"` + strings.ToLower(checksummed) + `"`, ""},
		{"address", `"0x` + strings.ToUpper(checksummed[2:]) + `"`, ""}, {"address", `"0xcD` + checksummed[4:] + `"`, "v"},
		{"address", `"0x0"`, "v"}, {"address", `""`, "v"},
		{"uint8[]", "[1,2]", ""}, {"uint8[]", "{}", "v"}, {"uint8[]", "[256]", "v[0]"}, {"uint8[2]", "[1]", "v"}, {"uint8[2]", "[1,2]", ""},
		{"uint8[][2]", "[[],[1]]", ""}, {"uint8[][2]", "[[]]", "v"}, {"uint8[2][]", "[[1,2],[3]]", "v[1]"}, {"uint8[]", "[null]", "v[0]"},
		{"Inner", `{"x":1}`, ""}, {"Inner", `{}`, "v.x"}, {"Inner", `{"x":1,"y":2}`, "v.y"}, {"Inner", `{"y":2}`, "v.y"}, {"Inner", "null", "v"},
		{"Inner[]", `[{"x":1},{"x":256}]`, "v[1].x"}, {"S[]", "[]", ""}, {"S", `{"v":{"v":{}}}`, "v.v.v.v"},
	} {
		t.Run(c.typ+" "+c.content, func(t *testing.T) {
			_, _, err := eth.TypedDataDigest(json.RawMessage(typed(c.typ, c.content)))
			if c.field != "" {
				wantField(t, err, "typedData.message."+c.field)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTypedDataTypeNames(t *testing.T) {
	for _, typ := range []string{
		"uint", "int", "uint7", "uint0", "uint08", "uint264", "int512", "bytes0", "bytes33", "bytes032", "byte", "function", "fixed",
		"Unknown", "uint8[", "uint8]", "uint8[]]", "uint8[[]]", "uint8[0]", "uint8[01]", "uint8[-1]", "uint8[1e3]", "uint8[99999999999]",
		"uint8[" + strings.Repeat("][", 8) + "]", "uint8 []", "", "[]", " uint8", "ünt8", "Inner,uint8", "Inner(uint8 x)", strings.Repeat("A", 129),
	} {
		_, _, err := eth.TypedDataDigest(json.RawMessage(typed(typ, "[]")))
		wantField(t, err, "typedData.types.S[0].type")
	}
}

func TestTypedDataStructure(t *testing.T) {
	for _, c := range []struct{ old, new, field string }{
		{`"primaryType": "Mail"`, `"primaryType": "Male"`, "typedData.primaryType"},
		{`"primaryType": "Mail"`, `"primaryType": "EIP712Domain"`, "typedData.primaryType"},
		{`"primaryType": "Mail"`, `"primaryType": "Mail[]"`, "typedData.primaryType"},
		{`"primaryType": "Mail"`, `"primaryType": 1`, "typedData.primaryType"},
		{`"primaryType": "Mail",`, ``, "typedData.primaryType"},
		{`"primaryType": "Mail",`, `"primaryType": "Mail", "more": 1,`, "typedData.more"},
		{`"EIP712Domain": [`, `"EIP713Domain": [`, "typedData.types.EIP712Domain"},
		{`"Person": [`, `"address": [`, "typedData.types.address"},
		{`"Person": [`, `"uint7": [`, "typedData.types.uint7"},
		{`"Person": [`, `"Per son": [`, "typedData.types.Per son"},
		{`"name": "contents", "type"`, `"name": "to", "type"`, "typedData.types.Mail[2].name"},
		{`"name": "contents", "type"`, `"name": "a b", "type"`, "typedData.types.Mail[2].name"},
		{`"name": "contents", "type"`, `"name": "", "type"`, "typedData.types.Mail[2].name"},
		{`{ "name": "contents", "type": "string" }`, `{ "name": "contents" }`, "typedData.types.Mail[2].type"},
		{`{ "name": "contents", "type": "string" }`, `{ "name": "contents", "type": "string", "indexed": true }`, "typedData.types.Mail[2].indexed"},
		{`{ "name": "chainId", "type": "uint256" }`, `{ "name": "chainId", "type": "uint64" }`, "typedData.types.EIP712Domain[2]"},
		{`{ "name": "version", "type": "string" }`, `{ "name": "salt", "type": "bytes32" }`, "typedData.types.EIP712Domain[2]"},
		{`{ "name": "version", "type": "string" },`, ``, "typedData.domain.version"},
		{`"version": "1"`, `"version": 1`, "typedData.domain.version"},
		{`"version": "1"`, `"salt": "0x"`, "typedData.domain.salt"},
		{`"chainId": 1`, `"chainId": "9223372036854775772"`, "typedData.domain.chainId"},
		{`"verifyingContract": "0xCcCC`, `"verifyingContract": "0xcCCC`, "typedData.domain.verifyingContract"},
		{`"name": "Cow"`, `"Name": "Cow"`, "typedData.message.from.Name"},
	} {
		raw := strings.Replace(mail(t), c.old, c.new, 1)
		if raw == mail(t) {
			t.Fatalf("the example has no %s", c.old)
		}
		_, _, err := eth.TypedDataDigest(json.RawMessage(raw))
		wantField(t, err, c.field)
	}
}

// TestTypedDataLimits bounds the work that a small text can ask for.
func TestTypedDataLimits(t *testing.T) {
	field := func(i int, typ string) string { return fmt.Sprintf(`{"name":"f%d","type":"%s"}`, i, typ) }
	var manyFields, manyStructs []string
	for i := range 513 {
		manyFields = append(manyFields, field(i, "bool"))
	}
	for i := range 129 {
		manyStructs = append(manyStructs, fmt.Sprintf(`"T%d":[]`, i))
	}
	wrap := func(types string) string {
		return `{"types":{"EIP712Domain":[{"name":"name","type":"string"}],` + types + `},"primaryType":"S","domain":{"name":""},"message":{}}`
	}
	for _, c := range []struct{ types, field string }{
		{`"S":[` + strings.Join(manyFields, ",") + `]`, "typedData.types.S"},
		{`"S":[` + strings.Join(manyFields[:300], ",") + `],"U":[` + strings.Join(manyFields[:300], ",") + `]`, "typedData.types"},
		{strings.Join(manyStructs, ","), "typedData.types"},
	} {
		_, _, err := eth.TypedDataDigest(json.RawMessage(wrap(c.types)))
		wantField(t, err, c.field)
	}
}

// TestTypedDataAgreesWithGoEthereum compares with a second implementation on
// all vectors: go-ethereum's own, which takes more than is taken here.
func TestTypedDataAgreesWithGoEthereum(t *testing.T) {
	for _, name := range []string{"eip712.json", "eip712-shapes.json"} {
		for _, v := range readVectors(t, name).Vectors {
			want, err := goEthereumDigest(v.TypedData)
			if err != nil {
				t.Fatalf("%s: %v", v.Comment, err)
			}
			if got, _, err := eth.TypedDataDigest(v.TypedData); err != nil || got != want {
				t.Errorf("%s: %x, go-ethereum has %x (%v)", v.Comment, got, want, err)
			}
		}
	}
}

func goEthereumDigest(raw []byte) (digest [32]byte, err error) {
	defer func() {
		if recover() != nil { // it panics on null in arrays
			err = fmt.Errorf("go-ethereum panicked")
		}
	}()
	var data apitypes.TypedData
	if err := json.Unmarshal(raw, &data); err != nil {
		return digest, err
	}
	hash, _, err := apitypes.TypedDataAndHash(data)
	copy(digest[:], hash)
	return digest, err
}
