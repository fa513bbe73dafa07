package tpm_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/sigild/sigild/tpm"
	"github.com/sigild/sigild/tpm/tpmtest"
)

func TestUnsealGivesTheDataBack(t *testing.T) {
	h := newHost(t)
	approval := h.approve(t)
	for _, size := range []int{1, 32, tpm.MaxSealed} {
		data := random(t, size)
		got, err := h.Unseal(t.Context(), h.seal(t, data), h.authority, []tpm.Approval{approval})
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%d bytes: %v", size, err)
		}
	}
}

func TestSizesAreChecked(t *testing.T) {
	h := newHost(t)
	for _, size := range []int{0, tpm.MaxSealed + 1} {
		if _, err := h.Seal(t.Context(), make([]byte, size), h.authority); !errors.Is(err, tpm.ErrArgument) {
			t.Errorf("Seal of %d bytes: %v", size, err)
		}
	}
	for _, size := range []int{0, tpm.HMACKeySize - 1, tpm.HMACKeySize + 1} {
		if _, err := h.CreateHMACKey(t.Context(), make([]byte, size), h.authority); !errors.Is(err, tpm.ErrArgument) {
			t.Errorf("CreateHMACKey of %d bytes: %v", size, err)
		}
	}
	key := h.loadKey(t, h.createKey(t, random(t, tpm.HMACKeySize)), h.approve(t))
	if _, err := key.HMAC(t.Context(), make([]byte, tpm.MaxHMACMessage+1)); !errors.Is(err, tpm.ErrArgument) {
		t.Errorf("HMAC of a message that is too long: %v", err)
	}
}

func TestUnsealRefusedInAnotherStateUntilApproved(t *testing.T) {
	h := newHost(t)
	data := random(t, 16)
	blob, first := h.seal(t, data), h.approve(t)
	h.instance.Extend(t, 7, []byte("secure boot off"))
	h.instance.Extend(t, 12, []byte("another command line"))
	h.instance.Extend(t, 9, []byte("not in the profile"))

	_, err := h.Unseal(t.Context(), blob, h.authority, []tpm.Approval{first})
	var mismatch *tpm.PCRMismatchError
	if !errors.As(err, &mismatch) {
		t.Fatalf("Unseal in another state: %v", err)
	}
	now := h.approve(t)
	for i, pcr := range []int{7, 12} {
		got := mismatch.Approvals[0].Differences[i]
		want := tpm.PCRDifference{PCR: pcr, Approved: first.Values[pcr], Actual: now.Values[pcr]}
		if got != want {
			t.Errorf("difference %d: %+v, want %+v", i, got, want)
		}
	}
	got, err := h.Unseal(t.Context(), blob, h.authority, []tpm.Approval{first, now})
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("after the new approval: %v", err)
	}
}

func TestApprovalByAnotherKeyIsRefused(t *testing.T) {
	h := newHost(t)
	blob, hmacBlob := h.seal(t, random(t, 16)), h.createKey(t, random(t, tpm.HMACKeySize))
	forged := h.approveWith(t, newPolicyKey(t))
	altered := h.approve(t)
	altered.Signature = slices.Clone(altered.Signature)
	altered.Signature[len(altered.Signature)-1] ^= 1
	relabelled := h.approve(t)
	relabelled.PolicyDigest[0] ^= 1
	for name, approvals := range map[string][]tpm.Approval{
		"none": nil, "zero": {{}}, "another key": {forged}, "altered": {altered}, "other digest": {relabelled},
	} {
		if _, err := h.Unseal(t.Context(), blob, h.authority, approvals); !errors.Is(err, tpm.ErrApproval) {
			t.Errorf("Unseal, %s: %v", name, err)
		}
		if _, err := h.LoadHMACKey(t.Context(), hmacBlob, h.authority, approvals); !errors.Is(err, tpm.ErrApproval) {
			t.Errorf("LoadHMACKey, %s: %v", name, err)
		}
	}
	if _, err := h.Unseal(t.Context(), blob, h.authority, []tpm.Approval{forged, h.approve(t)}); err != nil {
		t.Errorf("a forged approval keeps a good one from use: %v", err)
	}
}

