package main

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/daemon/entropy"
	"github.com/sigild/sigild/daemon/entropy/kmstest"
	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/wipe"
	"github.com/sigild/sigild/hsm"
	"github.com/sigild/sigild/ipc"
	"github.com/sigild/sigild/ipc/ipctest"
)

// chosenKMS has KMS give randomness that the test chose.
func chosenKMS(t *testing.T, h *daemontest.Host) []byte {
	t.Helper()
	random := make([]byte, 64)
	rand.Read(random)
	h.KMS.Raw(200, "application/x-amz-json-1.1", fmt.Sprintf(`{"Plaintext":%q}`, base64.StdEncoding.EncodeToString(random)), kmstest.Always)
	return random
}

// collected waits until the daemon, by itself, has collected everything that was
// garbage before: one collection may have begun already, the next one finds it, and
// has swept it once the one after that begins.
func collected(t *testing.T, lines <-chan string, again func()) {
	t.Helper()
	for len(lines) > 0 {
		<-lines
	}
	for range 3 {
		again()
		awaitCollection(t, lines)
	}
}

// awaitCollection waits for the line of a collection that the daemon asked for.
func awaitCollection(t *testing.T, lines <-chan string) {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case line := <-lines:
			if strings.HasPrefix(line, "gc ") && strings.HasSuffix(line, "(forced)") {
				return
			}
		case <-deadline:
			t.Fatal("the daemon does not collect")
		}
	}
}

// TestMemoryHoldsNoSecrets looks for everything secret of a wallet in all of
// the daemon's memory, after a creation, signatures and an unlock by sealed
// PINs, and after the lock, for a key that came in and others that went out, and
// for what PINs in the clear leave. What Argon2 computes on the way must be gone
// at once.
func TestMemoryHoldsNoSecrets(t *testing.T) {
	if !wipe.Enabled() {
		t.Log("NOT RUN: this build erases nothing; use make test, or set GOEXPERIMENT=runtimesecret")
		return
	}
	t.Run("sealed PINs", func(t *testing.T) { leavesNoSecrets(t, true) })
	t.Run("PINs in the clear", func(t *testing.T) { leavesNoSecrets(t, false) })
}

