package eth_test

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"testing"

	"github.com/sigild/sigild/daemon/eth"
)

// seed adds what pick takes from every vector of every file.
func seed(f *testing.F, pick func(vector) json.RawMessage) {
	f.Helper()
	names, err := filepath.Glob(filepath.Join(vectorFolder, "*.json"))
	if err != nil || len(names) == 0 {
		f.Fatalf("no vectors: %v", err)
	}
	added := 0
	for _, name := range names {
		file := readVectors(f, filepath.Base(name))
		for _, v := range append(append(file.Vectors, file.Messages...), file.Authorizations...) {
			if raw := pick(v); raw != nil {
				f.Add([]byte(raw))
				added++
			}
		}
	}
	if added == 0 {
		f.Fatal("no seeds")
	}
}

// fieldErrors fails unless err is one that a caller can act on.
func fieldErrors(t *testing.T, err error) {
	t.Helper()
	var field *eth.FieldError
	if !errors.As(err, &field) || field.Field == "" || field.Problem == "" || len(err.Error()) > 1000 {
		t.Errorf("not a useful error: %v", err)
	}
}

// FuzzParseTransaction: what is read gives a digest that go-ethereum agrees on
// and, signed, a raw transaction whose sender is the signer.
func FuzzParseTransaction(f *testing.F) {
	seed(f, func(v vector) json.RawMessage { return v.Transaction })
	f.Add([]byte(legacyBase))
	f.Add([]byte(dynamicBase))
	f.Add([]byte(blobBase))
	f.Fuzz(func(t *testing.T, raw []byte) {
		tx, err := eth.ParseTransaction(raw)
		if err != nil {
			fieldErrors(t, err)
			return
		}
		if from := tx.From(); from != nil && *from != cow {
			return
		}
		r, s, recid := sign(t, tx.SigningDigest())
		signed, err := tx.WithSignature(r, s, recid, cow)
		if err != nil {
			t.Fatal(err)
		}
		checkSender(t, signed, tx.SigningDigest(), cow)
		if facts := tx.Facts(); facts.MaxCost.Cmp(facts.Value) < 0 || facts.Chain == "" {
			t.Errorf("facts %+v", facts)
		}
	})
}

// FuzzTypedData: what is read gives the digest that go-ethereum computes, where
// that takes the input.
func FuzzTypedData(f *testing.F) {
	seed(f, func(v vector) json.RawMessage { return v.TypedData })
	f.Add([]byte(typed("uint8[][2]", "[[],[1]]")))
	f.Add([]byte(typed("S[]", `[{"v":[]}]`)))
	f.Add([]byte(typed("Inner", `{"x":1}`)))
	f.Add([]byte(typed("string", ` "\u0041\n\"\\\/\ud83e\udd8a\b" `)))
	f.Add([]byte(typed("int8[]", "[ -1 ,\t2\r\n, \"0x3\" ]")))
	f.Fuzz(func(t *testing.T, raw []byte) {
		digest, facts, err := eth.TypedDataDigest(raw)
		if err != nil {
			fieldErrors(t, err)
			return
		}
		if (facts.Chain == "") != facts.AllChains {
			t.Errorf("facts %+v", facts)
		}
		if want, err := goEthereumDigest(raw); err == nil && want != digest {
			t.Errorf("digest %x, go-ethereum has %x", digest, want)
		}
	})
}

// FuzzAuthorization: a signed authorization is one that a transaction takes.
func FuzzAuthorization(f *testing.F) {
	seed(f, func(v vector) json.RawMessage { return v.Authorization })
	f.Fuzz(func(t *testing.T, raw []byte) {
		authorization, err := eth.ParseAuthorization(raw)
		if err != nil {
			fieldErrors(t, err)
			return
		}
		r, s, recid := sign(t, authorization.SigningDigest())
		signed, err := authorization.WithSignature(r, s, recid, cow)
		if err != nil {
			t.Fatal(err)
		}
		changes := edit{"authorizationList": []json.RawMessage{signed}}
		if !authorization.Facts().AllChains {
			var fields struct{ ChainID string }
			if err := json.Unmarshal(signed, &fields); err != nil {
				t.Fatal(err)
			}
			changes["chainId"] = fields.ChainID
		}
		if err := parse(t, edited(t, dynamicBase, changes)).CheckAuthorizations(); err != nil {
			t.Error(err)
		}
	})
}

// FuzzUserOperation: what is read has a bounded cost and a digest that a key
// can sign.
func FuzzUserOperation(f *testing.F) {
	seed(f, func(v vector) json.RawMessage { return v.Request })
	f.Fuzz(func(t *testing.T, raw []byte) {
		operation, err := eth.ParseUserOperation(raw)
		if err != nil {
			fieldErrors(t, err)
			return
		}
		facts := operation.Facts()
		if facts.MaxCost.BitLen() > 256 || facts.Chain == "" || facts.Recipient == "" || facts.Value != nil {
			t.Errorf("facts %+v", facts)
		}
		r, s, recid := sign(t, operation.SigningDigest())
		if err := eth.CheckSignature(operation.SigningDigest(), r, s, recid, cow); err != nil {
			t.Error(err)
		}
	})
}

func BenchmarkTransaction(b *testing.B) {
	raw := readVectors(b, "eip1559.json").Vectors[1].Transaction
	b.ReportAllocs()
	for b.Loop() {
		tx, err := eth.ParseTransaction(raw)
		if err != nil {
			b.Fatal(err)
		}
		_ = tx.SigningDigest()
	}
}

func BenchmarkWithSignature(b *testing.B) {
	tx := parse(b, readVectors(b, "eip1559.json").Vectors[1].Transaction)
	r, s, recid := sign(b, tx.SigningDigest())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tx.WithSignature(r, s, recid, cow); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTypedData(b *testing.B) {
	raw := []byte(mail(b))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := eth.TypedDataDigest(raw); err != nil {
			b.Fatal(err)
		}
	}
}
