package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/ipc"
)

// mustNotBeIn checks that a file does not hold secrets.
func mustNotBeIn(t *testing.T, path string, secrets map[string][]byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil || len(data) == 0 {
		t.Fatalf("%s: %d bytes, %v", path, len(data), err)
	}
	for name, secret := range secrets {
		if len(secret) == 0 || bytes.Contains(data, secret) {
			t.Errorf("the %s (%d bytes) is in %s", name, len(secret), path)
		}
	}
}

// argon2Memory is what one PIN check takes in the test below: so much that the
// process's peak memory tells whether one was begun.
const argon2Memory = 256 * 1024 // KiB

// peakMemory is the largest size of sigild's memory so far, in KiB.
func peakMemory(t *testing.T, h *daemontest.Host) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.PID()))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		var kib int
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
			return kib
		}
	}
	t.Fatal("no VmHWM in the process's status")
	return 0
}

// TestTamperedDatabaseIsNoWrongPIN flips bytes of a wallet's record and of its
// attempt counter on the disk, under the running daemon: each is recordCorrupt,
// costs no attempt, and is found before Argon2 begins.
func TestTamperedDatabaseIsNoWrongPIN(t *testing.T) {
	h, c := serving(t, withConfig(map[string]string{"pin": fmt.Sprintf("argon2_memory_kib = %d\nargon2_time = 1", argon2Memory)}))
	w := create(t, c, "1")
	if _, err := tryPIN(t, c, w.WalletID, wrongPIN); ipc.ReasonOf(err) != "wrongPin" {
		t.Fatal(err)
	}
	stop(t, h)
	db := openDatabase(t, h)
	record, row := stored(t, db, "records", w.WalletID), stored(t, db, "guard", w.WalletID)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	start(t, h)
	for name, value := range map[string][]byte{"record": record, "attempt counter": row} {
		flipEach(t, h, value, 7, func(at int) {
			_, err := tryPIN(t, c, w.WalletID, rightPIN)
			if e := wantReason(t, err, "recordCorrupt"); e.AttemptsLeft != nil || e.Charged == nil || *e.Charged {
				t.Fatalf("%s, byte %d: %+v", name, at, e)
			}
		})
	}
	if peak := peakMemory(t, h); peak >= argon2Memory {
		t.Errorf("sigild took %d KiB: Argon2 was reached", peak)
	}
	if left := attemptsLeft(t, c, w.WalletID); left != 9 {
		t.Errorf("%d attempts left, want 9 as before", left)
	}
	if _, err := tryPIN(t, c, w.WalletID, rightPIN); err != nil {
		t.Fatalf("with the bytes as they were: %v", err)
	}
	if peak := peakMemory(t, h); peak < argon2Memory {
		t.Errorf("one PIN check took %d KiB only: the peak proves nothing", peak)
	}
}

// flipEach flips one bit of every step-th byte of a stored value, wherever the
// file holds it, calls f, and puts the bit back.
func flipEach(t *testing.T, h *daemontest.Host, value []byte, step int, f func(at int)) {
	t.Helper()
	file, err := os.OpenFile(h.Database(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	data, err := os.ReadFile(h.Database())
	if err != nil {
		t.Fatal(err)
	}
	var places []int64
	for i := 0; ; {
		n := bytes.Index(data[i:], value)
		if n < 0 {
			break
		}
		places = append(places, int64(i+n))
		i += n + 1
	}
	if len(places) == 0 {
		t.Fatal("the value is not in the file in one piece")
	}
	put := func(at int, b byte) {
		for _, p := range places {
			if _, err := file.WriteAt([]byte{b}, p+int64(at)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for at := 0; at < len(value); at += step {
		put(at, value[at]^1<<(at%8))
		f(at)
		put(at, value[at])
	}
}

// TestRowsThatWereRemovedOrExchanged changes the database of a stopped daemon
// through bbolt.
func TestRowsThatWereRemovedOrExchanged(t *testing.T) {
	h, c := serving(t)
	w, other := create(t, c, "1"), create(t, c, "2")
	for _, pin := range []string{wrongPIN, wrongPIN} {
		if _, err := tryPIN(t, c, w.WalletID, pin); ipc.ReasonOf(err) != "wrongPin" {
			t.Fatal(err)
		}
	}
	stop(t, h)
	before := dump(t, h)
	for _, change := range []struct {
		name, bucket string
		value        []byte
	}{
		{"a removed attempt counter", "guard", nil},
		{"another wallet's attempt counter", "guard", []byte(before["guard/"+string(other.WalletID)])},
		{"another wallet's record", "records", []byte(before["records/"+string(other.WalletID)])},
		{"an empty record", "records", []byte{}},
	} {
		was := []byte(before[change.bucket+"/"+string(w.WalletID)])
		replace(t, h, change.bucket, w.WalletID, change.value)
		start(t, h)
		_, err := tryPIN(t, c, w.WalletID, rightPIN)
		wantReason(t, err, "recordCorrupt")
		stop(t, h)
		replace(t, h, change.bucket, w.WalletID, was)
	}
	start(t, h)
	if left := attemptsLeft(t, c, w.WalletID); left != 8 {
		t.Errorf("%d attempts left, want 8 as before", left)
	}
	signAll(t, c, w, 0)
	signAll(t, c, other, 0)
}

// replace puts a value into a stopped daemon's database; nil removes it.
func replace(t *testing.T, h *daemontest.Host, bucket string, key, value []byte) {
	t.Helper()
	db := openDatabase(t, h)
	err := db.Update(func(tx *bbolt.Tx) error {
		if value == nil {
			return tx.Bucket([]byte(bucket)).Delete(key)
		}
		return tx.Bucket([]byte(bucket)).Put(key, value)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}
