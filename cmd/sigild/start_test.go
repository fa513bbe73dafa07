package main

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/sigild/sigild/daemon"
	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/hsm"
	"github.com/sigild/sigild/ipc"
)

// refusedWith checks that sigild does not start and asks for a person.
func refusedWith(t *testing.T, h *daemontest.Host, words ...string) {
	t.Helper()
	code, said := refusedStart(t, h)
	if code != daemon.ExitConfig {
		t.Errorf("exit code %d", code)
	}
	mustContain(t, said, words...)
	mustNotLeak(t, said, h.TokenPIN())
}

// TestChangedMeasurementStopsTheStart extends each PCR of the profile; after a
// reboot into the approved state the daemon is back.
func TestChangedMeasurementStopsTheStart(t *testing.T) {
	h, c := serving(t)
	w := create(t, c, "1")
	for _, pcr := range []int{7, 11, 12, 14} {
		stop(t, h)
		if err := h.TPM.Extend(pcr, sha256.Sum256([]byte("another kernel"))); err != nil {
			t.Fatal(err)
		}
		refusedWith(t, h, fmt.Sprintf("PCR %d", pcr))
		if err := h.RebootTPM(testContext(t)); err != nil {
			t.Fatal(err)
		}
		start(t, h)
		if _, err := tryPIN(t, c, w.WalletID, rightPIN); err != nil {
			t.Fatal(err)
		}
	}
}

// TestChangedMeasurementStopsPINChecks changes a PCR under a daemon that runs:
// its next check is refused and costs nothing.
func TestChangedMeasurementStopsPINChecks(t *testing.T) {
	h, c := serving(t)
	w := create(t, c, "1")
	if err := h.TPM.Extend(12, sha256.Sum256([]byte("another command line"))); err != nil {
		t.Fatal(err)
	}
	_, err := tryPIN(t, c, w.WalletID, rightPIN)
	wantReason(t, err, "measuredState")
	if left := attemptsLeft(t, c, w.WalletID); left != 10 {
		t.Errorf("%d attempts left", left)
	}
}

func TestUnmeasuredPCRDoesNotMatter(t *testing.T) {
	h, c := serving(t)
	w := create(t, c, "1")
	stop(t, h)
	if err := h.TPM.Extend(4, sha256.Sum256([]byte("not of the profile"))); err != nil {
		t.Fatal(err)
	}
	start(t, h)
	signAll(t, c, w, 0)
}

func TestAnotherTPMStopsTheStart(t *testing.T) {
	h := newHost(t)
	provision(t, h)
	other := newHost(t)
	h.TPM, other.TPM = other.TPM, h.TPM
	defer func() { h.TPM, other.TPM = other.TPM, h.TPM }()
	if err := h.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	refusedWith(t, h, "storage root key")
}

// TestSerialNumberDoesNotMatter gives the token another serial number, as a
// clone has: the keys count.
func TestSerialNumberDoesNotMatter(t *testing.T) {
	h, c := serving(t)
	w := create(t, c, "1")
	before := serial(t, c)
	stop(t, h)
	replaceSerial(t, h, before, "5e71a1c10ed0c0de")
	start(t, h)
	if after := serial(t, c); after != "5e71a1c10ed0c0de" {
		t.Fatalf("the token's serial number is %q still", after)
	}
	signAll(t, c, w, 0)
}

