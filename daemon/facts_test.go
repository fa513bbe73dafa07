package daemon

import (
	"math/big"
	"reflect"
	"testing"

	"github.com/sigild/sigild/daemon/eth"
	"github.com/sigild/sigild/daemon/policy"
)

// A fact that is lost on the way makes a policy decide on less than it should.
func TestPolicyFactsAreComplete(t *testing.T) {
	f := policyFacts(eth.Facts{Operation: "transaction", Chain: "eip155:1", AllChains: true, Recipient: "r",
		ContractCreation: true, Value: big.NewInt(1), MaxCost: big.NewInt(2), Selector: []byte{1, 2, 3, 4}, DataLength: 4, Delegates: true})
	v := reflect.ValueOf(f)
	for n := range v.NumField() {
		if v.Type().Field(n).Name == "Sender" {
			continue // no payload has it: the wallet sets it to the account that signs
		}
		if v.Field(n).IsZero() {
			t.Errorf("policy.Facts.%s is not set", v.Type().Field(n).Name)
		}
	}
}

// The two packages may not import each other, so their words are compared here.
func TestOperationsHaveTheSameNames(t *testing.T) {
	for name, operation := range map[string]policy.Operation{
		eth.OperationTransaction: policy.Transaction, eth.OperationMessage: policy.Message,
		eth.OperationTypedData: policy.TypedData, eth.OperationAuthorization: policy.Authorization,
		eth.OperationUserOperation: policy.UserOperation, eth.OperationValidatorData: policy.ValidatorData,
		eth.OperationCliqueHeader: policy.CliqueHeader,
	} {
		if policy.Operation(name) != operation {
			t.Errorf("eth says %q, policy %q", name, operation)
		}
	}
}

// A call is decided on by its selector, and data too short for one is no call.
func TestPolicyOfCalls(t *testing.T) {
	p := policy.Default()
	p.AnySelector, p.Selectors = false, [][4]byte{{0xa9, 0x05, 0x9c, 0xbb}}
	for data, want := range map[string]policy.Verdict{
		"0x": policy.Allow, "0xa9059cbb": policy.Allow, "0xa9059cbb00": policy.Allow,
		"0xa9059c": policy.Deny, "0xa9059cbc": policy.Deny,
	} {
		payload, err := transactionPayload([]byte(`{"chainId":"0x1","nonce":"0x0","to":"0x9858effd232b4033e47d90003d41ec34ecaeda94",` +
			`"value":"0x0","gas":"0x5208","gasPrice":"0x1","data":"` + data + `"}`))
		if err != nil {
			t.Fatal(err)
		}
		if d := p.Decide(policyFacts(payload.facts)); d.Verdict != want {
			t.Errorf("data %s: %+v", data, d)
		}
	}
}
