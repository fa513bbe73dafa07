package daemon

import (
	"testing"

	"github.com/sigild/sigild/ipc"
)

// What is left out is not allowed: the wire has no silent "any".
func TestTermsHaveNoSilentAny(t *testing.T) {
	base := ipc.Terms{Signatures: 1, Seconds: 60, Policy: ipc.Policy{Operations: []string{"message"}}}
	if terms, err := parseTerms(&base, "uid"); err == nil {
		t.Errorf("terms without a total value: %+v", terms)
	}
	base.TotalValue = "0x0"
	terms, err := parseTerms(&base, "uid")
	if err != nil || terms.AnyTotal || terms.TotalValue.Sign() != 0 {
		t.Fatalf("%+v, %v", terms, err)
	}
	if r := terms.Rules; r.AnyChain || r.AnyRecipient || r.AnySelector || r.AnyValue || r.AnyCost || r.ContractCreation {
		t.Errorf("an empty policy allows %+v", r)
	}
	base.TotalValue = "any"
	if terms, err = parseTerms(&base, ""); err != nil || !terms.AnyTotal || terms.AnyClient {
		t.Errorf("%+v, %v", terms, err)
	}
	for _, bad := range []func(*ipc.Terms){
		func(x *ipc.Terms) { x.TotalValue = "ANY" },
		func(x *ipc.Terms) { x.TotalValue = "10" },
		func(x *ipc.Terms) { x.Seconds = 0 },
		func(x *ipc.Terms) { x.Seconds = 1 << 40 },
		func(x *ipc.Terms) { x.Policy.MaxValue = "-0x1" },
		func(x *ipc.Terms) { x.Policy.Selectors = []string{"0x12"} },
		func(x *ipc.Terms) { x.Policy.Chains = []string{"any", "eip155:1"} },
		func(x *ipc.Terms) { x.Policy.Operations = []string{"everything"} },
	} {
		x := ipc.Terms{Signatures: 1, Seconds: 60, TotalValue: "0x0", Policy: ipc.Policy{Operations: []string{"message"}}}
		bad(&x)
		if got, err := parseTerms(&x, ""); err == nil {
			t.Errorf("%+v was taken as %+v", x, got)
		}
	}
	if _, err := parseTerms(&base, "everybody"); err == nil {
		t.Error("an unknown binding was taken")
	}
}

func TestUserOperationIsNotTypedData(t *testing.T) {
	const raw = `{"types":{"EIP712Domain":[{"name":"name","type":"string"},{"name":"version","type":"string"},{"name":"chainId","type":"uint256"},{"name":"verifyingContract","type":"address"}],
		"PackedUserOperation":[{"name":"sender","type":"address"},{"name":"nonce","type":"uint256"},{"name":"initCode","type":"bytes"},{"name":"callData","type":"bytes"},{"name":"accountGasLimits","type":"bytes32"},{"name":"preVerificationGas","type":"uint256"},{"name":"gasFees","type":"bytes32"},{"name":"paymasterAndData","type":"bytes"}]},
		"primaryType":"PackedUserOperation",
		"domain":{"name":"ERC4337","version":"1","chainId":1,"verifyingContract":"0x4337084d9e255ff0702461cf8895ce9e3b5ff108"},
		"message":{"sender":"0x0000000000000000000000000000000000000001","nonce":0,"initCode":"0x","callData":"0xdeadbeef","accountGasLimits":"0x0000000000000000000000000000000000000000000000000000000000000001","preVerificationGas":0,"gasFees":"0x0000000000000000000000000000000000000000000000000000000000000001","paymasterAndData":"0x"}}`
	if p, err := typedDataPayload([]byte(raw)); err == nil {
		t.Errorf("taken with the facts %+v", p.facts)
	}
}
