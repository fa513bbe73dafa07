package eth_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sigild/sigild/daemon/eth"
)

// edit is a payload with some members changed: a nil value removes one.
type edit map[string]any

func edited(t testing.TB, base string, changes edit) []byte {
	t.Helper()
	var members map[string]json.RawMessage
	if err := json.Unmarshal([]byte(base), &members); err != nil {
		t.Fatal(err)
	}
	for name, change := range changes {
		if change == nil {
			delete(members, name)
			continue
		}
		text, err := json.Marshal(change)
		if err != nil {
			t.Fatal(err)
		}
		members[name] = text
	}
	raw, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// wantField fails unless err is a FieldError for the field.
func wantField(t testing.TB, err error, field string) {
	t.Helper()
	var fieldError *eth.FieldError
	if !errors.As(err, &fieldError) {
		t.Fatalf("got %v, want an error for %s", err, field)
	}
	if fieldError.Field != field {
		t.Errorf("the error is for %s (%v), want %s", fieldError.Field, err, field)
	}
	if fieldError.Problem == "" || len(err.Error()) > 1000 {
		t.Errorf("unhelpful error: %v", err)
	}
}

const (
	legacyBase = `{"chainId":"0x1","nonce":"0x9","gasPrice":"0x4a817c800","gas":"0x5208",
		"to":"0x3535353535353535353535353535353535353535","value":"0x1","data":"0x"}`
	dynamicBase = `{"chainId":"0x1","nonce":"0x0","maxFeePerGas":"0x2","maxPriorityFeePerGas":"0x1","gas":"0x5208",
		"to":"0x3535353535353535353535353535353535353535"}`
	blobBase = `{"chainId":"0x1","nonce":"0x0","maxFeePerGas":"0x2","maxPriorityFeePerGas":"0x1","gas":"0x5208",
		"to":"0x3535353535353535353535353535353535353535","maxFeePerBlobGas":"0x1",
		"blobVersionedHashes":["0x010657f37554c781402a22917dee2f75def7ab966d7b770905398eba3c444014"]}`
	checksummed = "0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826"
)

func TestTransactionRefusals(t *testing.T) {
	tuple := map[string]any{"chainId": "0x1", "address": checksummed, "nonce": "0x0", "yParity": "0x0", "r": "0x1", "s": "0x1"}
	with := func(name string, v any) []any {
		clone := map[string]any{}
		for k, v := range tuple {
			clone[k] = v
		}
		clone[name] = v
		return []any{clone}
	}
	setCode := func(list any) edit { return edit{"authorizationList": list} }
	for _, c := range []struct {
		base  string
		edit  edit
		field string
	}{
		// Unknown, missing and contradictory fields.
		{legacyBase, edit{"gasprice": "0x1"}, "transaction.gasprice"},
		{legacyBase, edit{"v": "0x25"}, "transaction.v"},
		{legacyBase, edit{"chainId": nil}, "transaction.chainId"},
		{legacyBase, edit{"nonce": nil}, "transaction.nonce"},
		{legacyBase, edit{"gas": nil}, "transaction.gas"},
		{legacyBase, edit{"nonce": nil, "gas": nil}, "transaction"},
		{legacyBase, edit{"gasPrice": nil}, "transaction"},
		{legacyBase, edit{"maxFeePerGas": "0x1"}, "transaction.gasPrice"},
		{legacyBase, edit{"type": "0x2"}, "transaction.gasPrice"},
		{legacyBase, edit{"type": "0x0", "accessList": []any{}}, "transaction.accessList"},
		{legacyBase, edit{"type": "0x5"}, "transaction.type"},
		{legacyBase, edit{"type": 2}, "transaction.gasPrice"},
		{legacyBase, edit{"type": 5}, "transaction.type"},
		{legacyBase, edit{"type": 22}, "transaction.type"},
		{legacyBase, edit{"type": -2}, "transaction.type"},
		{dynamicBase, edit{"type": "0x0"}, "transaction.maxFeePerGas"},
		{dynamicBase, edit{"maxPriorityFeePerGas": nil}, "transaction.maxPriorityFeePerGas"},
		{dynamicBase, edit{"maxFeePerGas": nil}, "transaction.maxFeePerGas"},
		{dynamicBase, edit{"maxPriorityFeePerGas": "0x3"}, "transaction.maxPriorityFeePerGas"},
		{legacyBase, edit{"gasLimit": "0x5209"}, "transaction.gasLimit"},
		{legacyBase, edit{"input": "0x00"}, "transaction.input"},
		{legacyBase, edit{"to": nil}, "transaction.to"},
		{legacyBase, edit{"to": nil, "data": nil}, "transaction.to"},
		{legacyBase, edit{"to": json.RawMessage("null")}, "transaction.to"},
		// Values.
		{legacyBase, edit{"chainId": "0x0"}, "transaction.chainId"},
		{legacyBase, edit{"chainId": "0x7fffffffffffffdc"}, "transaction.chainId"},
		{legacyBase, edit{"chainId": 1}, "transaction.chainId"},
		{legacyBase, edit{"chainId": "1"}, "transaction.chainId"},
		{legacyBase, edit{"nonce": "0x09"}, "transaction.nonce"},
		{legacyBase, edit{"nonce": "0x"}, "transaction.nonce"},
		{legacyBase, edit{"nonce": ""}, "transaction.nonce"},
		{legacyBase, edit{"nonce": "0X9"}, "transaction.nonce"},
		{legacyBase, edit{"nonce": "-0x9"}, "transaction.nonce"},
		{legacyBase, edit{"nonce": "0x-9"}, "transaction.nonce"},
		{legacyBase, edit{"nonce": "0x9 "}, "transaction.nonce"},
		{legacyBase, edit{"nonce": "0xg"}, "transaction.nonce"},
		{legacyBase, edit{"nonce": "0x1_0"}, "transaction.nonce"},
		{legacyBase, edit{"nonce": "0xffffffffffffffff"}, "transaction.nonce"},
		{legacyBase, edit{"nonce": "0x10000000000000000"}, "transaction.nonce"},
		{legacyBase, edit{"gas": "0x0"}, "transaction.gas"},
		{legacyBase, edit{"gas": nil, "gasLimit": "0x0"}, "transaction.gasLimit"},
		{legacyBase, edit{"gas": "0x10000000000000000"}, "transaction.gas"},
		{legacyBase, edit{"value": "0x1" + strings.Repeat("0", 64)}, "transaction.value"},
		{legacyBase, edit{"value": "0x" + strings.Repeat("f", 64)}, "transaction"},
		{legacyBase, edit{"value": true}, "transaction.value"},
		{legacyBase, edit{"data": "0x0"}, "transaction.data"},
		{legacyBase, edit{"data": "00"}, "transaction.data"},
		{legacyBase, edit{"data": []any{}}, "transaction.data"},
		{legacyBase, edit{"to": "0x"}, "transaction.to"},
		{legacyBase, edit{"to": ""}, "transaction.to"},
		{legacyBase, edit{"to": "0x" + strings.Repeat("35", 19)}, "transaction.to"},
		{legacyBase, edit{"to": "0x" + strings.Repeat("35", 21)}, "transaction.to"},
		{legacyBase, edit{"to": "0xcD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826"}, "transaction.to"},
		{legacyBase, edit{"from": "0xcD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826"}, "transaction.from"},
		{legacyBase, edit{"to": "vitalik.eth"}, "transaction.to"},
		// Access lists.
		{dynamicBase, edit{"accessList": edit{}}, "transaction.accessList"},
		{dynamicBase, edit{"accessList": []any{edit{"address": checksummed}}}, "transaction.accessList[0].storageKeys"},
		{dynamicBase, edit{"accessList": []any{edit{"address": checksummed, "storageKeys": []any{"0x00"}}}}, "transaction.accessList[0].storageKeys[0]"},
		{dynamicBase, edit{"accessList": []any{edit{"address": checksummed, "storageKeys": []any{}, "key": "0x"}}}, "transaction.accessList[0].key"},
		{dynamicBase, edit{"accessList": []any{nil}}, "transaction.accessList[0]"},
		{dynamicBase, edit{"accessList": []any{edit{"address": checksummed, "storageKeys": json.RawMessage("null")}}}, "transaction.accessList[0].storageKeys"},
		// Blobs.
		{blobBase, edit{"to": nil, "data": "0x00"}, "transaction.to"},
		{blobBase, edit{"blobVersionedHashes": []any{}}, "transaction.blobVersionedHashes"},
		{blobBase, edit{"blobVersionedHashes": nil}, "transaction.blobVersionedHashes"},
		{blobBase, edit{"maxFeePerBlobGas": nil}, "transaction.maxFeePerBlobGas"},
		{blobBase, edit{"blobVersionedHashes": []any{"0x02" + strings.Repeat("00", 31)}}, "transaction.blobVersionedHashes[0]"},
		{blobBase, edit{"blobVersionedHashes": []any{"0x01"}}, "transaction.blobVersionedHashes[0]"},
		{blobBase, edit{"blobs": []any{}}, "transaction"},
		{blobBase, edit{"blobVersion": 0}, "transaction"},
		{blobBase, edit{"authorizationList": []any{}}, "transaction.authorizationList"},
		{blobBase, edit{"type": "0x2"}, "transaction.blobVersionedHashes"},
		// Authorizations.
		{dynamicBase, setCode([]any{}), "transaction.authorizationList"},
		{dynamicBase, setCode("0x"), "transaction.authorizationList"},
		{dynamicBase, setCode(with("chainId", "0x2")), "transaction.authorizationList[0].chainId"},
		{dynamicBase, setCode(with("yParity", "0x2")), "transaction.authorizationList[0].yParity"},
		{dynamicBase, setCode(with("yParity", "0x1b")), "transaction.authorizationList[0].yParity"},
		{dynamicBase, setCode(with("v", "0x1b")), "transaction.authorizationList[0].v"},
		{dynamicBase, setCode(with("nonce", "0xffffffffffffffff")), "transaction.authorizationList[0].nonce"},
		{dynamicBase, edit{"to": nil, "data": "0x00", "authorizationList": with("nonce", "0x0")}, "transaction.to"},
	} {
		t.Run(fmt.Sprint(c.edit), func(t *testing.T) {
			_, err := eth.ParseTransaction(edited(t, c.base, c.edit))
			wantField(t, err, c.field)
		})
	}
}

// TestTextRefusals holds for every reader: they share one JSON parser.
func TestTextRefusals(t *testing.T) {
	deep := strings.Repeat("[", eth.MaxDepth+1) + strings.Repeat("]", eth.MaxDepth+1)
	many := "[" + strings.Repeat("0,", eth.MaxValues) + "0]"
	for _, c := range []struct{ name, raw, field string }{
		{"nothing", "", ""},
		{"not JSON", "{", ""},
		{"two values", "{} {}", ""},
		{"a string", `"0x"`, ""},
		{"null", "null", ""},
		{"an array", "[]", ""},
		{"empty object", "{}", ""},
		{"twice", `{"nonce":"0x1","nonce":"0x1"}`, ".nonce"},
		{"twice, escaped", `{"nonce":"0x1","n\u006fnce":"0x1"}`, ".nonce"},
		{"twice inside", `{"x":[{"a":1,"a":1}]}`, ".x[0].a"},
		{"invalid UTF-8", "{\"\xff\":1}", ""},
		{"half a surrogate pair", `{"a":"\ud83e"}`, ""},
		{"a pair the wrong way round", `{"a":"\udd8a\ud83e"}`, ""},
		{"high twice", `{"a":"\ud83e\ud83e"}`, ""},
		{"too deep", deep, strings.Repeat("[0]", eth.MaxDepth)},
		{"too many", many, fmt.Sprintf("[%d]", eth.MaxValues-1)},
		{"too long", `"` + strings.Repeat("a", eth.MaxInput) + `"`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			for root, err := range readers([]byte(c.raw)) {
				wantField(t, err, root+c.field)
			}
		})
	}
}

