package wallet_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/wallet"
)

// hexBytes are bytes that a vector writes in hexadecimal.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	*h = b
	return err
}

func TestRequestVectors(t *testing.T) {
	data, err := os.ReadFile("../../testdata/vectors/request.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Source   string
		Requests []struct {
			Name, Method, RequestID                      string
			RecordKey, Scope, Key, Digest, Wallet, Value hexBytes
			Relay, Account                               uint32
			Time                                         int64
		}
	}
	if err := json.Unmarshal(data, &v); err != nil || v.Source == "" || len(v.Requests) == 0 {
		t.Fatalf("%d vectors, source %q, %v", len(v.Requests), v.Source, err)
	}
	b := newBench(t)
	for _, r := range v.Requests {
		b.token.record = [32]byte(r.RecordKey)
		key, err := b.RequestKey(t.Context(), r.Relay, string(r.Scope), r.Method, r.RequestID)
		if err != nil || !bytes.Equal(key[:], r.Key) {
			t.Errorf("%s: key %x, %v, want %x", r.Name, key, err, r.Key)
		}
		value, err := b.Done(t.Context(), key, [32]byte(r.Digest), seal.ID(r.Wallet), r.Account, r.Time)
		if err != nil || !bytes.Equal(value, r.Value) {
			t.Errorf("%s: stored %x, %v, want %x", r.Name, value, err, r.Value)
		}
	}
}

// keptKeys sees the keys under which requests are stored.
type keptKeys struct {
	wallet.Store
	keys [][32]byte
}

func (k *keptKeys) Create(ctx context.Context, w wallet.NewWallet) error {
	k.keys = append(k.keys, w.Request.Key)
	return k.Store.Create(ctx, w)
}

// A request's place in the hash tree is the first two bytes of its key. With a
// hash of what the relay wrote in the place of the MAC, these three would share
// one, as would as many more as the relay likes.
func TestRequestPlacesAreNotTheRelaysToChoose(t *testing.T) {
	b := newBench(t)
	kept := &keptKeys{Store: b.store}
	b.Service.Store = kept
	for n := 0; len(kept.keys) < 3; n++ {
		r := b.creation(fmt.Sprint(n))
		hashed := binary.BigEndian.AppendUint32([]byte("sigild/request-key/v1"), r.Peer.UID)
		for _, text := range []string{r.Owner, "createWallet", r.RequestID} {
			hashed = append(binary.BigEndian.AppendUint32(hashed, uint32(len(text))), text...)
		}
		if sum := sha256.Sum256(hashed); sum[0] != 0 || sum[1] != 0 {
			continue
		}
		if _, err := b.Create(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	k := kept.keys
	if string(k[0][:2]) == string(k[1][:2]) && string(k[1][:2]) == string(k[2][:2]) {
		t.Errorf("requests that the relay chose have one place: %x, %x, %x", k[0], k[1], k[2])
	}
}
