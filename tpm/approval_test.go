package tpm_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"maps"
	"slices"
	"testing"

	"github.com/sigild/sigild/tpm"
)

// extended predicts a PCR's value after Instance.Extend.
func extended(value [32]byte, data []byte) [32]byte {
	digest := sha256.Sum256(data)
	return sha256.Sum256(append(value[:], digest[:]...))
}

// approveNext approves the state after one more measurement.
func (h *host) approveNext(t testing.TB, pcr int, data []byte) tpm.Approval {
	t.Helper()
	values := maps.Clone(h.approve(t).Values)
	values[pcr] = extended(values[pcr], data)
	approval, err := tpm.Approve(h.policyKey, h.authority.Installation, h.profile, values)
	if err != nil {
		t.Fatal(err)
	}
	return approval
}

func TestStateApprovedInAdvance(t *testing.T) {
	h := newHost(t)
	update := []byte("the next kernel")
	approvals := []tpm.Approval{h.approve(t), h.approveNext(t, 11, update)}
	value := random(t, tpm.HMACKeySize)
	key := h.loadKey(t, h.createKey(t, value), approvals...)
	h.instance.Extend(t, 11, update)
	if mac, err := key.HMAC(t.Context(), []byte("x")); err != nil || mac != software(value, []byte("x")) {
		t.Errorf("a loaded key does not follow to the other approved state: %v", err)
	}
	h.instance.Extend(t, 14, []byte("something else"))
	_, err := key.HMAC(t.Context(), []byte("x"))
	var mismatch *tpm.PCRMismatchError
	if !errors.As(err, &mismatch) || len(mismatch.Approvals) != 2 ||
		len(mismatch.Approvals[0].Differences) != 2 || len(mismatch.Approvals[1].Differences) != 1 {
		t.Errorf("in neither state: %v", err)
	}
}

// badSigner signs, but not what it is asked to.
type badSigner struct{ *ecdsa.PrivateKey }

func (b badSigner) Sign(random io.Reader, _ []byte, options crypto.SignerOpts) ([]byte, error) {
	return b.PrivateKey.Sign(random, make([]byte, 32), options)
}

func TestApproveChecksItsArguments(t *testing.T) {
	key := newPolicyKey(t)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	uki, err := tpm.ParseProfile("uki", nil, false)
	if err != nil {
		t.Fatal(err)
	}
	id := [16]byte{1}
	values := tpm.PCRValues{7: {1}, 11: {2}, 12: {3}, 14: {4}}
	missing := maps.Clone(values)
	delete(missing, 12)
	for name, c := range map[string]struct {
		signer  crypto.Signer
		id      [16]byte
		profile tpm.Profile
		values  tpm.PCRValues
		want    error
	}{
		"good":            {key, id, uki, values, nil},
		"no signer":       {nil, id, uki, values, tpm.ErrArgument},
		"P-384":           {p384, id, uki, values, tpm.ErrArgument},
		"Ed25519":         {edwards, id, uki, values, tpm.ErrArgument},
		"no installation": {key, [16]byte{}, uki, values, tpm.ErrArgument},
		"zero profile":    {key, id, tpm.Profile{}, values, tpm.ErrProfile},
		"missing value":   {key, id, uki, missing, tpm.ErrProfile},
		"bad signature":   {badSigner{key}, id, uki, values, tpm.ErrApproval},
	} {
		approval, err := tpm.Approve(c.signer, c.id, c.profile, c.values)
		if !errors.Is(err, c.want) || (c.want == nil) != (err == nil) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if err == nil && approval.Verify(tpm.Authority{Key: &key.PublicKey, Installation: id}) != nil {
			t.Errorf("%s: the approval does not verify", name)
		}
	}
}

