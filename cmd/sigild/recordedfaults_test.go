package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/miekg/pkcs11"
	"go.etcd.io/bbolt"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/daemon/entropy/kmstest"
	"github.com/sigild/sigild/ipc"
	"github.com/sigild/sigild/ipc/ipctest"
)

// TestRecordedFaults plays testdata/faults/*.txt, each on a host of its own on
// which something fails, or which is configured for what the file shows.
func TestRecordedFaults(t *testing.T) {
	prepared := map[string]func(*testing.T) ipctest.Recorded{
		"kms": recordedKMSFaults, "token": recordedTokenFaults, "tpm": recordedTPMFaults, "state": stateFaults,
		"record": recordFaults, "locked": fewAttempts, "overload": overload, "relock": relocked, "nonce": repeatedNonces, "signature": wrongSignatures,
		"disk": fullDisks, "keygone": keysGone, "timeout": slowTPM, "limits": lowLimits, "peers": peers, "channel": sealedBlocks, "clients": nodeClients, "web3py": pythonClient,
		"nethermind": nodeClients, "custody": passingKeysOrNot,
		"anchor": anchorFaults, "tree": changedTree,
	}
	files, err := filepath.Glob("testdata/faults/*.txt")
	if err != nil || len(files) != len(prepared) {
		t.Fatalf("%d conversations for %d hosts, %v", len(files), len(prepared), err)
	}
	for name, prepare := range prepared {
		if name == "peers" && !canBeOthers(t) {
			continue
		}
		t.Run(name, func(t *testing.T) { prepare(t).Play(t, filepath.Join("testdata/faults", name+".txt")) })
	}
}

// passingKeysOrNot is a host whose operator lets keys pass, or not, and whose
// token takes and gives keys, or not.
func passingKeysOrNot(t *testing.T) ipctest.Recorded {
	faults, module := faultyToken(t)
	h, _ := serving(t, module)
	restart := func(t *testing.T, lines string) {
		stop(t, h)
		h.Config["custody"] = lines
		if err := h.WriteConfig(); err != nil {
			t.Fatal(err)
		}
		start(t, h)
	}
	return hooked(h, map[string]func(*testing.T){
		"keys may pass":         func(t *testing.T) { restart(t, bothWays) },
		"keys may only come in": func(t *testing.T) { restart(t, "import = true") },
		"nothing may pass":      func(t *testing.T) { restart(t, "") },
		"the token keeps to itself": func(t *testing.T) {
			faults.RefuseCustody(pkcs11.CKR_TEMPLATE_INCONSISTENT)
			restart(t, bothWays)
		},
	})
}

// hooked plays with a host's sigild and has these hooks.
func hooked(h *daemontest.Host, hooks map[string]func(*testing.T)) ipctest.Recorded {
	r := recorded(h)
	r.Hooks = hooks
	return r
}

func recordedKMSFaults(t *testing.T) ipctest.Recorded {
	h, _ := serving(t, quickKMS(), custody())
	return hooked(h, map[string]func(*testing.T){
		"KMS throttles": func(*testing.T) { h.KMS.Throttle(kmstest.Always) },
		"KMS answers":   func(*testing.T) { h.KMS.Reset() },
	})
}

func recordedTokenFaults(t *testing.T) ipctest.Recorded {
	const argumentsBad, writeProtected = 0x7, 0xe2 // refusals; of a device's fault the daemon recovers by itself
	faults, module := faultyToken(t)
	h, c := serving(t, module, custody())
	return hooked(h, map[string]func(*testing.T){
		"the token refuses the wrapped key": func(*testing.T) { faults.FailTwice("C_UnwrapKey", argumentsBad) },
		"the token makes no key once":       func(*testing.T) { faults.FailOnce("C_GenerateKeyPair", writeProtected) },
		"the token is pulled out": func(t *testing.T) {
			faults.Vanish()
			await(t, "a failing state", func() bool { state, _ := reasonsOf(t, c); return state == "failing" })
		},
		"sigild starts anew": func(t *testing.T) {
			stop(t, h)
			start(t, h)
		},
		"the token is back": func(t *testing.T) {
			faults.Return(0)
			c := dial(t, h.Socket)
			await(t, "ready", func() bool { state, _ := reasonsOf(t, c); return state == "ready" })
		},
	})
}

func recordedTPMFaults(t *testing.T) ipctest.Recorded {
	h, c := serving(t, custody())
	return hooked(h, map[string]func(*testing.T){"the TPM dies": func(t *testing.T) {
		h.TPM.Kill()
		await(t, "that it is noticed", func() bool {
			create := ipc.CreateWalletParams{RequestID: "noticed", Owner: "bob", PIN: ipc.Secret(rightPIN)}
			_, err := c.CreateWallet(testContext(t), create)
			state, _ := reasonsOf(t, c)
			return err != nil && state != "ready"
		})
	}})
}

func stateFaults(t *testing.T) ipctest.Recorded {
	h, _ := serving(t, custody())
	return hooked(h, map[string]func(*testing.T){"the host's state changes": func(t *testing.T) {
		if err := h.TPM.Extend(12, sha256.Sum256([]byte("another command line"))); err != nil {
			t.Fatal(err)
		}
	}})
}

func recordFaults(t *testing.T) ipctest.Recorded {
	h, _ := serving(t, custody())
	return hooked(h, map[string]func(*testing.T){"records are changed": func(t *testing.T) {
		stop(t, h)
		changeRecords(t, h, func(record []byte) []byte {
			changed := bytes.Clone(record)
			changed[len(changed)-1] ^= 1
			return changed
		})
		start(t, h)
	}})
}

