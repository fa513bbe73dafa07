package wallet_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/sigild/sigild/daemon/entropy"
	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/wallet"
)

// fixedSource answers with the same bytes each time.
type fixedSource struct {
	name  string
	bytes []byte
}

func (s fixedSource) Name() string { return s.name }

func (s fixedSource) Read(context.Context, int) (entropy.Reading, error) {
	return entropy.Reading{Bytes: bytes.Clone(s.bytes), Provenance: entropy.Provenance{Source: s.name, Count: len(s.bytes),
		RequestID: "r", Region: "g", Manufacturer: "m", Model: "o", Version: "v", Time: time.Unix(1_800_000_000, 0)}}, nil
}

// mixed is the entropy of a service whose sources are fixed. It binds the seed
// to a fixed id, since the service picks another one for each wallet.
type mixed struct{ mixer *entropy.Mixer }

func (m mixed) Dropped() []string { return nil }

func (m mixed) Seed(ctx context.Context, _ seal.ID) (wallet.Seed, error) {
	s, err := m.mixer.Seed(ctx, []byte("wallet"))
	if err != nil {
		return nil, err
	}
	return mixedSeed{s}, nil
}

type mixedSeed struct{ *entropy.Seed }

func (mixedSeed) Sources() []seal.Source { return []seal.Source{{Name: "mixed", Count: 192}} }

// addressOf makes a wallet of fixed sources on a token with a fixed root.
func addressOf(t *testing.T, sources map[string][]byte) string {
	t.Helper()
	b := newBench(t)
	b.token.roots = [][]byte{scalar(1)}
	var list []entropy.Source
	for name, value := range sources {
		list = append(list, fixedSource{name, value})
	}
	mixer, err := entropy.NewMixer(list, b.store, entropy.MixerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	config := b.Config
	config.Entropy = mixed{mixer}
	c, err := wallet.New(config).Create(context.Background(), b.creation("r"))
	if err != nil {
		t.Fatal(err)
	}
	return string(c.Info.Header.Accounts[0].Address)
}

// P2: the whole way from the sources to the address, on a token whose own
// randomness is fixed: any single source that differs in one bit gives another
// address, and equal inputs give the same.
func TestP2EachSourceShapesTheAddress(t *testing.T) {
	inputs := func() map[string][]byte {
		m := map[string][]byte{}
		for n, name := range []string{"kms", "token", "tpm"} {
			m[name] = make([]byte, entropy.DefaultBytes)
			for i := range m[name] {
				m[name][i] = byte(i*7 + n*31)
			}
		}
		return m
	}
	base := addressOf(t, inputs())
	if addressOf(t, inputs()) != base {
		t.Error("equal inputs gave another address")
	}
	seen := map[string]string{base: "no change"}
	for name := range inputs() {
		for _, bit := range []int{0, 255, 511} {
			changed := inputs()
			changed[name][bit/8] ^= 1 << (bit % 8)
			address := addressOf(t, changed)
			if was, ok := seen[address]; ok {
				t.Errorf("bit %d of %s gave the address of %s", bit, name, was)
			}
			seen[address] = name
		}
	}
}
