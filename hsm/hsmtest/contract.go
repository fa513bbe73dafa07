package hsmtest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"slices"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	secpecdsa "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"github.com/sigild/sigild/hsm"
)

// Exception is something that a token is known not to do.
type Exception string

// The exceptions that Contract knows.
const (
	NoSeedRandom  Exception = "no C_SeedRandom"
	NoEnforcement Exception = "the unwrap template is not enforced by the token"
	NoTransit     Exception = "no AES-GCM"
	NoImport      Exception = "no C_CreateObject of a private key"
	NoExport      Exception = "no wrapping under a known key"
)

// contract is one run of the suite.
type contract struct {
	token      *hsm.Token
	keys       *hsm.Keys
	exceptions []Exception
}

func (c contract) except(e Exception) bool { return slices.Contains(c.exceptions, e) }

// Contract is what every token must do for sigild. open returns a token that is
// logged in; Contract makes the keys of a random installation on it. An exception
// turns a check around: the token must then really lack the ability.
func Contract(t *testing.T, open func(testing.TB) *hsm.Token, exceptions ...Exception) {
	token := open(t)
	c := contract{token: token, keys: Provision(t, token, Installation(), 1), exceptions: exceptions}
	for _, part := range []struct {
		name string
		run  func(contract, *testing.T)
	}{
		{"random bytes differ", contract.random},
		{"seed", contract.seed},
		{"enforcement", contract.enforcement},
		{"root survives wrapping", contract.root},
		{"secret survives wrapping", contract.secret},
		{"forged keys are refused", contract.forged},
		{"a wallet key cannot be wrapped again", contract.rewrap},
		{"a private key comes in", contract.imported},
		{"an exportable key goes out", contract.exported},
		{"HMAC keys", contract.macs},
		{"P-256 signers", contract.signers},
		{"health probe", contract.probe},
		{"fingerprints", contract.fingerprints},
		{"a stale object is refused", contract.stale},
	} {
		t.Run(part.name, func(t *testing.T) {
			part.run(c, t)
			c.noneLeft(t)
		})
	}
}

// noneLeft checks that a part left no session object behind.
func (c contract) noneLeft(t *testing.T) {
	t.Helper()
	n, err := c.keys.SessionObjects(t.Context())
	if err != nil || n != 0 {
		t.Errorf("%d session objects are left (%v)", n, err)
	}
}

func (c contract) random(t *testing.T) {
	a, errA := c.token.Random(t.Context(), 32)
	b, errB := c.token.Random(t.Context(), 32)
	if err := errors.Join(errA, errB); err != nil {
		t.Fatal(err)
	}
	if len(a) != 32 || bytes.Equal(a, b) || bytes.Equal(a, make([]byte, 32)) {
		t.Error("the token's random bytes are constant or short")
	}
}

func (c contract) seed(t *testing.T) {
	err := c.token.SeedRandom(t.Context(), []byte("some more entropy for the token"))
	if c.except(NoSeedRandom) != errors.Is(err, hsm.ErrUnsupported) {
		t.Errorf("SeedRandom: %v", err)
	}
}

func (c contract) enforcement(t *testing.T) {
	byToken := c.keys.Enforcement() == hsm.EnforcedByToken
	if byToken == c.except(NoEnforcement) {
		t.Errorf("enforcement is %q", c.keys.Enforcement())
		for _, p := range c.keys.Proofs() {
			t.Logf("%+v", p)
		}
	}
}

func (c contract) root(t *testing.T) {
	for _, p := range []hsm.Purpose{hsm.Wrap, hsm.WrapExport} {
		o, point, err := c.keys.GenerateRoot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		again := c.carry(t, p, o)
		digest := [32]byte{1, 2, 3}
		signature, err := c.keys.SignECDSA(t.Context(), again, digest)
		if err != nil {
			t.Fatal(err)
		}
		if !verify(t, point, digest, signature) {
			t.Errorf("%v: the signature does not verify", p)
		}
		c.destroy(t, o, again)
	}
}