// fewAttempts locks a wallet before any wait.
func fewAttempts(t *testing.T) ipctest.Recorded {
	h, _ := serving(t, custody(), withConfig(map[string]string{"pin": cheapPIN + "\nconsecutive = 3"}))
	return recorded(h)
}

// changeRecords replaces every record of a stopped sigild.
func changeRecords(t *testing.T, h *daemontest.Host, change func([]byte) []byte) {
	t.Helper()
	db := openDatabase(t, h)
	err := db.Update(func(tx *bbolt.Tx) error {
		records := tx.Bucket([]byte("records"))
		return records.ForEach(func(id, record []byte) error { return records.Put(id, change(record)) })
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
func overload(t *testing.T) ipctest.Recorded {
	h := newHost(t, custody(), withConfig(map[string]string{"pin": cheapPIN + "\nchecks = 1\nwaiting = 0"}))
	provision(t, h)
	tap, err := h.TapTPM()
	if err != nil {
		t.Fatal(err)
	}
	start(t, h)
	other := create(t, dial(t, h.Socket), "other")
	begun, goOn, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	return hooked(h, map[string]func(*testing.T){
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
		"a user may make one change a minute": func(t *testing.T) {
			stop(t, h)
			h.Config["limits"] = "changes_per_minute = 1"
			if err := h.WriteConfig(); err != nil {
				t.Fatal(err)
			}
			start(t, h)
		},
	})
}

// slowTPM has a TPM that takes longer for a PIN check than a request may.
func slowTPM(t *testing.T) ipctest.Recorded {
	const allowed = 300 * time.Millisecond
	h := newHost(t, custody())
	provision(t, h)
	tap, err := h.TapTPM()
	if err != nil {
		t.Fatal(err)
	}
	start(t, h)
	restart := func(t *testing.T, limits string) {
		stop(t, h)
		h.Config["limits"] = limits
		if err := h.WriteConfig(); err != nil {
			t.Fatal(err)
		}
		start(t, h)
	}
	return hooked(h, map[string]func(*testing.T){
		"the TPM is slower than a request may be": func(t *testing.T) {
			restart(t, `request_timeout = "`+allowed.String()+`"`)
			tap.Watch(func(code uint32) {
				if code == uint32(tpm2.TPMCCHMAC) {
					<-time.After(2 * allowed)
				}
			})
		},
		"the TPM is quick": func(t *testing.T) {
			tap.Watch(nil)
			restart(t, "")
		},
	})
}

// relocked has a token that loses the keys of unlocked wallets.
func relocked(t *testing.T) ipctest.Recorded {
	faults, module := faultyToken(t)
	h, c := serving(t, module, forClients)
	return hooked(h, map[string]func(*testing.T){"the token loses its sessions": func(t *testing.T) {
		faults.LoseSessions()
		await(t, "ready", func() bool { state, _ := reasonsOf(t, c); return state == "ready" })
	}})
}

// repeatedNonces has a token that signs validly, with one nonce for all.
func repeatedNonces(t *testing.T) ipctest.Recorded {
	faults, module := faultyToken(t)
	faults.LearnRoots()
	h, _ := serving(t, module, custody())
	return hooked(h, map[string]func(*testing.T){
		"the token repeats its nonces": func(*testing.T) { faults.RepeatNonces(true) },
		"the token is mended":          func(*testing.T) { faults.ClearAll() },
		"the operator puts the mended token back": func(t *testing.T) {
			faults.ClearAll()
			stop(t, h)
			if code, said := command(t, h, "", "clear-token-fault"); code != 0 {
				t.Fatalf("clear-token-fault: exit code %d: %s", code, said)
			}
			start(t, h)
			faults.LearnRoots()
		},
	})
}

func wrongSignatures(t *testing.T) ipctest.Recorded {
	faults, module := faultyToken(t)
	faults.LearnRoots()
	h, _ := serving(t, module, custody())
	return hooked(h, map[string]func(*testing.T){"the token signs wrongly once": func(*testing.T) { faults.WrongSignatures(1) }})
}

// lowLimits are those of small messages, for a file that people read.
func lowLimits(t *testing.T) ipctest.Recorded {
	h, _ := serving(t, custody(), withConfig(map[string]string{"limits": "message_bytes = 4096\ndepth = 8\nbatch = 2\nrequest_timeout = \"1s\""}))
	return recorded(h)
}

// nodeClients is a host for programs that take sigild for a node.
func nodeClients(t *testing.T) ipctest.Recorded {
	h, _ := serving(t, forClients)
	return recorded(h)
}

// pythonClient is one whose eth_signTransaction answers as geth does. What is
// signed is by the one account that it was told.
func pythonClient(t *testing.T) ipctest.Recorded {
	h, _ := serving(t, custody(), withConfig(map[string]string{"ethereum": "chain_id = 1337\nsign_transaction_result = \"object\""}))
	r := recorded(h)
	var accounts []string
	r.Told = func(answer []byte) {
		var list struct{ Result []string }
		if json.Unmarshal(answer, &list) == nil && len(list.Result) == 1 {
			accounts = list.Result
		}
		var signed struct{ Result struct{ Raw string } }
		if json.Unmarshal(answer, &signed) != nil || signed.Result.Raw == "" {
			return
		}
		if sender := senderOf(t, signed.Result.Raw); len(accounts) != 1 || sender != accounts[0] {
			t.Errorf("the sender is %s, the accounts are %v", sender, accounts)
		}
	}
	return r
}
