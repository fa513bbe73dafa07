package channel_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sigild/sigild/daemon/channel"
)

// text is bytes in hexadecimal with 0x.
type text []byte

func (h *text) UnmarshalText(b []byte) (err error) {
	*h, err = hex.DecodeString(strings.TrimPrefix(string(b), "0x"))
	return err
}

// vectorFile is testdata/vectors/pin-channel.json, which the JavaScript client
// reads too; ipc/js/generate-vectors.js made it without this package.
type vectorFile struct {
	IdentityKey, Signature, PrivateKey, PublicKey, KeyID, Installation text
	Statement                                                          string
	Blocks                                                             []struct {
		Method                                        string
		Params                                        json.RawMessage
		Digest, Info, AAD, Plaintext, Enc, Ciphertext text
		PIN, NewPIN                                   string
		Key                                           text
		Expires                                       int64
		Result, Failure                               json.RawMessage
	}
	Exports []struct {
		PrivateKey, Recipient, Installation, WalletID, Address, Digest, Info, AAD text
		Account                                                                   uint32
		Enc, Ciphertext, Key                                                      text
	}
}

func TestVectors(t *testing.T) {
	data, err := os.ReadFile("../../testdata/vectors/pin-channel.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectorFile
	if err := json.Unmarshal(data, &v); err != nil || len(v.Blocks) < 3 {
		t.Fatalf("%d blocks, %v", len(v.Blocks), err)
	}
	identity, err := channel.ParseIdentity(v.IdentityKey)
	if err != nil {
		t.Fatal(err)
	}
	key, err := channel.Verify(identity, v.Statement, v.Signature, time.Date(2026, 7, 1, 10, 30, 0, 0, time.UTC))
	if err != nil || !bytes.Equal(key.ID[:], v.KeyID) || !bytes.Equal(key.Installation[:], v.Installation) {
		t.Fatalf("statement: %v, %+v", err, key)
	}
	for _, b := range v.Blocks {
		now := time.Unix(b.Expires-30, 0)
		h := newHost(t, func(c *channel.Config) {
			c.Installation, c.Now = channel.ID(v.Installation), func() time.Time { return now }
		})
		id, err := h.Install(v.PrivateKey)
		if err != nil || !bytes.Equal(id[:], v.KeyID) {
			t.Fatalf("key id %x: %v", id, err)
		}
		q := request(b.Method, string(b.Params))
		if !bytes.Equal(q.Digest[:], b.Digest) || !bytes.Equal(channel.AAD(q, id, b.Expires), b.AAD) ||
			!bytes.Equal(channel.Info(channel.ID(v.Installation), id), b.Info) {
			t.Errorf("%s: digest %x, aad %x", b.Method, q.Digest, channel.AAD(q, id, b.Expires))
		}
		use, pins, err := h.Open(alice, q, &channel.Block{KeyID: v.KeyID, Enc: b.Enc, Ciphertext: b.Ciphertext, Expires: b.Expires}, exact)
		if err != nil || string(pins.PIN) != b.PIN || string(pins.New) != b.NewPIN || !bytes.Equal(pins.Key, b.Key) {
			t.Fatalf("%s: %v", b.Method, err)
		}
		for kind, proven := range map[channel.Kind]json.RawMessage{channel.Result: b.Result, channel.Failure: b.Failure} {
			if err := use.Check(kind, proven); err != nil {
				t.Errorf("%s, kind %d: %v", b.Method, kind, err)
			}
			members := map[string]json.RawMessage{}
			if err := json.Unmarshal(proven, &members); err != nil {
				t.Fatal(err)
			}
			proof := members["proof"]
			delete(members, "proof")
			bare, err := json.Marshal(members)
			if err != nil {
				t.Fatal(err)
			}
			if answer, err := use.Prove(kind, bare); err != nil || !bytes.Contains(answer, proof) {
				t.Errorf("%s, kind %d: %s, %v", b.Method, kind, answer, err)
			}
		}
	}
}

func TestExportVectors(t *testing.T) {
	data, err := os.ReadFile("../../testdata/vectors/pin-channel.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectorFile
	if err := json.Unmarshal(data, &v); err != nil || len(v.Exports) < 1 {
		t.Fatalf("%d exports, %v", len(v.Exports), err)
	}
	for _, x := range v.Exports {
		r, err := channel.InstallRecipient(x.PrivateKey)
		if err != nil || !bytes.Equal(r.Public(), x.Recipient) {
			t.Fatalf("recipient: %v", err)
		}
		e := channel.Export{Installation: channel.ID(x.Installation), Wallet: channel.ID(x.WalletID), Account: x.Account,
			Address: [20]byte(x.Address), Digest: [32]byte(x.Digest)}
		if got := channel.ExportAAD(&e); !bytes.Equal(got, x.AAD) {
			t.Errorf("aad %x", got)
		}
		got, err := r.Open(&e, &channel.SealedKey{Enc: x.Enc, Ciphertext: x.Ciphertext})
		if err != nil || !bytes.Equal(got, x.Key) {
			t.Errorf("%x, %v", got, err)
		}
	}
}