func (c contract) secret(t *testing.T) {
	secret := make([]byte, 64)
	_, _ = rand.Read(secret)
	want := hmac.New(sha512.New, secret)
	want.Write([]byte("message"))
	for _, p := range []hsm.Purpose{hsm.WrapSecret, hsm.WrapExportSecret} {
		o, err := c.keys.ImportSecret(t.Context(), secret)
		if err != nil {
			t.Fatal(err)
		}
		again := c.carry(t, p, o)
		for _, object := range []hsm.Object{o, again} {
			var got [64]byte
			err := c.keys.HMACSHA512(t.Context(), object, []byte("message"), &got)
			if err != nil || !hmac.Equal(got[:], want.Sum(nil)) {
				t.Errorf("%v: HMAC-SHA512 is wrong (%v)", p, err)
			}
		}
		c.destroy(t, o, again)
	}
}

// carry wraps and unwraps an object.
func (c contract) carry(t *testing.T, p hsm.Purpose, o hsm.Object) hsm.Object {
	t.Helper()
	wrapped, err := c.keys.Wrap(t.Context(), p, o)
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.keys.Unwrap(t.Context(), p, wrapped)
	if err != nil {
		t.Fatal(err)
	}
	return again
}

func (c contract) destroy(t *testing.T, objects ...hsm.Object) {
	t.Helper()
	if err := c.keys.Destroy(t.Context(), objects...); err != nil {
		t.Error(err)
	}
}

// forged flips one bit at every byte, cuts, and gives the key of another
// purpose.
func (c contract) forged(t *testing.T) {
	o, _, err := c.keys.GenerateRoot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.destroy(t, o)
	good, err := c.keys.Wrap(t.Context(), hsm.Wrap, o)
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := slices.Clone(good)
		bad[i] ^= 0x10
		c.refuses(t, hsm.Wrap, bad)
	}
	for _, bad := range [][]byte{nil, good[:1], good[:len(good)-8], append(slices.Clone(good), 0), make([]byte, 4096)} {
		c.refuses(t, hsm.Wrap, bad)
	}
	for _, p := range []hsm.Purpose{hsm.WrapSecret, hsm.WrapExport, hsm.WrapExportSecret} {
		c.refuses(t, p, good)
	}
}

func (c contract) refuses(t *testing.T, p hsm.Purpose, wrapped []byte) {
	t.Helper()
	o, err := c.keys.Unwrap(t.Context(), p, wrapped)
	if !errors.Is(err, hsm.ErrWrappedKey) {
		t.Errorf("%v unwraps a bad key of %d bytes: %v", p, len(wrapped), err)
		c.destroy(t, o)
	}
}

// rewrap checks that only the export keys give a key that can be wrapped again.
func (c contract) rewrap(t *testing.T) {
	for p, again := range map[hsm.Purpose]bool{hsm.Wrap: false, hsm.WrapExport: true} {
		o, _, err := c.keys.GenerateRoot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		carried := c.carry(t, p, o)
		_, err = c.keys.Wrap(t.Context(), hsm.WrapExport, carried)
		if (err == nil) != again {
			t.Errorf("a key unwrapped under %v is wrapped again: %v", p, err)
		}
		c.destroy(t, o, carried)
	}
}

// imported brings a private key in, and carries it through both wrap keys.
func (c contract) imported(t *testing.T) {
	if able := c.keys.CanImport() == nil; able == c.except(NoImport) {
		t.Errorf("import: %v", c.keys.CanImport())
	}
	if c.except(NoImport) {
		return
	}
	d := secp256k1.PrivKeyFromBytes(sha256.New().Sum(nil))
	scalar := [32]byte(d.Serialize())
	for _, p := range []hsm.Purpose{hsm.Wrap, hsm.WrapExport} {
		o, point, err := c.keys.ImportRoot(t.Context(), &scalar)
		if err != nil || !bytes.Equal(point[:], d.PubKey().SerializeUncompressed()) {
			t.Fatalf("the point is %x, %v", point, err)
		}
		again := c.carry(t, p, o)
		digest := [32]byte{1, 2, 3}
		if signature, err := c.keys.SignECDSA(t.Context(), again, digest); err != nil || !verify(t, point, digest, signature) {
			t.Errorf("%v: the signature does not verify (%v)", p, err)
		}
		c.destroy(t, o, again)
	}
}

