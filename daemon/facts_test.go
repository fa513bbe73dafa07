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
		ContractCreation: true, Value: big.NewInt(1), MaxCost: big.NewInt(2), Selector: []byte{1, 2, 3, 4}, DataLength: 4})
	v := reflect.ValueOf(f)
	for n := range v.NumField() {
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
		eth.OperationUserOperation: policy.UserOperation,
	} {
		if policy.Operation(name) != operation {
			t.Errorf("eth says %q, policy %q", name, operation)
		}
	}
}
