package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"go.etcd.io/bbolt"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/hsm"
	"github.com/sigild/sigild/ipc"
	"github.com/sigild/sigild/tpm"
)

// document is the installation as the database holds it, read by its
// documented form and not by the daemon's code.
type document struct {
	ID          seal.ID `cbor:"1,keyasint"`
	Generations []struct {
		Number    uint32 `cbor:"1,keyasint"`
		Mechanism uint64 `cbor:"2,keyasint"`
	} `cbor:"4,keyasint"`
	PolicyKey []byte `cbor:"8,keyasint"`
	HostKeys  []struct {
		Number   uint32 `cbor:"1,keyasint"`
		Blob     []byte `cbor:"2,keyasint"`
		Recovery []byte `cbor:"3,keyasint"`
	} `cbor:"9,keyasint"`
	TokenPIN  []byte   `cbor:"10,keyasint"`
	Approvals [][]byte `cbor:"11,keyasint"`
}

// vault is a stopped installation in the test's own hands: the database, the
// token with its user logged in, and the TPM's host key.
type vault struct {
	doc     document
	db      *bbolt.DB
	token   *hsm.Token
	keys    *hsm.Keys
	factors deviceFactors
}

// deviceFactors are the two true factors of a PIN check.
type deviceFactors struct {
	keys *hsm.Keys
	host *tpm.HMACKey
}

func (f deviceFactors) Pepper(ctx context.Context, m []byte, h1 *[32]byte) error {
	return f.keys.HMACInto(ctx, hsm.PIN, m, h1)
}

func (f deviceFactors) Host(ctx context.Context, m []byte, h2 *[32]byte) error {
	return f.host.HMACInto(ctx, m, h2)
}

// openVault opens everything that belongs to the host, whose sigild must not be
// running. It is closed when the test ends, or by close.
func openVault(t testing.TB, h *daemontest.Host) *vault {
	t.Helper()
	ctx := testContext(t)
	v := &vault{db: openDatabase(t, h)}
	v.doc = readDocument(t, v.db)
	useEnvironment(t, h)
	token, err := hsm.Open(ctx, hsm.Config{Module: daemontest.Module, Label: h.Label})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = token.Close() }) // a second close is an error
	c := openChip(t, h, v.doc)
	if err := token.Login(ctx, c.tokenPIN(t, h, v.doc)); err != nil {
		t.Fatal(err)
	}
	g := v.doc.Generations[0]
	if v.keys, err = token.OpenKeys(ctx, v.doc.ID, g.Number, uint(g.Mechanism)); err != nil {
		t.Fatal(err)
	}
	v.token, v.factors = token, deviceFactors{v.keys, c.hostKey(t, v.doc)}
	return v
}

// useEnvironment gives this process what the host's sigild gets.
func useEnvironment(t testing.TB, h *daemontest.Host) {
	t.Helper()
	for _, line := range h.Environment() {
		name, value, _ := strings.Cut(line, "=")
		t.Setenv(name, value)
	}
}

func openDatabase(t testing.TB, h *daemontest.Host) *bbolt.DB {
	t.Helper()
	db, err := bbolt.Open(h.Database(), 0o600, &bbolt.Options{Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// stored reads one value.
func stored(t testing.TB, db *bbolt.DB, bucket string, key []byte) (value []byte) {
	t.Helper()
	err := db.View(func(tx *bbolt.Tx) error {
		value = append(value, tx.Bucket([]byte(bucket)).Get(key)...)
		return nil
	})
	if err != nil || len(value) == 0 {
		t.Fatalf("bucket %s has no value for %x (error %v)", bucket, key, err)
	}
	return value
}

func readDocument(t testing.TB, db *bbolt.DB) (d document) {
	t.Helper()
	var envelope struct {
		_      struct{} `cbor:",toarray"`
		Format uint8
		Body   []byte
		MAC    []byte
	}
	if err := cbor.Unmarshal(stored(t, db, "meta", []byte("installation")), &envelope); err != nil {
		t.Fatal(err)
	}
	if err := cbor.Unmarshal(envelope.Body, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// openChip opens the host's TPM and what the document says of its measured states.
func openChip(t testing.TB, h *daemontest.Host, d document) *chip {
	t.Helper()
	device, err := tpm.Open(testContext(t), tpm.Config{Device: h.TPM.Device})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = device.Close() })
	policyKey, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), d.PolicyKey)
	if err != nil {
		t.Fatal(err)
	}
	c := &chip{device, tpm.Authority{Key: policyKey, Installation: d.ID}, make([]tpm.Approval, len(d.Approvals))}
	for i, data := range d.Approvals {
		if err := c.approvals[i].UnmarshalBinary(data); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// chip is the TPM of a host.
type chip struct {
	*tpm.TPM
	authority tpm.Authority
	approvals []tpm.Approval
}

func (c *chip) hostKey(t testing.TB, d document) *tpm.HMACKey {
	t.Helper()
	var blob tpm.Blob
	if err := blob.UnmarshalBinary(d.HostKeys[0].Blob); err != nil {
		t.Fatal(err)
	}
	key, err := c.LoadHMACKey(testContext(t), blob, c.authority, c.approvals)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// tokenPIN is the one that the host was made with or, of a host from before, the one
// that the TPM keeps.
func (c *chip) tokenPIN(t testing.TB, h *daemontest.Host, d document) []byte {
	t.Helper()
	if pin := h.TokenPIN(); len(pin) > 0 {
		return pin
	}
	var blob tpm.Blob
	if err := blob.UnmarshalBinary(d.TokenPIN); err != nil {
		t.Fatal(err)
	}
	pin, err := c.Unseal(testContext(t), blob, c.authority, c.approvals)
	if err != nil {
		t.Fatal(err)
	}
	return pin
}

// record reads and verifies a wallet's record.
func (v *vault) record(t testing.TB, wallet ipc.Hex) *seal.Parsed {
	t.Helper()
	p, err := seal.Parse(testContext(t), stored(t, v.db, "records", wallet), v.doc.ID, seal.ID(wallet),
		func(ctx context.Context, m []byte) ([32]byte, error) { return v.keys.HMAC(ctx, hsm.Record, m) })
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// unseal opens a record with a PIN and factors.
func unseal(t testing.TB, p *seal.Parsed, pin string, f seal.Factors) (*seal.Wrapped, error) {
	t.Helper()
	key, err := seal.DeriveKey(testContext(t), []byte(pin), p.Header.Wallet, p.Header.KDF, f)
	if err != nil {
		t.Fatal(err)
	}
	return seal.Open(key, p.Record.Header, p.Record.Box)
}

// close lets go of the token and the database.
func (v *vault) close(t testing.TB) {
	t.Helper()
	if err := v.token.Close(); err != nil {
		t.Fatal(err)
	}
	if err := v.db.Close(); err != nil {
		t.Fatal(err)
	}
}

// dump gives all that the database of a stopped sigild holds.
func dump(t testing.TB, h *daemontest.Host) map[string]string {
	t.Helper()
	db := openDatabase(t, h)
	all := map[string]string{}
	err := db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			return b.ForEach(func(k, v []byte) error {
				all[string(name)+"/"+string(k)] = string(v)
				return nil
			})
		})
	})
	if err = errors.Join(err, db.Close()); err != nil || len(all) == 0 {
		t.Fatalf("the database holds %d values (error %v)", len(all), err)
	}
	return all
}