func TestObjectsOfOthersAreRefused(t *testing.T) {
	h, other := newHost(t), newHost(t)
	approvals := []tpm.Approval{h.approve(t)}
	sealed, key := h.seal(t, random(t, 16)), h.createKey(t, random(t, tpm.HMACKeySize))

	foreign, err := other.Seal(t.Context(), random(t, 16), h.authority)
	if err != nil {
		t.Fatal(err)
	}
	moved := h.authority
	moved.Installation[0] ^= 1
	otherInstallation, err := h.Seal(t.Context(), random(t, 16), moved)
	if err != nil {
		t.Fatal(err)
	}
	altered := tpm.Blob{Public: sealed.Public, Private: slices.Clone(sealed.Private)}
	altered.Private[len(altered.Private)-1] ^= 1
	spliced := tpm.Blob{Public: sealed.Public, Private: h.seal(t, random(t, 16)).Private}
	for _, c := range []struct {
		name string
		blob tpm.Blob
		want error
	}{
		{"made by another TPM", foreign, tpm.ErrObjectForeign},
		{"of another policy key", other.seal(t, random(t, 16)), tpm.ErrObjectPolicy},
		{"of another installation", otherInstallation, tpm.ErrObjectPolicy},
		{"an HMAC key", key, tpm.ErrObjectType},
		{"altered", altered, tpm.ErrObjectForeign},
		{"private area of another object", spliced, tpm.ErrObjectForeign},
		{"cut off", tpm.Blob{Public: sealed.Public, Private: sealed.Private[:40]}, tpm.ErrObjectForeign},
		{"empty", tpm.Blob{}, tpm.ErrEncoding},
	} {
		if _, err := h.Unseal(t.Context(), c.blob, h.authority, approvals); !errors.Is(err, c.want) {
			t.Errorf("Unseal of a blob %s: %v, want %v", c.name, err, c.want)
		}
	}
	if _, err := h.LoadHMACKey(t.Context(), sealed, h.authority, approvals); !errors.Is(err, tpm.ErrObjectType) {
		t.Errorf("sealed data loaded as a key: %v", err)
	}
}

// weaker gives the blob's public area with other attributes.
func weaker(t *testing.T, blob tpm.Blob, change func(*tpm2.TPMTPublic)) tpm.Blob {
	t.Helper()
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](blob.Public)
	if err != nil {
		t.Fatal(err)
	}
	change(public)
	return tpm.Blob{Public: tpm2.Marshal(*public), Private: blob.Private}
}

func TestWeakerAttributesAreRefused(t *testing.T) {
	h := newHost(t)
	approvals, sealed := []tpm.Approval{h.approve(t)}, h.seal(t, random(t, 16))
	for name, change := range map[string]func(*tpm2.TPMTPublic){
		"userWithAuth":    func(p *tpm2.TPMTPublic) { p.ObjectAttributes.UserWithAuth = true },
		"adminWithPolicy": func(p *tpm2.TPMTPublic) { p.ObjectAttributes.AdminWithPolicy = false },
		"fixedTPM":        func(p *tpm2.TPMTPublic) { p.ObjectAttributes.FixedTPM = false },
		"fixedParent":     func(p *tpm2.TPMTPublic) { p.ObjectAttributes.FixedParent = false },
		"noDA":            func(p *tpm2.TPMTPublic) { p.ObjectAttributes.NoDA = false },
	} {
		_, err := h.Unseal(t.Context(), weaker(t, sealed, change), h.authority, approvals)
		if !errors.Is(err, tpm.ErrObjectType) {
			t.Errorf("%s changed: %v", name, err)
		}
	}
	none := weaker(t, sealed, func(p *tpm2.TPMTPublic) { p.AuthPolicy.Buffer = nil })
	if _, err := h.Unseal(t.Context(), none, h.authority, approvals); !errors.Is(err, tpm.ErrObjectPolicy) {
		t.Errorf("no policy: %v", err)
	}
}

func TestBadAuthoritiesAreRefused(t *testing.T) {
	h := newHost(t)
	noKey, noInstallation := h.authority, h.authority
	noKey.Key = nil
	noInstallation.Installation = [16]byte{}
	for name, authority := range map[string]tpm.Authority{
		"zero": {}, "no key": noKey, "no installation": noInstallation,
	} {
		if _, err := h.Seal(t.Context(), []byte("x"), authority); !errors.Is(err, tpm.ErrArgument) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBlobsStayUsableOverARestart(t *testing.T) {
	instance := tpmtest.New(t)
	h := newHostOn(t, instance, tpm.Config{Device: instance.Device})
	value, data := random(t, tpm.HMACKeySize), random(t, 32)
	keyBlob, sealed, approval := h.createKey(t, value), h.seal(t, data), h.approve(t)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	for _, clean := range []bool{true, false} {
		instance.Restart(clean)
		h.TPM = open(t, instance.Device)
		if got, err := h.Unseal(t.Context(), sealed, h.authority, []tpm.Approval{approval}); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("Unseal after a restart: %v", err)
		}
		key := h.loadKey(t, keyBlob, approval)
		if mac, err := key.HMAC(t.Context(), data); err != nil || mac != software(value, data) {
			t.Fatalf("HMAC after a restart: %v", err)
		}
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
