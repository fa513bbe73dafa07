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
		if err == nil && !json.Valid(raw) || (err == nil) != (text != "") {
			t.Fatalf("%q: text %q, error %v", raw, text, err)
		}
		for line := range strings.Lines(text) {
			if strings.IndexFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return !unicode.IsPrint(r) }) >= 0 {
				t.Fatalf("%q: line %q is not printable", raw, line)
			}
		}
	})
}
