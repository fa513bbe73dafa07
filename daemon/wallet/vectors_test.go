package wallet_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"math/big"
	"os"
	"testing"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/sigild/sigild/daemon/wallet"
)

// walletVectors are those of docs/format.md for accounts and nonces.
type walletVectors struct {
	Source  string
	Wallets []struct {
		Seed     hexBytes
		Accounts []accountVector
	}
}

type accountVector struct {
	Index                              uint32
	RootKey, Root, Wide, Tweak, Public hexBytes
	Nonces                             []nonceVector
}

type nonceVector struct{ Nonce, Digest, R, Key, Value hexBytes }

func readWalletVectors(t *testing.T) walletVectors {
	t.Helper()
	data, err := os.ReadFile("../../testdata/vectors/host.json")
	if err != nil {
		t.Fatal(err)
	}
	var v walletVectors
	if err := json.Unmarshal(data, &v); err != nil || v.Source == "" || len(v.Wallets) == 0 {
		t.Fatalf("%d wallets, %v", len(v.Wallets), err)
	}
	return v
}

// keptNonces sees what is stored of nonces.
type keptNonces struct {
	wallet.Store
	keys, values [][16]byte
}

func (k *keptNonces) Nonce(ctx context.Context, key, value [16]byte) (*[16]byte, error) {
	k.keys, k.values = append(k.keys, key), append(k.values, value)
	return k.Store.Nonce(ctx, key, value)
}

// The accounts of a wallet, from its seed and the token's roots, and what is stored
// of the nonces that its signatures use.
func TestAccountAndNonceVectors(t *testing.T) {
	for _, w := range readWalletVectors(t).Wallets {
		b := newBench(t)
		seed := [64]byte(w.Seed)
		b.entropy.seed = &seed
		for _, a := range w.Accounts {
			b.token.roots = append(b.token.roots, a.RootKey)
		}
		kept := &keptNonces{Store: b.store}
		config := b.Config
		config.Store = kept
		b.Service = wallet.New(config)
		id := b.create(t, "vectors").Info.Header.Wallet
		d, err := b.Derive(t.Context(), &wallet.DeriveRequest{Peer: b.peer, Count: len(w.Accounts) - 1, RequestID: "d",
			Wallet: id, PIN: []byte(goodPIN)})
		if err != nil {
			t.Fatal(err)
		}
		for n, a := range w.Accounts {
			got := d.Info.Header.Accounts[n]
			if got.Index != a.Index || !bytes.Equal(got.Root, a.Root) || !bytes.Equal(got.Public, a.Public) {
				t.Errorf("account %d: root %x, public %x, want %x, %x", a.Index, got.Root, got.Public, a.Root, a.Public)
			}
			for _, v := range a.Nonces {
				kept.keys, kept.values = nil, nil
				b.token.sign = withNonce(v.Nonce)
				s, err := b.sign(message(b, id, a.Index, goodPIN, [32]byte(v.Digest)))
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(s.R[:], v.R) || len(kept.keys) != 1 || !bytes.Equal(kept.keys[0][:], v.Key) || !bytes.Equal(kept.values[0][:], v.Value) {
					t.Errorf("account %d, r %x: stored %x: %x, want %x: %x", a.Index, s.R, kept.keys, kept.values, v.Key, v.Value)
				}
			}
			b.token.sign = nil
		}
	}
}

// withNonce signs with this nonce.
func withNonce(nonce []byte) func(*ecdsa.PrivateKey, [32]byte) ([64]byte, error) {
	n := crypto.S256().Params().N
	k := new(big.Int).SetBytes(nonce)
	x, _ := crypto.S256().ScalarBaseMult(nonce)
	return func(d *ecdsa.PrivateKey, z [32]byte) (out [64]byte, err error) {
		if x.Cmp(n) >= 0 {
			return out, errors.New("r is reduced")
		}
		s := new(big.Int).Mul(x, new(big.Int).SetBytes(crypto.FromECDSA(d)))
		s.Add(s, new(big.Int).SetBytes(z[:]))
		s.Mul(s, new(big.Int).ModInverse(k, n)).Mod(s, n)
		x.FillBytes(out[:32])
		s.FillBytes(out[32:])
		return out, nil
	}
}
