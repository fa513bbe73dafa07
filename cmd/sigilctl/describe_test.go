package main_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"

	main "github.com/sigild/sigild/cmd/sigilctl"
)

// Whatever a transaction file holds: no crash, no control character on the
// terminal, and not a word about what is not a JSON object.
func FuzzDescribe(f *testing.F) {
	for _, seed := range []string{
		`{"chainId":"0x1","nonce":"0x7","gas":"0x5208","maxFeePerGas":"0x6fc23ac00","maxPriorityFeePerGas":"0x1","to":"0x6fac4d18c912343bf86fa7049364dd4e424ab9c0","value":"0x1"}`,
		`{"gasPrice":"0x1","gasLimit":"0x1","input":"0x6000","data":null,"blobVersionedHashes":["0x01"],"maxFeePerBlobGas":"0x1"}`,
		`{"to":"0x\u001b[2J"}`, `{"value":"0x-1"}`, `{"value":"0x"}`, `{"authorizationList":[{}]}`, `[]`, `null`, `{`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		text, err := main.Describe(raw, "account 0 of \x1b[2J")
		checkDescription(t, raw, text, err)
	})
}

// The same for the other payloads that are files.
func FuzzDescribePayloads(f *testing.F) {
	for _, seed := range []string{
		`{"types":{},"primaryType":"Mail","domain":{"name":"x","chainId":1},"message":{"a":[{"b":"\u001b[2J"},null,1e9,true,""],"\u202e":{}}}`,
		`{"chainId":"0x0","address":"0x0000000000000000000000000000000000000000","nonce":"0x1"}`,
		`{"chainId":"0x1","entryPoint":"0x","userOperation":{"sender":"0x\n"},"delegate":null}`,
		`{"primaryType":1}`, `{"message":[[[]]],"domain":7}`, `{"nonce":"0x-1"}`, `[]`, `null`, `{`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, describe := range main.Payloads {
			text, err := describe(raw, "account 0 of \x1b[2J")
			checkDescription(t, raw, text, err)
		}
	})
}

func checkDescription(t *testing.T, raw []byte, text string, err error) {
	if err == nil && !json.Valid(raw) || (err == nil) != (text != "") {
		t.Fatalf("%q: text %q, error %v", raw, text, err)
	}
	for line := range strings.Lines(text) {
		if strings.IndexFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return !unicode.IsPrint(r) }) >= 0 {
			t.Fatalf("%q: line %q is not printable", raw, line)
		}
	}
}

// An amount is never guessed: it has a unit, or is in the wire's own form.
func TestQuantity(t *testing.T) {
	for text, want := range map[string]string{
		"any": "any", "0wei": "0x0", "1wei": "0x1", "0x10": "0x10", "0x0010": "0x10", "1.5ether": "0x14d1120d7b160000", "1 ether": "0xde0b6b3a7640000",
		"20gwei": "0x4a817c800", "0.000000000000000001ether": "0x1", "0.1gwei": "0x5f5e100",
		"": "", "1": "", "1.5": "", "-1wei": "", "+1wei": "", "0.1wei": "", "1.ether": "", ".5ether": "", "1eth": "", "0x": "", "0x-1": "", "0x+1": "",
		"0x_1": "", "1e18wei": "", "1,5ether": "", "0.0000000000000000001ether": "", "Any": "", "1ether ": "",
	} {
		got, err := main.Quantity(text)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v, want %q", text, got, err, want)
		}
	}
}
