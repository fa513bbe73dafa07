package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"go.etcd.io/bbolt"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/daemon/entropy/kmstest"
	"github.com/sigild/sigild/ipc"
)

// TestRecordedConversations plays testdata/service/*.txt: every method's
// successes and refusals, each file with wallets of its own on one host.
func TestRecordedConversations(t *testing.T) {
	h, _ := serving(t, withConfig(map[string]string{"limits": "unlocks = 2"}))
	files, err := filepath.Glob("testdata/service/*.txt")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d conversations, %v", len(files), err)
	}
	r := recorded(h)
	seen := map[string]bool{}
	r.Told = func(answer []byte) { seen[reasonIn(answer)] = true }
	r.Hooks = map[string]func(*testing.T){"another wallet is unlocked": func(t *testing.T) { unlockAnother(t, h) }}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { r.Play(t, file) })
	}
	for _, reason := range []string{"wrongPin", "pinWait", "pinSyntax", "pinWeak", "unlockRequired", "termsExceeded", "policyDenied",
		"notFound", "frozen", "deleted", "requestReused", "externalIdTaken", "tooManyAccounts", "wrongSender", "digest",
		"invalidParams", "tooManyUnlocks"} {
		if !seen[reason] {
			t.Errorf("no conversation shows the reason %q", reason)
		}
	}
}

// reasonIn is the reason of an answer, "" of a result.
func reasonIn(answer []byte) string {
	var a struct{ Error *ipc.Error }
	if json.Unmarshal(answer, &a) != nil || a.Error == nil {
		return ""
	}
	return a.Error.Reason
}

// unlockAnother takes the last place for an unlock.
func unlockAnother(t *testing.T, h *daemontest.Host) {
	t.Helper()
	c := dial(t, h.Socket)
	w := create(t, c, t.Name())
	_, err := c.Unlock(testContext(t), ipc.UnlockParams{WalletID: w.WalletID, PIN: ipc.Secret(rightPIN), Bind: "uid",
		Terms: ipc.Terms{Signatures: 1, Seconds: 300, TotalValue: ipc.Any, Policy: ipc.Policy{Operations: []string{"message"}}}})
	wantReason(t, err, "tooManyUnlocks")
}

// TestRecordedFaults plays testdata/faults/*.txt, each on a host of its own on
// which something fails.
func TestRecordedFaults(t *testing.T) {
	for name, prepare := range map[string]func(*testing.T) (*daemontest.Host, map[string]func(*testing.T)){
		"kms": recordedKMSFaults, "token": recordedTokenFaults, "tpm": recordedTPMFaults, "state": stateFaults, "record": recordFaults, "overload": overload, "locked": fewAttempts,
	} {
		t.Run(name, func(t *testing.T) {
			h, hooks := prepare(t)
			r := recorded(h)
			r.Hooks = hooks
			r.Play(t, filepath.Join("testdata/faults", name+".txt"))
		})
	}
}

func recordedKMSFaults(t *testing.T) (*daemontest.Host, map[string]func(*testing.T)) {
	h, _ := serving(t, quickKMS())
	return h, map[string]func(*testing.T){
		"KMS throttles": func(*testing.T) { h.KMS.Throttle(kmstest.Always) },
		"KMS answers":   func(*testing.T) { h.KMS.Reset() },
	}
}

func recordedTokenFaults(t *testing.T) (*daemontest.Host, map[string]func(*testing.T)) {
	const argumentsBad, writeProtected = 0x7, 0xe2 // refusals; of a device's fault the daemon recovers by itself
	faults, module := faultyToken(t)
	h, _ := serving(t, module)
	return h, map[string]func(*testing.T){
		"the token refuses the wrapped key once": func(*testing.T) { faults.FailOnce("C_UnwrapKey", argumentsBad) },
		"the token makes no key once":            func(*testing.T) { faults.FailOnce("C_GenerateKeyPair", writeProtected) },
	}
}

func recordedTPMFaults(t *testing.T) (*daemontest.Host, map[string]func(*testing.T)) {
	h, _ := serving(t)
	return h, map[string]func(*testing.T){"the TPM dies": func(*testing.T) { h.TPM.Kill() }}
}

func stateFaults(t *testing.T) (*daemontest.Host, map[string]func(*testing.T)) {
	h, _ := serving(t)
	return h, map[string]func(*testing.T){"the host's state changes": func(t *testing.T) {
		if err := h.TPM.Extend(12, sha256.Sum256([]byte("another command line"))); err != nil {
			t.Fatal(err)
		}
	}}
}

func recordFaults(t *testing.T) (*daemontest.Host, map[string]func(*testing.T)) {
	h, _ := serving(t)
	return h, map[string]func(*testing.T){"records are changed": func(t *testing.T) {
		stop(t, h)
		changeRecords(t, h)
		start(t, h)
	}}
}

func fewAttempts(t *testing.T) (*daemontest.Host, map[string]func(*testing.T)) {
	h, _ := serving(t, withConfig(map[string]string{"pin": cheapPIN + "\nconsecutive = 3"}))
	return h, nil
}

// changeRecords flips the last bit of every record.
func changeRecords(t *testing.T, h *daemontest.Host) {
	t.Helper()
	db := openDatabase(t, h)
	err := db.Update(func(tx *bbolt.Tx) error {
		records := tx.Bucket([]byte("records"))
		return records.ForEach(func(id, record []byte) error {
			changed := bytes.Clone(record)
			changed[len(changed)-1] ^= 1
			return records.Put(id, changed)
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// overload lets one PIN check go on for as long as a test wants: its TPM command
// is held up on the way.
func overload(t *testing.T) (*daemontest.Host, map[string]func(*testing.T)) {
	h := newHost(t, withConfig(map[string]string{"pin": cheapPIN + "\nchecks = 1\nwaiting = 0"}))
	provision(t, h)
	tap, err := h.TapTPM()
	if err != nil {
		t.Fatal(err)
	}
	start(t, h)
	other := create(t, dial(t, h.Socket), "other")
	begun, goOn, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	return h, map[string]func(*testing.T){
		"a check of another wallet goes on": func(t *testing.T) {
			hold := sync.OnceFunc(func() { close(begun); <-goOn })
			tap.Watch(func(code uint32) {
				if code == uint32(tpm2.TPMCCHMAC) {
					hold()
				}
			})
			c := dial(t, h.Socket)
			go func() {
				_, err := tryPIN(t, c, other.WalletID, rightPIN)
				ended <- err
			}()
			<-begun
		},
		"it ends": func(t *testing.T) {
			close(goOn)
			if err := <-ended; err != nil {
				t.Error(err)
			}
		},
	}
}
