package daemon_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"testing"

	"github.com/sigild/sigild/daemon"
	"github.com/sigild/sigild/daemon/seal"
)

// hexBytes are bytes as vectors have them.
type hexBytes []byte

func (b *hexBytes) UnmarshalText(text []byte) (err error) {
	*b, err = hex.DecodeString(string(text))
	return err
}

// vectors are those of docs/format.md for what this package stores.
type vectors struct {
	Source        string
	HostKeys      []struct{ Kernel, TPM, Token, Host hexBytes }
	Installations []struct {
		Name                                string
		RecordKey, ID, Document, KeysDigest hexBytes
	}
	LoginMarks []struct {
		Name, PIN          string
		State              byte
		Installation, Mark hexBytes
	}
	GivenMarks []struct {
		Name, PIN                   string
		State                       byte
		Installation, Refused, Mark hexBytes
	}
	Counters []struct{ RecordKey, Installation, Anchor, Authorisation hexBytes }
}

func readVectors(t *testing.T) vectors {
	t.Helper()
	data, err := os.ReadFile("../testdata/vectors/host.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	if v.Source == "" || len(v.HostKeys) == 0 || len(v.Installations) < 3 || len(v.LoginMarks) == 0 || len(v.GivenMarks) == 0 || len(v.Counters) == 0 {
		t.Fatalf("vectors are missing: %+v", v)
	}
	return v
}

// byKey computes as the token does with its record key.
func byKey(key []byte) seal.MAC {
	return func(_ context.Context, message []byte) ([32]byte, error) {
		m := hmac.New(sha256.New, key)
		m.Write(message)
		return [32]byte(m.Sum(nil)), nil
	}
}

func TestHostKeyVectors(t *testing.T) {
	for _, v := range readVectors(t).HostKeys {
		if got, err := daemon.MixHostKey(v.Kernel, v.TPM, v.Token); err != nil || !bytes.Equal(got, v.Host) {
			t.Errorf("%x, %v, want %x", got, err, v.Host)
		}
	}
}

func TestInstallationVectors(t *testing.T) {
	for _, v := range readVectors(t).Installations {
		d, err := daemon.DecodeInstallation(v.Document)
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		if id := d.ID(); !bytes.Equal(id[:], v.ID) {
			t.Errorf("%s: id %x, want %x", v.Name, id, v.ID)
		}
		if got := d.KeysDigest(); !bytes.Equal(got, v.KeysDigest) {
			t.Errorf("%s: keys digest %x, want %x", v.Name, got, v.KeysDigest)
		}
		mac := byKey(v.RecordKey)
		if len(v.RecordKey) == 0 { // provisioning has no record key yet
			mac = nil
		} else if err := d.Verify(t.Context(), mac); err != nil {
			t.Errorf("%s: %v", v.Name, err)
		}
		if got, err := d.Encode(t.Context(), mac); err != nil || !bytes.Equal(got, v.Document) {
			t.Errorf("%s: encoded as %x, %v, want %x", v.Name, got, err, v.Document)
		}
	}
}

// Each changed bit of a document is found, by its form or by its MAC.
func TestInstallationFindsEveryChangedBit(t *testing.T) {
	for _, v := range readVectors(t).Installations {
		if len(v.RecordKey) == 0 {
			continue
		}
		for bit := range 8 * len(v.Document) {
			changed := bytes.Clone(v.Document)
			changed[bit/8] ^= 1 << (bit % 8)
			d, err := daemon.DecodeInstallation(changed)
			if err == nil {
				err = d.Verify(t.Context(), byKey(v.RecordKey))
			}
			if !errors.Is(err, daemon.ErrInstallation) {
				t.Fatalf("%s, bit %d: %v, want %v", v.Name, bit, err, daemon.ErrInstallation)
			}
		}
	}
}

func TestLoginMarkVectors(t *testing.T) {
	for _, v := range readVectors(t).LoginMarks {
		if got := daemon.LoginMark(v.State, seal.ID(v.Installation), []byte(v.PIN)); !bytes.Equal(got, v.Mark) {
			t.Errorf("%s: %x, want %x", v.Name, got, v.Mark)
		}
	}
}

func TestGivenMarkVectors(t *testing.T) {
	for _, v := range readVectors(t).GivenMarks {
		if got := daemon.MarkOfGiven(v.Refused, v.State, seal.ID(v.Installation), []byte(v.PIN)); !bytes.Equal(got, v.Mark) {
			t.Errorf("%s: %x, want %x", v.Name, got, v.Mark)
		}
	}
}

func TestCounterAuthorisationVectors(t *testing.T) {
	for _, v := range readVectors(t).Counters {
		got, err := daemon.CounterAuthorisation(t.Context(), byKey(v.RecordKey), seal.ID(v.Installation), v.Anchor)
		if err != nil || !bytes.Equal(got, v.Authorisation) {
			t.Errorf("%x, %v, want %x", got, err, v.Authorisation)
		}
	}
}