// exported carries a key out that the token made, and checks that only an
// exportable one goes.
func (c contract) exported(t *testing.T) {
	if able := c.keys.CanExport() == nil; able == c.except(NoExport) {
		t.Errorf("export: %v", c.keys.CanExport())
	}
	if c.except(NoExport) {
		return
	}
	for p, goes := range map[hsm.Purpose]bool{hsm.Wrap: false, hsm.WrapExport: true} {
		o, point, err := c.keys.GenerateRoot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		again := c.carry(t, p, o)
		var key, scalar [32]byte
		_, _ = rand.Read(key[:])
		wrapped, err := c.keys.WrapKnown(t.Context(), again, &key)
		if (err == nil) != goes {
			t.Errorf("a key unwrapped under %v goes out: %v", p, err)
		}
		if goes && (hsm.UnwrapKnown(&key, wrapped, &scalar) != nil ||
			!bytes.Equal(secp256k1.PrivKeyFromBytes(scalar[:]).PubKey().SerializeUncompressed(), point[:])) {
			t.Errorf("another key goes out")
		}
		c.destroy(t, o, again)
	}
}

func (c contract) macs(t *testing.T) {
	seen := map[[32]byte]bool{}
	for _, p := range []hsm.Purpose{hsm.PIN, hsm.Record} {
		for _, message := range []string{"a", "b"} {
			first, errA := c.keys.HMAC(t.Context(), p, []byte(message))
			second, errB := c.keys.HMAC(t.Context(), p, []byte(message))
			if err := errors.Join(errA, errB); err != nil || first != second || seen[first] {
				t.Errorf("HMAC under %v is not a function of key and message (%v)", p, err)
			}
			seen[first] = true
		}
	}
}

func (c contract) signers(t *testing.T) {
	digest := sha256.Sum256([]byte("receipt"))
	for _, p := range []hsm.Purpose{hsm.Identity, hsm.Audit, hsm.Policy} {
		signer, err := c.keys.Signer(p)
		if err != nil {
			t.Fatal(err)
		}
		public, err := c.keys.Public(p)
		if err != nil || !public.Equal(signer.Public()) {
			t.Fatalf("%v: the signer has another public key (%v)", p, err)
		}
		signature, err := signer.Sign(nil, digest[:], crypto.SHA256)
		if err != nil || !ecdsa.VerifyASN1(public, digest[:], signature) {
			t.Errorf("%v: the signature does not verify (%v)", p, err)
		}
	}
}

func (c contract) probe(t *testing.T) {
	if err := c.keys.ProbeSign(t.Context()); err != nil {
		t.Error(err)
	}
}

func (c contract) fingerprints(t *testing.T) {
	for _, p := range hsm.Purposes() {
		if p == hsm.WrapTransit && c.keys.Has(p) == c.except(NoTransit) {
			t.Errorf("the transit key: present %v", c.keys.Has(p))
		}
		if !c.keys.Has(p) {
			continue
		}
		fp, err := c.keys.MakeFingerprint(t.Context(), p)
		if err != nil || len(fp) == 0 || len(fp) >= 512 {
			t.Fatalf("%v: a fingerprint of %d bytes: %v", p, len(fp), err)
		}
		if err := c.keys.CheckFingerprint(t.Context(), p, fp); err != nil {
			t.Errorf("%v: %v", p, err)
		}
		fp[len(fp)/2] ^= 1
		if err := c.keys.CheckFingerprint(t.Context(), p, fp); !errors.Is(err, hsm.ErrKeyChanged) {
			t.Errorf("%v: a changed fingerprint: %v", p, err)
		}
	}
}

func (c contract) stale(t *testing.T) {
	o, _, err := c.keys.GenerateRoot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.keys.Destroy(ctx, o); err != nil {
		t.Errorf("destroy with a context that has ended: %v", err)
	}
	if _, err := c.keys.SignECDSA(t.Context(), o, [32]byte{1}); !errors.Is(err, hsm.ErrObjectLost) {
		t.Errorf("a destroyed object: %v", err)
	}
	c.destroy(t, o)
}

// verify checks a raw secp256k1 signature in software.
func verify(t *testing.T, point [65]byte, digest [32]byte, signature [64]byte) bool {
	t.Helper()
	key, err := secp256k1.ParsePubKey(point[:])
	if err != nil {
		t.Fatal(err)
	}
	var r, s secp256k1.ModNScalar
	if r.SetByteSlice(signature[:32]) || s.SetByteSlice(signature[32:]) {
		return false
	}
	return secpecdsa.NewSignature(&r, &s).Verify(digest[:], key)
}