func serial(t *testing.T, c *ipc.Client) string {
	t.Helper()
	s, err := c.Status(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	return s.Token.Serial
}

// replaceSerial changes the serial number in SoftHSM's files.
func replaceSerial(t *testing.T, h *daemontest.Host, from, to string) {
	t.Helper()
	changed := 0
	err := filepath.WalkDir(h.Tokens(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(data, []byte(from)) {
			return err
		}
		changed++
		return os.WriteFile(path, bytes.ReplaceAll(data, []byte(from), []byte(to)), 0o600)
	})
	if err != nil || changed == 0 {
		t.Fatalf("%d files with the serial number %s, %v", changed, from, err)
	}
}

// TestAnotherTokenOfTheSameNameStopsTheStart makes a token with the same label
// and PIN, first empty, then with keys of the same installation id.
func TestAnotherTokenOfTheSameNameStopsTheStart(t *testing.T) {
	h, c := serving(t)
	w := create(t, c, "1")
	stop(t, h)
	v := openVault(t, h)
	v.close(t)
	if err := os.Rename(h.Tokens(), h.Tokens()+".true"); err != nil {
		t.Fatal(err)
	}
	if err := h.NewToken(testContext(t)); err != nil {
		t.Fatal(err)
	}
	refusedWith(t, h, "missing on the token")
	makeKeys(t, h, v.doc)
	refusedWith(t, h, "not the one that was recorded", "wrap")
	if err := os.RemoveAll(h.Tokens()); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(h.Tokens()+".true", h.Tokens()); err != nil {
		t.Fatal(err)
	}
	start(t, h)
	signAll(t, c, w, 0)
}

// makeKeys makes an installation's keys on the host's token, with new values.
func makeKeys(t *testing.T, h *daemontest.Host, d document) {
	t.Helper()
	token, err := hsm.Open(testContext(t), hsm.Config{Module: daemontest.Module, Label: h.Label})
	if err != nil {
		t.Fatal(err)
	}
	defer token.Close()
	if err := token.Login(testContext(t), h.TokenPIN()); err != nil {
		t.Fatal(err)
	}
	if _, err := token.EnsureKeys(testContext(t), d.ID, 1, uint(d.Generations[0].Mechanism)); err != nil {
		t.Fatal(err)
	}
}

// TestPlantedKeyStopsTheStart plants a second object under the id of each
// long-lived key, as somebody with the user PIN can.
func TestPlantedKeyStopsTheStart(t *testing.T) {
	h := newHost(t)
	provision(t, h)
	v := openVault(t, h)
	v.close(t)
	for _, purpose := range []hsm.Purpose{hsm.Wrap, hsm.WrapSecret, hsm.PIN, hsm.Record, hsm.Identity} {
		t.Run(purpose.String(), func(t *testing.T) {
			id := hsm.KeyID(v.doc.ID, purpose, 1)
			plant(t, h, id)
			refusedWith(t, h, purpose.String(), "find out who made")
			uproot(t, h, id)
			start(t, h)
			stop(t, h)
		})
	}
}

const planted = "planted"

func plant(t *testing.T, h *daemontest.Host, id []byte) {
	t.Helper()
	l := login(t, h)
	value := make([]byte, 32)
	rand.Read(value)
	_, err := l.p.CreateObject(l.session, []*pkcs11.Attribute{
		attribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), attribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
		attribute(pkcs11.CKA_TOKEN, true), attribute(pkcs11.CKA_PRIVATE, true), attribute(pkcs11.CKA_ID, id),
		attribute(pkcs11.CKA_LABEL, planted), attribute(pkcs11.CKA_VALUE, value),
		attribute(pkcs11.CKA_WRAP, true), attribute(pkcs11.CKA_UNWRAP, true), attribute(pkcs11.CKA_SIGN, true),
	})
	l.leave()
	if err != nil {
		t.Fatal(err)
	}
}

func uproot(t *testing.T, h *daemontest.Host, id []byte) {
	t.Helper()
	l := login(t, h)
	err := l.p.DestroyObject(l.session, l.find(t, attribute(pkcs11.CKA_ID, id), attribute(pkcs11.CKA_LABEL, planted)))
	l.leave()
	if err != nil {
		t.Fatal(err)
	}
}

// TestForeignDatabaseStopsTheStart gives sigild files that are not a database
// of its own.
func TestForeignDatabaseStopsTheStart(t *testing.T) {
	h := newHost(t)
	provision(t, h)
	text := []byte(hex.Dump(make([]byte, 1<<16)))
	if err := os.WriteFile(h.Database(), text, 0o600); err != nil {
		t.Fatal(err)
	}
	refusedWith(t, h, "not a sigild database")
	if after, err := os.ReadFile(h.Database()); err != nil || !bytes.Equal(after, text) {
		t.Errorf("sigild changed a file that is not its own (error %v)", err)
	}
}

// TestAnotherHostsDatabaseStopsTheStart puts the database of another
// installation in the place of this one's.
func TestAnotherHostsDatabaseStopsTheStart(t *testing.T) {
	h, other := newHost(t), newHost(t)
	provision(t, h)
	provision(t, other)
	data, err := os.ReadFile(other.Database())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.Database(), data, 0o600); err != nil {
		t.Fatal(err)
	}
	refusedWith(t, h, "storage root key")
}
