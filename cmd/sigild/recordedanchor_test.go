package main

import (
	"testing"

	"github.com/google/go-tpm/tpm2"
	"go.etcd.io/bbolt"

	"github.com/sigild/sigild/ipc/ipctest"
)

// anchorFaults has a TPM whose counter does not count, and a database that is
// older than it.
func anchorFaults(t *testing.T) ipctest.Recorded {
	h := newHost(t, custody())
	provision(t, h)
	tap, err := h.TapTPM()
	if err != nil {
		t.Fatal(err)
	}
	start(t, h)
	c := dial(t, h.Socket)
	var older []byte
	return hooked(h, map[string]func(*testing.T){
		"the TPM does not count": func(*testing.T) {
			tap.Answer(func(code uint32) (uint32, bool) {
				return uint32(tpm2.TPMRCNVAuthorization), tpm2.TPMCC(code) == tpm2.TPMCCNVIncrement
			})
		},
		"the TPM counts": func(t *testing.T) {
			tap.Answer(nil)
			await(t, "ready", func() bool { state, _ := reasonsOf(t, c); return state == "ready" })
		},
		"the database is copied":   func(t *testing.T) { older = copyOf(t, h) },
		"the copy is brought back": func(t *testing.T) { putBack(t, h, older) },
	})
}

// changedTree has a database whose hash tree was changed below its root.
func changedTree(t *testing.T) ipctest.Recorded {
	h, _ := serving(t, forClients, custody())
	return hooked(h, map[string]func(*testing.T){"the tree is changed": func(t *testing.T) {
		stop(t, h)
		db := openDatabase(t, h)
		err := db.Update(func(tx *bbolt.Tx) error {
			tree := tx.Bucket([]byte("tree"))
			return tree.ForEach(func(key, node []byte) error {
				if key[0] == 0 {
					return nil
				}
				changed := append([]byte(nil), node...)
				changed[len(changed)-1] ^= 1
				return tree.Put(key, changed)
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		start(t, h)
	}})
}
