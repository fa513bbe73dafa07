package tpm_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"
)

func TestCounterAuthorisationIsNotPrinted(t *testing.T) {
	h := newHost(t)
	counter := define(t, h.TPM, 0x01800001, true)
	var out bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&out, nil))
	for _, value := range []any{counter, spec(counter)} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
			fmt.Fprintf(&out, verb+"\n", value)
		}
		logger.Info("counter", "value", value)
		if err := json.NewEncoder(&out).Encode(value); err != nil {
			t.Fatal(err)
		}
	}
	for _, form := range []string{
		string(counterAuth()[:7]), hex.EncodeToString(counterAuth()[:7]), fmt.Sprint(counterAuth()[:7])[1:20],
	} {
		if bytes.Contains(out.Bytes(), []byte(form)) {
			t.Errorf("%q is in the output:\n%s", form, out.Bytes())
		}
	}
	if !bytes.Contains(out.Bytes(), []byte("0x1800001")) {
		t.Errorf("the handle is not in the output:\n%s", out.Bytes())
	}
}
