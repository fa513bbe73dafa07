package hsm_test

import (
	"encoding/asn1"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/sigild/sigild/hsm"
	"github.com/sigild/sigild/hsm/hsmtest"
)

// BenchmarkSign compares signing through this package with bare C_SignInit and
// C_Sign, one at a time and with eight callers.
func BenchmarkSign(b *testing.B) {
	instance := hsmtest.New(b)
	keys := hsmtest.Provision(b, instance.Open(b), hsmtest.Installation(), 1)
	object, _, err := keys.GenerateRoot(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	direct := newDirect(b, instance.Module)
	digest := [32]byte{1}
	b.Run("direct", func(b *testing.B) {
		for b.Loop() {
			direct.sign(b, direct.sessions[0], digest)
		}
	})
	b.Run("keys", func(b *testing.B) {
		for b.Loop() {
			if _, err := keys.SignECDSA(b.Context(), object, digest); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("direct/parallel", func(b *testing.B) {
		free := make(chan pkcs11.SessionHandle, len(direct.sessions))
		for _, s := range direct.sessions {
			free <- s
		}
		b.SetParallelism(4)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				s := <-free
				direct.sign(b, s, digest)
				free <- s
			}
		})
	})
	b.Run("keys/parallel", func(b *testing.B) {
		b.SetParallelism(4)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := keys.SignECDSA(b.Context(), object, digest); err != nil {
					b.Error(err)
				}
			}
		})
	})
}

func BenchmarkUnwrap(b *testing.B) {
	_, keys := hsmtest.Provisioned(b)
	object, _, err := keys.GenerateRoot(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	wrapped, err := keys.Wrap(b.Context(), hsm.Wrap, object)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		o, err := keys.Unwrap(b.Context(), hsm.Wrap, wrapped)
		if err != nil {
			b.Fatal(err)
		}
		if err := keys.Destroy(b.Context(), o); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHMAC(b *testing.B) {
	_, keys := hsmtest.Provisioned(b)
	message := make([]byte, 64)
	for b.Loop() {
		if _, err := keys.HMAC(b.Context(), hsm.PIN, message); err != nil {
			b.Fatal(err)
		}
	}
}

// direct is bare PKCS#11 with four sessions and a key of its own.
type direct struct {
	p        *pkcs11.Ctx
	sessions []pkcs11.SessionHandle
	key      pkcs11.ObjectHandle
}

func newDirect(b *testing.B, module string) direct {
	b.Helper()
	d := direct{p: pkcs11.New(module)}
	b.Cleanup(d.p.Destroy)
	slots, err := d.p.GetSlotList(true)
	if err != nil {
		b.Fatal(err)
	}
	for range 4 {
		s, err := d.p.OpenSession(slots[0], pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
		if err != nil {
			b.Fatal(err)
		}
		d.sessions = append(d.sessions, s)
	}
	oid, err := asn1.Marshal(asn1.ObjectIdentifier{1, 3, 132, 0, 10})
	if err != nil {
		b.Fatal(err)
	}
	_, d.key, err = d.p.GenerateKeyPair(d.sessions[0], mechanism(pkcs11.CKM_EC_KEY_PAIR_GEN),
		[]*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false), pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, oid)},
		[]*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false), pkcs11.NewAttribute(pkcs11.CKA_SIGN, true)})
	if err != nil {
		b.Fatal(err)
	}
	return d
}

func (d direct) sign(b *testing.B, s pkcs11.SessionHandle, digest [32]byte) {
	if err := d.p.SignInit(s, mechanism(pkcs11.CKM_ECDSA), d.key); err != nil {
		b.Error(err)
		return
	}
	if _, err := d.p.Sign(s, digest[:]); err != nil {
		b.Error(err)
	}
}