func TestApprovalBelongsToItsInstallation(t *testing.T) {
	key := newPolicyKey(t)
	approval := sampleApproval(t, key)
	for name, c := range map[string]struct {
		authority tpm.Authority
		want      error
	}{
		"other installation": {tpm.Authority{Key: &key.PublicKey, Installation: [16]byte{2}}, tpm.ErrApproval},
		"other key":          {tpm.Authority{Key: &newPolicyKey(t).PublicKey, Installation: [16]byte{1}}, tpm.ErrApproval},
		"zero":               {tpm.Authority{}, tpm.ErrArgument},
	} {
		if err := approval.Verify(c.authority); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	more := approval
	more.Values = maps.Clone(approval.Values)
	more.Values[0] = [32]byte{}
	if err := more.Verify(tpm.Authority{Key: &key.PublicKey, Installation: [16]byte{1}}); !errors.Is(err, tpm.ErrApproval) {
		t.Errorf("with a value too many: %v", err)
	}
}

func sampleApproval(t testing.TB, key *ecdsa.PrivateKey) tpm.Approval {
	t.Helper()
	profile, err := tpm.ParseProfile("list", []int{7, 11}, false)
	if err != nil {
		t.Fatal(err)
	}
	approval, err := tpm.Approve(key, [16]byte{1}, profile, tpm.PCRValues{7: {1}, 11: {2}})
	if err != nil {
		t.Fatal(err)
	}
	return approval
}

func TestApprovalEncoding(t *testing.T) {
	key := newPolicyKey(t)
	approval := sampleApproval(t, key)
	encoded, err := approval.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var decoded tpm.Approval
	if err := decoded.UnmarshalBinary(encoded); err != nil {
		t.Fatal(err)
	}
	if err := decoded.Verify(tpm.Authority{Key: &key.PublicKey, Installation: [16]byte{1}}); err != nil {
		t.Error(err)
	}
	for i := range encoded {
		if err := new(tpm.Approval).UnmarshalBinary(encoded[:i]); !errors.Is(err, tpm.ErrEncoding) {
			t.Errorf("cut off after %d bytes: %v", i, err)
		}
	}
	for name, bad := range map[string][]byte{
		"longer":      append(slices.Clone(encoded), 0),
		"version":     append([]byte{2}, encoded[1:]...),
		"other value": append(append(slices.Clone(encoded[:3]), encoded[3]^1), encoded[4:]...),
	} {
		if err := new(tpm.Approval).UnmarshalBinary(bad); !errors.Is(err, tpm.ErrEncoding) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzApproval(f *testing.F) {
	encoded, err := sampleApproval(f, newPolicyKey(f)).MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(encoded)
	f.Add([]byte{1, 0})
	f.Add([]byte{1, 255})
	f.Fuzz(func(t *testing.T, data []byte) {
		var approval tpm.Approval
		if err := approval.UnmarshalBinary(data); err != nil {
			if !errors.Is(err, tpm.ErrEncoding) {
				t.Fatal(err)
			}
			return
		}
		again, err := approval.MarshalBinary()
		if err != nil || !slices.Equal(again, data) {
			t.Fatalf("%x decodes, and encodes to %x, %v", data, again, err)
		}
	})
}

// sampleBlob is a blob of swtpm's with a private area that is only random.
func sampleBlob(t testing.TB) []byte {
	t.Helper()
	h := newHost(t)
	encoded, err := h.createKey(t, random(t, tpm.HMACKeySize)).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

func TestBlobEncoding(t *testing.T) {
	h := newHost(t)
	value := random(t, tpm.HMACKeySize)
	blob := h.createKey(t, value)
	encoded, err := blob.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var decoded tpm.Blob
	if err := decoded.UnmarshalBinary(encoded); err != nil {
		t.Fatal(err)
	}
	key := h.loadKey(t, decoded, h.approve(t))
	if mac, err := key.HMAC(t.Context(), nil); err != nil || mac != software(value, nil) {
		t.Errorf("the decoded blob: %v", err)
	}
	for i := range encoded {
		if err := new(tpm.Blob).UnmarshalBinary(encoded[:i]); !errors.Is(err, tpm.ErrEncoding) {
			t.Errorf("cut off after %d bytes: %v", i, err)
		}
	}
	if err := new(tpm.Blob).UnmarshalBinary(append(encoded, 0)); !errors.Is(err, tpm.ErrEncoding) {
		t.Errorf("longer: %v", err)
	}
}

func TestBlobName(t *testing.T) {
	h := newHost(t)
	value := random(t, tpm.HMACKeySize)
	first, second := h.createKey(t, value), h.createKey(t, value)
	name, err := first.Name()
	if err != nil || len(name) != 34 {
		t.Fatalf("%x, %v", name, err)
	}
	other, err := second.Name()
	if err != nil || slices.Equal(name, other) {
		t.Errorf("two objects with one name: %v", err)
	}
	if _, err := (tpm.Blob{}).Name(); !errors.Is(err, tpm.ErrEncoding) {
		t.Errorf("no blob: %v", err)
	}
}

func FuzzBlob(f *testing.F) {
	f.Add(sampleBlob(f))
	f.Add([]byte{1, 0, 1, 0, 0, 1, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		var blob tpm.Blob
		if err := blob.UnmarshalBinary(data); err != nil {
			if !errors.Is(err, tpm.ErrEncoding) {
				t.Fatal(err)
			}
			return
		}
		again, err := blob.MarshalBinary()
		if err != nil || !slices.Equal(again, data) {
			t.Fatalf("%x decodes, and encodes to %x, %v", data, again, err)
		}
		if _, err := blob.Name(); err != nil {
			t.Fatal(err)
		}
	})
}
