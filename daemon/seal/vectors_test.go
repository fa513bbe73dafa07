package seal_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"

	"github.com/sigild/sigild/daemon/seal"
)

type pinVectors struct {
	Stretch []struct {
		Name, PIN string
		Argon2    argon2Vector
		Stretched hexBytes
	}
	Derive []struct {
		Name, PIN          string
		Wallet             hexBytes
		Argon2             argon2Vector
		TokenKey, HostKey  hexBytes
		PepperInput, H1    hexBytes
		HostInput, H2, Key hexBytes
	}
}

func TestStretchVectors(t *testing.T) {
	var v pinVectors
	readVectors(t, "pin.json", &v)
	if len(v.Stretch) == 0 {
		t.Fatal("no vectors")
	}
	for _, c := range v.Stretch {
		t.Run(c.Name, func(t *testing.T) {
			got, err := seal.Stretch([]byte(c.PIN), c.Argon2.argon2())
			if err != nil || !bytes.Equal(got, c.Stretched) {
				t.Fatalf("got %x, %v, want %x", got, err, c.Stretched)
			}
		})
	}
}

// Each message that a device sees is the vector's, and so is the key.
func TestDeriveKeyVectors(t *testing.T) {
	var v pinVectors
	readVectors(t, "pin.json", &v)
	if len(v.Derive) == 0 {
		t.Fatal("no vectors")
	}
	for _, c := range v.Derive {
		t.Run(c.Name, func(t *testing.T) {
			f := &scriptedFactors{token: c.TokenKey, host: c.HostKey}
			key, err := seal.DeriveKey(t.Context(), []byte(c.PIN), c.Wallet.id(t), c.Argon2.argon2(), f)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(f.copies[0], c.PepperInput) {
				t.Errorf("the token got %x, want %x", f.copies[0], c.PepperInput)
			}
			if !bytes.Equal(f.copies[1], c.HostInput) || !bytes.HasSuffix(f.copies[1], c.H1) {
				t.Errorf("the TPM got %x, want %x", f.copies[1], c.HostInput)
			}
			if !bytes.Equal(key[:], c.Key) {
				t.Errorf("key %x, want %x", key[:], c.Key)
			}
		})
	}
}

// headerVector has the field names of seal.Header; JSON folds their case.
type headerVector struct {
	Format               uint8
	Wallet, Installation hexBytes
	Created              int64
	Keys                 seal.KeyIDs
	Mechanism            uint64
	KDF                  argon2Vector
	Accounts             []struct {
		Index                 uint32
		Curve                 seal.Curve
		Public, Root, Address hexBytes
		Custody               seal.Custody
		Created               int64
	}
	Relay      uint32
	Owner      string
	Policy     hexBytes
	Exportable bool
	Limits     seal.Limits
	Sources    []seal.Source
	Dropped    []string
}

func (v *headerVector) header(t testing.TB) *seal.Header {
	h := &seal.Header{Format: v.Format, Wallet: v.Wallet.id(t), Installation: v.Installation.id(t), Created: v.Created,
		Keys: v.Keys, Mechanism: v.Mechanism, KDF: v.KDF.argon2(), Relay: v.Relay, Owner: v.Owner, Policy: v.Policy,
		Exportable: v.Exportable, Limits: v.Limits, Sources: v.Sources, Dropped: v.Dropped}
	for _, a := range v.Accounts {
		h.Accounts = append(h.Accounts, seal.Account{Index: a.Index, Curve: a.Curve, Public: a.Public, Root: a.Root,
			Address: a.Address, Custody: a.Custody, Created: a.Created})
	}
	return h
}

type wrappedVector struct {
	Derivation hexBytes
	Roots      []hexBytes
}

func (v *wrappedVector) wrapped() *seal.Wrapped {
	w := &seal.Wrapped{Derivation: v.Derivation}
	for _, r := range v.Roots {
		w.Roots = append(w.Roots, r)
	}
	return w
}

type recordVector struct {
	Name, PIN                    string
	TokenKey, HostKey, RecordKey hexBytes
	Header                       headerVector
	State                        seal.State
	Wrapped                      wrappedVector
	Key, Nonce                   hexBytes
	HeaderBytes, StateBytes, Box hexBytes
	MACInput, MAC, Stored        hexBytes
}

func readRecords(t testing.TB) []recordVector {
	t.Helper()
	var v struct{ Records []recordVector }
	readVectors(t, "record.json", &v)
	if len(v.Records) == 0 {
		t.Fatal("no vectors")
	}
	return v.Records
}

func (v *recordVector) parse(t testing.TB) *seal.Parsed {
	t.Helper()
	p, err := seal.Parse(t.Context(), v.Stored, v.Header.Installation.id(t), v.Header.Wallet.id(t), hmacSHA256(v.RecordKey))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestRecordVectorsParse(t *testing.T) {
	for _, v := range readRecords(t) {
		t.Run(v.Name, func(t *testing.T) {
			p := v.parse(t)
			if want := v.Header.header(t); !reflect.DeepEqual(p.Header, want) {
				t.Errorf("header\n%s\nwant\n%s", asJSON(t, p.Header), asJSON(t, want))
			}
			if !reflect.DeepEqual(*p.State, v.State) {
				t.Errorf("state %+v, want %+v", *p.State, v.State)
			}
			if !bytes.Equal(p.Stored, v.Stored) || !bytes.Equal(p.Record.MACInput(), v.MACInput) || !bytes.Equal(p.Record.MAC, v.MAC) {
				t.Error("the record's parts are not the vector's")
			}
		})
	}
}

func TestRecordVectorsEncode(t *testing.T) {
	for _, v := range readRecords(t) {
		t.Run(v.Name, func(t *testing.T) {
			header, err := v.Header.header(t).Encode()
			if err != nil || !bytes.Equal(header, v.HeaderBytes) {
				t.Fatalf("header %x, %v, want %x", header, err, v.HeaderBytes)
			}
			state, err := seal.EncodeState(&v.State)
			if err != nil || !bytes.Equal(state, v.StateBytes) {
				t.Fatalf("state %x, %v, want %x", state, err, v.StateBytes)
			}
			r := seal.Record{Header: header, Box: v.Box, State: state}
			stored, err := r.Encode(t.Context(), hmacSHA256(v.RecordKey))
			if err != nil || !bytes.Equal(stored, v.Stored) {
				t.Fatalf("stored %x, %v, want %x", stored, err, v.Stored)
			}
		})
	}
}

// From the stored bytes and the three factors to the wrapped keys.
func TestRecordVectorsOpen(t *testing.T) {
	for _, v := range readRecords(t) {
		t.Run(v.Name, func(t *testing.T) {
			p := v.parse(t)
			f := &scriptedFactors{token: v.TokenKey, host: v.HostKey}
			key, err := seal.DeriveKey(t.Context(), []byte(v.PIN), p.Header.Wallet, p.Header.KDF, f)
			if err != nil || !bytes.Equal(key[:], v.Key) {
				t.Fatalf("key %x, %v, want %x", key[:], err, v.Key)
			}
			w, err := seal.Open(key, p.Record.Header, p.Record.Box)
			if err != nil {
				t.Fatal(err)
			}
			if want := v.Wrapped.wrapped(); !reflect.DeepEqual(w, want) {
				t.Error("the wrapped keys are not the vector's")
			}
			if !bytes.HasPrefix(p.Record.Box, v.Nonce) {
				t.Error("the box does not begin with its nonce")
			}
		})
	}
}

func asJSON(t testing.TB, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