// readers returns what each reader says about raw.
func readers(raw []byte) map[string]error {
	_, transaction := eth.ParseTransaction(raw)
	_, authorization := eth.ParseAuthorization(raw)
	_, operation := eth.ParseUserOperation(raw)
	_, _, typed := eth.TypedDataDigest(raw)
	_, _, validator := eth.ValidatorDataDigest(raw)
	return map[string]error{
		"transaction": transaction, "authorization": authorization, "userOperation": operation, "typedData": typed, "data": validator,
	}
}

// TestErrorsAreBounded keeps a long name or value out of errors and logs.
func TestErrorsAreBounded(t *testing.T) {
	long := strings.Repeat("☃\x00", 10000)
	name, err := json.Marshal(long)
	if err != nil {
		t.Fatal(err)
	}
	const levels = eth.MaxDepth - 1
	twice := `{"a":1,"a":1}`
	nested := strings.Repeat(`{"`+strings.Repeat("☃", 100)+`":`, levels) + twice + strings.Repeat("}", levels)
	indexed := strings.Repeat(`[{"`+strings.Repeat("☃", 100)+`":`, levels/2) + twice + strings.Repeat("}]", levels/2)
	for _, raw := range []string{`{` + string(name) + `:1}`, nested, indexed, `{"nonce":` + string(name) + `}`} {
		for _, err := range readers([]byte(raw)) {
			if err == nil || len(err.Error()) > 1000 || strings.ContainsRune(err.Error(), 0) {
				t.Errorf("error of %d bytes: %.80q", len(err.Error()), err)
			}
		}
	}
}