func leavesNoSecrets(t *testing.T, sealed bool) {
	lines := make(chan string, 1<<16)
	faults, module := faultyToken(t)
	h := newHost(t, module, withConfig(map[string]string{"entropy": `drop = ["tpm"]`}), custody(), func(o *daemontest.Options) {
		o.Env = append(o.Env, "GODEBUG=gctrace=1", "PLANTED=in the environment of this process")
		log := o.Log
		o.Log = func(line string) {
			log(line)
			select {
			case lines <- line:
			default:
			}
		}
	})
	faults.KeepRandom()
	provision(t, h)
	start(t, h)
	sources := []entropy.Part{{Name: "kms", Bytes: chosenKMS(t, h)}}
	c := dial(t, h.Socket)
	if sealed {
		c = dialSealed(t, h, h.Socket)
	}
	ctx := testContext(t)
	pin := ipc.Secret("J7#kd-" + rand.Text())
	made, err := c.CreateWallet(ctx, ipc.CreateWalletParams{RequestID: "1", Owner: "alice", PIN: pin})
	if err != nil {
		t.Fatal(err)
	}
	id := made.Wallet.WalletID
	sources = append(sources, entropy.Part{Name: "token", Bytes: faults.LastRandom()})
	if _, err := c.SignMessage(ctx, ipc.SignMessageParams{WalletID: id, Message: ipc.Hex("one"), PIN: pin}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Unlock(ctx, ipc.UnlockParams{WalletID: id, Terms: terms(2), PIN: pin}); err != nil {
		t.Fatal(err)
	}
	_, err = c.SignMessage(ctx, ipc.SignMessageParams{WalletID: id, Message: ipc.Hex("two")})
	if err != nil {
		t.Fatal(err)
	}
	var keys []secret
	if sealed {
		keys = passingKeys(t, h, c)
	} else {
		sendBadly(t, h, id, string(pin))
	}
	unlocked := snapshot(t, h.PID())
	if _, err := c.Lock(ctx, ipc.WalletParams{WalletID: id}); err != nil {
		t.Fatal(err)
	}
	last, err := c.SignMessage(ctx, ipc.SignMessageParams{WalletID: id, Message: ipc.Hex("three"), PIN: pin})
	if err != nil {
		t.Fatal(err)
	}
	collected(t, lines, func() {
		_, err := c.SignMessage(ctx, ipc.SignMessageParams{WalletID: id, Message: ipc.Hex("locked")})
		wantReason(t, err, "unlockRequired")
	})
	memory := snapshot(t, h.PID())
	if !sealed {
		last = nil // no answer is kept
	}
	mustFindPlanted(t, memory, last)
	stop(t, h)
	secrets, argon := secretsOf(t, h, id, string(pin), sources)
	argon.mustHoldNone(t, "after a check", unlocked)
	argon.mustHoldNone(t, "after a collection", memory)
	secrets = append(secrets, keys...)
	for _, s := range secrets {
		inGo, elsewhere := found(unlocked, s.value)
		t.Logf("while unlocked: %-24s %d times in Go memory, %d times in C memory", s.name, inGo, elsewhere)
		if s.name == heldTweak && inGo == 0 {
			t.Error("the scan does not find the tweak of an unlocked account: it proves nothing")
		}
	}
	report(t, memory, secrets)
}

// passingKeys brings a key in, and takes it out again as well as one that was made
// here.
func passingKeys(t *testing.T, h *daemontest.Host, c *ipc.Client) []secret {
	t.Helper()
	h.KMS.Reset() // it would repeat itself
	chosenKMS(t, h)
	p := importation(t, "imported", 1)
	rand.Read(p.Key)
	p.Key[0] &= 0x7f // below the curve's order
	p.Address, p.Exportable = addressOf(t, p.Key), true
	id := bringIn(t, c, p).WalletID
	ctx, pin, second := testContext(t), ipc.Secret(rightPIN), uint32(1)
	if _, err := c.DeriveAccount(ctx, ipc.DeriveAccountParams{RequestID: "d", WalletID: id, PIN: pin}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.ExportAccount(ctx, ipc.ExportAccountParams{WalletID: id, PIN: pin}); err != nil {
		t.Fatal(err)
	}
	made, _, err := c.ExportAccount(ctx, ipc.ExportAccountParams{WalletID: id, Account: &second, PIN: pin})
	if err != nil {
		t.Fatal(err)
	}
	var list []secret
	for name, key := range map[string][]byte{"imported key": p.Key, "exported key": made} {
		backwards := slices.Clone(key)
		slices.Reverse(backwards)
		list = append(list, secret{name, key, name == "imported key"}, secret{name + ", little endian", backwards, false},
			secret{name + ", hexadecimal", []byte(hex.EncodeToString(key)), false})
	}
	return list
}

// sendBadly sends a PIN in the clear in requests that are refused, in a batch,
// escaped, and in two pieces.
func sendBadly(t *testing.T, h *daemontest.Host, id ipc.Hex, pin string) {
	t.Helper()
	conn := ipctest.Connect(t, h.Socket)
	answers := json.NewDecoder(conn)
	escaped := ""
	for _, c := range pin {
		escaped += fmt.Sprintf(`\u%04x`, c)
	}
	sign := func(pin, more string) string {
		return request(ipc.MethodSignMessage, fmt.Sprintf(`{"walletId":%q,"message":"0x00","pin":"%s"%s}`, id, pin, more))
	}
	for _, text := range []string{sign(pin, `,"unheardOf":1`), sign(pin, `,"pin":"`+pin+`"`), sign(escaped, ""), "[" + sign(pin, "") + "," + sign(pin, "") + "]",
		request("sigild_unheardOf", `{"pin":"`+pin+`"}`), strings.Replace(sign(pin, ""), `"method"`, `"pin":"`+pin+`","method"`, 1)} {
		half := strings.Index(text, pin) + len(pin)/2
		for _, part := range []string{text[:max(half, 1)], text[max(half, 1):]} {
			if _, err := io.WriteString(conn, part); err != nil {
				t.Fatal(err)
			}
		}
		var answer json.RawMessage
		if err := answers.Decode(&answer); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
}

// mustFindPlanted shows that the scan sees what is there: the environment, and
// on Go's heap the answer that is kept for a relay that lost it.
func mustFindPlanted(t *testing.T, memory []region, kept *ipc.SignMessageResult) {
	t.Helper()
	if _, n := found(memory, []byte("in the environment of this process")); n == 0 {
		t.Error("the scan does not find what was planted in C memory")
	}
	if kept == nil {
		return // the tweak that an unlock holds shows the same
	}
	if n, _ := found(memory, []byte(hex.EncodeToString(kept.Signature))); n == 0 {
		t.Error("the scan does not find what was planted in Go memory")
	}
}

// heldTweak is the form of a tweak that an unlock holds.
const heldTweak = "tweak, little endian"

// secret is one value to look for.
type secret struct {
	name  string
	value []byte
	token bool // SoftHSM has it too, in its own memory
}

// secretsOf computes all secrets of a wallet from the stopped installation.
func secretsOf(t *testing.T, h *daemontest.Host, id ipc.Hex, pin string, sources []entropy.Part) ([]secret, states) {
	t.Helper()
	v := openVault(t, h)
	defer v.close(t)
	ctx := testContext(t)
	p := v.record(t, id)
	stretched, err := seal.Stretch([]byte(pin), p.Header.KDF)
	if err != nil {
		t.Fatal(err)
	}
	var h1, h2 [32]byte
	if err := v.factors.Pepper(ctx, slices.Concat([]byte("sigild/pin/v1"), id, stretched), &h1); err != nil {
		t.Fatal(err)
	}
	if err := v.factors.Host(ctx, slices.Concat([]byte("sigild/host/v1"), id, h1[:]), &h2); err != nil {
		t.Fatal(err)
	}
	key, err := seal.DeriveKey(ctx, []byte(pin), p.Header.Wallet, p.Header.KDF, v.factors)
	if err != nil {
		t.Fatal(err)
	}
	w, err := seal.Open(key, p.Record.Header, p.Record.Box)
	if err != nil {
		t.Fatal(err)
	}
	seed, _, err := entropy.Mix(id, sources)
	if err != nil {
		t.Fatal(err)
	}
	wide := wideTweak(t, v, w.Derivation, seed)
	scalar := tweakOf(wide)
	backwards := slices.Clone(scalar)
	slices.Reverse(backwards)
	return []secret{
		{"PIN", []byte(pin), false}, {"token's user PIN", h.TokenPIN(), false}, {"stretched PIN", stretched, false}, {"token's factor", h1[:], false}, {"TPM's factor", h2[:], false},
		{"seal key", key[:], false}, {"seed", seed, true}, {"wide tweak", wide, false}, {"tweak", scalar, false},
		{heldTweak, backwards, false}, {"wrapped derivation key", w.Derivation, true}, {"wrapped root", w.Roots[0], true},
	}, statesOf(pin, p.Header.KDF)
}

// wideTweak has the token compute account 0's tweak before its reduction, and
// compares it with the one by the seed that the test knows.
func wideTweak(t *testing.T, v *vault, wrapped, seed []byte) []byte {
	t.Helper()
	ctx := testContext(t)
	object, err := v.keys.Unwrap(ctx, hsm.WrapSecret, wrapped)
	if err != nil {
		t.Fatal(err)
	}
	input := append([]byte("sigild/account/v1\x09secp256k1"), 0, 0, 0, 0)
	var wide [64]byte
	if err := v.keys.HMACSHA512(ctx, object, input, &wide); err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha512.New, seed)
	mac.Write(input)
	if !hmac.Equal(mac.Sum(nil), wide[:]) {
		t.Fatal("the seed that the test computed is not the derivation key")
	}
	return wide[:]
}

func tweakOf(wide []byte) []byte {
	order, _ := new(big.Int).SetString("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141", 16)
	return new(big.Int).Mod(new(big.Int).SetBytes(wide), order).FillBytes(make([]byte, 32))
}

// report fails the test for every secret that is left in memory of this
// program; what the software token keeps in its own is said.
func report(t *testing.T, memory []region, secrets []secret) {
	t.Helper()
	for _, s := range secrets {
		inGo, elsewhere := found(memory, s.value)
		t.Logf("%-24s %d times in Go memory, %d times in C memory", s.name, inGo, elsewhere)
		if inGo > 0 || elsewhere > 0 && !s.token {
			t.Errorf("%s is in memory: %d times in Go's, %d times elsewhere: %s", s.name, inGo, elsewhere, places(memory, s.value))
		}
	}
}