func TestAuthorizationRefusals(t *testing.T) {
	base := `{"chainId":"0x1","address":"` + checksummed + `","nonce":"0x1"}`
	for _, c := range []struct {
		edit  edit
		field string
	}{
		{edit{"chainId": nil}, "authorization.chainId"},
		{edit{"nonce": nil}, "authorization.nonce"},
		{edit{"address": nil}, "authorization.address"},
		{edit{"address": json.RawMessage("null")}, "authorization.address"},
		{edit{"yParity": "0x0"}, "authorization.yParity"},
		{edit{"nonce": "0xffffffffffffffff"}, "authorization.nonce"},
		{edit{"chainId": "0x" + strings.Repeat("f", 16)}, "authorization.chainId"},
	} {
		_, err := eth.ParseAuthorization(edited(t, base, c.edit))
		wantField(t, err, c.field)
	}
}

func TestUserOperationRefusals(t *testing.T) {
	vectors := readVectors(t, "erc4337.json").Vectors
	plain, marked := string(vectors[0].Request), string(vectors[2].Request)
	var request struct{ UserOperation json.RawMessage }
	if err := json.Unmarshal(vectors[0].Request, &request); err != nil {
		t.Fatal(err)
	}
	inner := func(changes edit) edit {
		return edit{"userOperation": json.RawMessage(edited(t, string(request.UserOperation), changes))}
	}
	big := "0x01" + strings.Repeat("00", 15)
	zero := strings.Repeat("00", 16)
	for _, c := range []struct {
		base  string
		edit  edit
		field string
	}{
		{plain, edit{"chainId": nil}, "userOperation.chainId"},
		{plain, edit{"chainId": "0x0"}, "userOperation.chainId"},
		{plain, edit{"entryPoint": nil}, "userOperation.entryPoint"},
		{plain, edit{"extra": 1}, "userOperation.extra"},
		{plain, edit{"delegate": checksummed}, "userOperation.delegate"},
		{marked, edit{"delegate": nil}, "userOperation.delegate"},
		{marked, edit{"delegate": "0x7702"}, "userOperation.delegate"},
		{plain, inner(edit{"nonce": nil}), "userOperation.userOperation.nonce"},
		{plain, inner(edit{"nonce": "0x00"}), "userOperation.userOperation.nonce"},
		{plain, inner(edit{"callGasLimit": "0x1"}), "userOperation.userOperation.callGasLimit"},
		{plain, inner(edit{"signature": "0x00"}), "userOperation.userOperation.signature"},
		{plain, inner(edit{"signature": 1}), "userOperation.userOperation.signature"},
		{plain, inner(edit{"initCode": "0x00"}), "userOperation.userOperation.initCode"},
		{plain, inner(edit{"initCode": "0x7702" + strings.Repeat("00", 10) + "01"}), "userOperation.userOperation.initCode"},
		{plain, inner(edit{"paymasterAndData": "0x" + strings.Repeat("11", 20)}), "userOperation.userOperation.paymasterAndData"},
		{plain, inner(edit{"paymasterAndData": "0x" + strings.Repeat("ff", 52)}), "userOperation.userOperation.paymasterAndData"},
		{plain, inner(edit{"accountGasLimits": "0x" + zero}), "userOperation.userOperation.accountGasLimits"},
		{plain, inner(edit{"accountGasLimits": big + zero}), "userOperation.userOperation.accountGasLimits"},
		{plain, inner(edit{"gasFees": "0x" + zero + big[2:]}), "userOperation.userOperation.gasFees"},
		{plain, inner(edit{"preVerificationGas": "0x1" + strings.Repeat("0", 30)}), "userOperation.userOperation.preVerificationGas"},
	} {
		_, err := eth.ParseUserOperation(edited(t, c.base, c.edit))
		wantField(t, err, c.field)
	}
	if _, err := eth.ParseUserOperation(edited(t, plain, inner(edit{"signature": "0x"}))); err != nil {
		t.Errorf("an empty signature is refused: %v", err)
	}
}
