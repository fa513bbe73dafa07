package channel_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sigild/sigild/daemon/channel"
)

// host is a receiver with its identity key and a clock of its own.
type host struct {
	*channel.Receiver
	identity *ecdsa.PrivateKey

	mu  sync.Mutex
	now time.Time
}

func (h *host) clock() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

// pass lets time go by on both clocks.
func (h *host) pass(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
}

// set turns the wall clock.
func (h *host) set(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = now
}

func newHost(t *testing.T, change func(*channel.Config)) *host {
	t.Helper()
	identity, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	h := &host{identity: identity, now: time.Now()}
	c := channel.Config{Installation: channel.ID{1, 2, 3}, Now: h.clock, PerUID: 8, Total: 12, AnswerBytesPerUID: 1 << 16, AnswerBytes: 1 << 17,
		Sign: func(_ context.Context, digest [32]byte) ([]byte, error) {
			return ecdsa.SignASN1(rand.Reader, identity, digest[:])
		}}
	if change != nil {
		change(&c)
	}
	h.Receiver = channel.NewReceiver(c)
	return h
}

// key is the announced key, as a client verifies it.
func (h *host) key(t *testing.T) *channel.Key {
	t.Helper()
	a, err := h.Announce(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	k, err := channel.Verify(&h.identity.PublicKey, a.Text, a.Signature, h.clock())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func request(method, params string) channel.Request {
	digest, err := channel.Digest([]byte(params))
	if err != nil {
		panic(err)
	}
	return channel.Request{Method: method, Digest: digest}
}

func (h *host) seal(t *testing.T, q channel.Request) (*channel.Block, *channel.Prover) {
	t.Helper()
	b, p, err := h.key(t).Seal(q, &channel.PINs{PIN: []byte("271828")}, h.clock().Add(channel.Lifetime))
	if err != nil {
		t.Fatal(err)
	}
	return b, p
}

var (
	alice = channel.Peer{UID: 1000}
	exact = sha256.Sum256([]byte("the request"))
	sign  = request("sigild_signMessage", `{"walletId":"0x01","message":"0x02"}`)
)

func TestPINsAndKeysArrive(t *testing.T) {
	h := newHost(t, nil)
	for _, pins := range []channel.PINs{
		{PIN: []byte("271828")}, {PIN: []byte("271828"), New: []byte("314159")},
		{PIN: bytes.Repeat([]byte{'x'}, 64), New: bytes.Repeat([]byte{'y'}, 64)},
		{PIN: []byte("271828"), Key: bytes.Repeat([]byte{0}, 32)},
		{PIN: bytes.Repeat([]byte{'x'}, 64), Key: bytes.Repeat([]byte{0xff}, 32)},
	} {
		b, prover, err := h.key(t).Seal(sign, &pins, h.clock().Add(channel.Lifetime))
		if err != nil {
			t.Fatal(err)
		}
		if len(b.Enc) != channel.EncSize || len(b.Ciphertext) != channel.CiphertextSize {
			t.Fatalf("enc has %d bytes, the ciphertext %d", len(b.Enc), len(b.Ciphertext))
		}
		use, got, err := h.Open(alice, sign, b, exact)
		if err != nil || use.Again || !bytes.Equal(got.PIN, pins.PIN) || !bytes.Equal(got.New, pins.New) || !bytes.Equal(got.Key, pins.Key) ||
			(got.Key == nil) != (pins.Key == nil) {
			t.Fatalf("%v, %v, again %v", err, got, use)
		}
		answer, err := use.Prove(channel.Result, []byte(` {"a":1} `))
		if err != nil || prover.Check(channel.Result, answer) != nil {
			t.Fatalf("the proof of %s does not hold: %v", answer, err)
		}
		if _, err := use.Prove(channel.Result, answer); err == nil {
			t.Error("an answer that has a proof got another one")
		}
		if empty, err := use.Prove(channel.Result, []byte("{}")); err != nil || prover.Check(channel.Result, empty) != nil {
			t.Errorf("the proof of an empty object: %s, %v", empty, err)
		}
		use.Finish(answer, nil)
	}
}

func TestPINsThatDoNotFit(t *testing.T) {
	k := newHost(t, nil).key(t)
	for _, pins := range []channel.PINs{{}, {PIN: make([]byte, 65)}, {PIN: []byte("1"), New: []byte{}},
		{PIN: []byte("1"), New: make([]byte, 65)}} {
		if _, _, err := k.Seal(sign, &pins, time.Now()); !errors.Is(err, channel.ErrPIN) {
			t.Errorf("%d and %d bytes: %v", len(pins.PIN), len(pins.New), err)
		}
	}
}

func TestKeysThatDoNotFit(t *testing.T) {
	k := newHost(t, nil).key(t)
	for _, pins := range []channel.PINs{{PIN: []byte("1"), Key: []byte{}}, {PIN: []byte("1"), Key: make([]byte, 31)},
		{PIN: []byte("1"), Key: make([]byte, 33)}, {PIN: []byte("1"), New: []byte("2"), Key: make([]byte, 32)}} {
		if _, _, err := k.Seal(sign, &pins, time.Now()); !errors.Is(err, channel.ErrKey) {
			t.Errorf("a key of %d bytes, new PIN %q: %v", len(pins.Key), pins.New, err)
		}
	}
}

// One plaintext for one set of parts: nothing else decodes.
func TestPlaintextIsStrict(t *testing.T) {
	with := func(change func(b []byte)) []byte {
		b := make([]byte, channel.PlaintextSize)
		b[0] = 6
		copy(b[1:], "271828")
		change(b)
		return b
	}
	for name, b := range map[string][]byte{
		"no PIN":              make([]byte, channel.PlaintextSize),
		"short":               make([]byte, channel.PlaintextSize-1),
		"a long PIN":          with(func(b []byte) { b[0] = 65 }),
		"beyond the end":      with(func(b []byte) { b[0] = 160 }),
		"a long new PIN":      with(func(b []byte) { b[7] = 65 }),
		"new beyond the end":  with(func(b []byte) { b[7] = 255 }),
		"a short key":         with(func(b []byte) { b[8] = 31 }),
		"a long key":          with(func(b []byte) { b[8] = 33 }),
		"a key and a new PIN": with(func(b []byte) { b[7], b[8], b[9] = 1, 'x', 32 }),
		"key beyond the end":  with(func(b []byte) { b[8] = 160 }),
		"dirty padding":       with(func(b []byte) { b[159] = 1 }),
		"dirty after a key":   with(func(b []byte) { b[8], b[159] = 32, 1 }),
	} {
		if err := channel.Decode(b); !errors.Is(err, channel.ErrSealed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := channel.Decode(with(func(b []byte) { b[8] = 32 })); err != nil {
		t.Errorf("a key of zeros: %v", err)
	}
}

// A block opens for the request that it was sealed for, and for no other.
func TestBoundToTheRequest(t *testing.T) {
	h := newHost(t, nil)
	b, _ := h.seal(t, sign)
	for name, q := range map[string]channel.Request{
		"method":    request("sigild_signDigest", `{"walletId":"0x01","message":"0x02"}`),
		"wallet":    request("sigild_signMessage", `{"walletId":"0x03","message":"0x02"}`),
		"payload":   request("sigild_signMessage", `{"walletId":"0x01","message":"0x03"}`),
		"more":      request("sigild_signMessage", `{"walletId":"0x01","message":"0x02","account":1}`),
		"less":      request("sigild_signMessage", `{"message":"0x02"}`),
		"long name": {Method: strings.Repeat("x", 256), Digest: sign.Digest},
	} {
		if _, _, err := h.Open(alice, q, b, exact); !errors.Is(err, channel.ErrSealed) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	for name, change := range map[string]func(*channel.Block){
		"enc":        func(b *channel.Block) { b.Enc[0] ^= 1 },
		"end of enc": func(b *channel.Block) { b.Enc[channel.EncSize-1] ^= 0x80 },
		"short enc":  func(b *channel.Block) { b.Enc = b.Enc[1:] },
		"ciphertext": func(b *channel.Block) { b.Ciphertext[0] ^= 1 },
		"empty":      func(b *channel.Block) { b.Ciphertext = nil },
		"expiry":     func(b *channel.Block) { b.Expires++ },
	} {
		c := &channel.Block{KeyID: b.KeyID, Enc: bytes.Clone(b.Enc), Ciphertext: bytes.Clone(b.Ciphertext), Expires: b.Expires}
		change(c)
		if _, _, err := h.Open(alice, sign, c, exact); !errors.Is(err, channel.ErrSealed) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	// None of these used the block up.
	if _, _, err := h.Open(alice, sign, b, exact); err != nil {
		t.Error(err)
	}
}

func TestWorksOnce(t *testing.T) {
	h := newHost(t, nil)
	b, _ := h.seal(t, sign)
	use, _, err := h.Open(alice, sign, b, exact)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := h.Open(channel.Peer{UID: 1001}, sign, b, exact); !errors.Is(err, channel.ErrUsed) {
		t.Errorf("another user: %v", err)
	}
	if _, _, err := h.Open(alice, sign, b, sha256.Sum256([]byte("other bytes"))); !errors.Is(err, channel.ErrUsed) {
		t.Errorf("other bytes: %v", err)
	}
	if _, _, err := h.Open(channel.Peer{UID: 1000, Connection: t.Context()}, sign, b, exact); !errors.Is(err, channel.ErrUsed) {
		t.Errorf("another connection: %v", err)
	}
	again, pins, err := h.Open(alice, sign, b, exact)
	if err != nil || !again.Again || pins != nil {
		t.Fatalf("a repetition: %v, %v, %v", again, pins, err)
	}
	waited := make(chan string)
	go func() {
		answer, err := again.Wait(context.Background())
		waited <- fmt.Sprintf("%s %v", answer, err)
	}()
	use.Finish([]byte("{}"), nil)
	if got := <-waited; got != "{} <nil>" {
		t.Errorf("a repetition that came early got %s", got)
	}
	late, _, err := h.Open(alice, sign, b, exact)
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := late.Wait(t.Context()); string(answer) != "{}" || err != nil {
		t.Errorf("a late repetition got %s, %v", answer, err)
	}
	h.pass(channel.Lifetime)
	if _, _, err := h.Open(alice, sign, b, exact); !errors.Is(err, channel.ErrExpired) {
		t.Errorf("after its expiry: %v", err)
	}
}

// A result that does not hold any more is not given again, a failure always is.
func TestAnswersThatHoldNoMore(t *testing.T) {
	h := newHost(t, nil)
	for _, failure := range []error{nil, errors.New("a failure")} {
		b, _ := h.seal(t, sign)
		use, _, err := h.Open(alice, sign, b, exact)
		if err != nil {
			t.Fatal(err)
		}
		holds := true
		use.Holds = func() bool { return holds }
		use.Finish([]byte("{}"), failure)
		for _, holds = range []bool{true, false} {
			again, _, err := h.Open(alice, sign, b, exact)
			if err != nil {
				t.Fatal(err)
			}
			want := failure
			if want == nil && !holds {
				want = channel.ErrUsed
			}
			if answer, err := again.Wait(t.Context()); err != want || (answer == nil) != (want != nil) {
				t.Errorf("holds %v: %s, %v, want %v", holds, answer, err, want)
			}
		}
	}
}

func TestFailuresAreRepeatedToo(t *testing.T) {
	h := newHost(t, nil)
	b, _ := h.seal(t, sign)
	use, _, err := h.Open(alice, sign, b, exact)
	if err != nil {
		t.Fatal(err)
	}
	wrong := errors.New("wrong PIN")
	use.Finish(nil, wrong)
	again, _, err := h.Open(alice, sign, b, exact)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.Wait(t.Context()); !errors.Is(err, wrong) {
		t.Error(err)
	}
}

// What one user's answers take costs another none of its own.
func TestAnswersHaveAShareEach(t *testing.T) {
	h := newHost(t, func(c *channel.Config) { c.AnswerBytesPerUID, c.AnswerBytes = 20, 40 })
	kept := func(uid uint32) error {
		b, _ := h.seal(t, sign)
		peer := channel.Peer{UID: uid}
		use, _, err := h.Open(peer, sign, b, exact)
		if err != nil {
			t.Fatal(err)
		}
		use.Finish([]byte(`{"a":12}`), nil)
		again, _, err := h.Open(peer, sign, b, exact)
		if err != nil {
			t.Fatal(err)
		}
		_, err = again.Wait(t.Context())
		return err
	}
	for n, want := range []error{nil, nil, channel.ErrUsed, channel.ErrUsed} {
		if err := kept(1000); !errors.Is(err, want) {
			t.Errorf("answer %d: %v, want %v", n, err, want)
		}
	}
	for n := range 2 {
		if err := kept(1001); err != nil {
			t.Errorf("another user's answer %d: %v", n, err)
		}
	}
	h.pass(3 * time.Minute)
	if err := kept(1000); err != nil {
		t.Errorf("when there is room again: %v", err)
	}
}

// Answers beyond the room for them are not kept; the block stays used.
func TestAnswersAreBounded(t *testing.T) {
	h := newHost(t, func(c *channel.Config) { c.AnswerBytes = 10 })
	for n, want := range []error{nil, channel.ErrUsed} {
		b, _ := h.seal(t, sign)
		use, _, err := h.Open(alice, sign, b, exact)
		if err != nil {
			t.Fatal(err)
		}
		use.Finish([]byte(`{"a":12}`), nil)
		again, _, err := h.Open(alice, sign, b, exact)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := again.Wait(t.Context()); !errors.Is(err, want) {
			t.Errorf("answer %d: %v, want %v", n, err, want)
		}
	}
	h.pass(3 * time.Minute) // room again
	b, _ := h.seal(t, sign)
	use, _, err := h.Open(alice, sign, b, exact)
	if err != nil {
		t.Fatal(err)
	}
	use.Finish([]byte(`{"a":12}`), nil)
	again, _, err := h.Open(alice, sign, b, exact)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.Wait(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestWaitEnds(t *testing.T) {
	h := newHost(t, nil)
	b, _ := h.seal(t, sign)
	if _, _, err := h.Open(alice, sign, b, exact); err != nil {
		t.Fatal(err)
	}
	again, _, err := h.Open(alice, sign, b, exact)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := again.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A live block is never forgotten for another: the quota refuses instead.
func TestQuota(t *testing.T) {
	h := newHost(t, nil)
	open := func(uid uint32) error {
		b, _ := h.seal(t, sign)
		use, _, err := h.Open(channel.Peer{UID: uid}, sign, b, exact)
		if err == nil {
			use.Finish(nil, nil)
		}
		return err
	}
	for range 8 {
		if err := open(1000); err != nil {
			t.Fatal(err)
		}
	}
	if err := open(1000); !errors.Is(err, channel.ErrQuota) {
		t.Errorf("over its own quota: %v", err)
	}
	for range 4 {
		if err := open(1001); err != nil {
			t.Fatal(err)
		}
	}
	if err := open(1002); !errors.Is(err, channel.ErrQuota) {
		t.Errorf("over the quota of all: %v", err)
	}
	h.pass(channel.MaxLifetime + time.Minute)
	if err := open(1000); err != nil {
		t.Errorf("after the blocks expired: %v", err)
	}
}

func TestExpiry(t *testing.T) {
	h := newHost(t, nil)
	k := h.key(t)
	for _, c := range []struct {
		ahead time.Duration
		want  error
	}{{-time.Second, channel.ErrExpired}, {0, channel.ErrExpired}, {2 * time.Second, nil},
		{channel.MaxLifetime, nil}, {channel.MaxLifetime + 2*time.Second, channel.ErrExpiry}} {
		b, _, err := k.Seal(sign, &channel.PINs{PIN: []byte("271828")}, h.clock().Add(c.ahead))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := h.Open(alice, sign, b, exact); !errors.Is(err, c.want) {
			t.Errorf("%v ahead: %v, want %v", c.ahead, err, c.want)
		}
	}
}

func TestKeysRotate(t *testing.T) {
	h := newHost(t, nil)
	first := h.key(t)
	h.pass(channel.KeyAge - time.Second)
	if h.key(t).ID != first.ID {
		t.Error("a new key before the hour")
	}
	b, _ := h.seal(t, sign)
	h.pass(30 * time.Second)
	if h.key(t).ID == first.ID {
		t.Error("the same key after the hour")
	}
	if _, _, err := h.Open(alice, sign, b, exact); err != nil {
		t.Errorf("the old key, before its expiry: %v", err)
	}
	b, _, err := first.Seal(sign, &channel.PINs{PIN: []byte("271828")}, h.clock().Add(channel.KeyAge))
	if err != nil {
		t.Fatal(err)
	}
	h.pass(channel.MaxLifetime)
	if _, _, err := h.Open(alice, sign, b, exact); !errors.Is(err, channel.ErrKeyUnknown) {
		t.Errorf("the old key, after its expiry: %v", err)
	}
	if _, _, err := newHost(t, nil).Open(alice, sign, b, exact); !errors.Is(err, channel.ErrKeyUnknown) {
		t.Errorf("after another start: %v", err)
	}
}

// Setting the wall clock back makes no block good again.
func TestClockSetBack(t *testing.T) {
	h := newHost(t, nil)
	b, _ := h.seal(t, sign)
	use, _, err := h.Open(alice, sign, b, exact)
	if err != nil {
		t.Fatal(err)
	}
	use.Finish(nil, nil)
	h.pass(10 * time.Minute)
	h.set(channel.SetBack(h.clock(), 10*time.Minute))
	if _, _, err := h.Open(alice, sign, b, exact); !errors.Is(err, channel.ErrKeyUnknown) {
		t.Errorf("%v, want ErrKeyUnknown", err)
	}
}

// A clock that was ahead for a while and is set back makes no block good again
// that was used meanwhile: the key was made before, and is younger than an hour.
func TestClockAheadAndBack(t *testing.T) {
	h := newHost(t, nil)
	_ = h.key(t)
	h.set(channel.SetBack(h.clock(), -time.Hour))
	b, _ := h.seal(t, sign)
	use, _, err := h.Open(alice, sign, b, exact)
	if err != nil {
		t.Fatal(err)
	}
	use.Finish(nil, nil)
	h.pass(10 * time.Minute)
	h.set(channel.SetBack(h.clock(), time.Hour))
	h.pass(50*time.Minute + 30*time.Second) // the block expires in 30 seconds by the wall clock
	if _, _, err := h.Open(alice, sign, b, exact); !errors.Is(err, channel.ErrKeyUnknown) {
		t.Errorf("%v, want ErrKeyUnknown", err)
	}
}

// Small steps back, each of which is allowed, add up.
func TestClockSetBackInSmallSteps(t *testing.T) {
	h := newHost(t, nil)
	first := h.key(t).ID
	h.set(channel.SetBack(h.clock(), 3*time.Second))
	if h.key(t).ID != first {
		t.Error("a new key after 3 seconds")
	}
	h.set(channel.SetBack(h.clock(), 3*time.Second))
	if h.key(t).ID == first {
		t.Error("the same key after 6 seconds")
	}
}

// The key of an idle daemon goes by itself.
func TestKeysOfAnIdleDaemonGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, func(c *channel.Config) { c.Now = time.Now })
		if _, err := h.Announce(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			passes time.Duration
			want   int
		}{{channel.KeyAge + channel.MaxLifetime - time.Second, 1}, {time.Second, 0}} {
			<-time.After(c.passes) // in the bubble's own time
			synctest.Wait()
			if n := h.Pairs(); n != c.want {
				t.Errorf("%d key pairs", n)
			}
		}
	})
}

// A client's blocks expire by the daemon's clock, which the identity key signed,
// whatever its own says.
func TestClientsTakeTheDaemonsTime(t *testing.T) {
	h := newHost(t, nil)
	a, err := h.Announce(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, off := range []time.Duration{0, 4 * time.Minute, -4 * time.Minute} {
		own := h.clock().Add(off)
		k, err := channel.Verify(&h.identity.PublicKey, a.Text, a.Signature, own)
		if err != nil {
			t.Fatal(err)
		}
		if got := k.Clock(own.Add(time.Minute)).Sub(h.clock()); got > time.Minute || got < time.Minute-time.Second {
			t.Errorf("a clock that is %v off: %v ahead after a minute", off, got)
		}
	}
}

// The time in a statement is a new one every few seconds; while the token does
// not sign, the last statement is given.
func TestStatementsAreRenewed(t *testing.T) {
	var signs int
	var fails error
	h := newHost(t, nil)
	honest := h.Sign
	h.Sign = func(ctx context.Context, digest [32]byte) ([]byte, error) {
		signs++
		if fails != nil {
			return nil, fails
		}
		return honest(ctx, digest)
	}
	said := func() string {
		a, err := h.Announce(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return a.Time
	}
	first := said()
	h.pass(channel.StatementAge - time.Second)
	if again := said(); again != first || signs != 1 {
		t.Errorf("%s after %s, signed %d times", again, first, signs)
	}
	h.pass(time.Second)
	second := said()
	if second == first || signs != 2 {
		t.Errorf("%s after %s, signed %d times", second, first, signs)
	}
	h.pass(channel.StatementAge)
	fails = errors.New("away")
	if third := said(); third != second || said() != second || signs != 3 {
		t.Errorf("%s after %s, signed %d times", third, second, signs)
	}
	if _, err := h.Announce(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestVerifyRefuses(t *testing.T) {
	h, other := newHost(t, nil), newHost(t, nil)
	a, err := h.Announce(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		identity *ecdsa.PublicKey
		text     string
		now      time.Time
		want     error
	}{
		"another identity": {&other.identity.PublicKey, a.Text, h.now, channel.ErrIdentity},
		"another text":     {&h.identity.PublicKey, strings.Replace(a.Text, "notAfter", "notafter", 1), h.now, channel.ErrIdentity},
		"too late":         {&h.identity.PublicKey, a.Text, h.now.Add(5*time.Minute + time.Second), channel.ErrKeyTime},
		"too early":        {&h.identity.PublicKey, a.Text, h.now.Add(-5*time.Minute - time.Second), channel.ErrKeyTime},
	} {
		if _, err := channel.Verify(c.identity, c.text, a.Signature, c.now); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	for name, text := range map[string]string{
		"nothing": `{}`, "no JSON": `x`, "another suite": strings.Replace(a.Text, "AES-256", "AES-128", 1),
		"a short key": strings.Replace(a.Text, `"publicKey":"0x`, `"publicKey":"0x00`, 1),
		"a short id":  strings.Replace(a.Text, `"keyId":"0x`, `"keyId":"0x00`, 1),
		"no time":     strings.Replace(a.Text, `"time":"`, `"time":"x`, 1),
	} {
		digest := sha256.Sum256([]byte(channel.StatementLabel + text))
		signature, err := ecdsa.SignASN1(rand.Reader, h.identity, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := channel.Verify(&h.identity.PublicKey, text, signature, h.now); !errors.Is(err, channel.ErrIdentity) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestProofs(t *testing.T) {
	h := newHost(t, nil)
	b, prover := h.seal(t, sign)
	use, _, err := h.Open(alice, sign, b, exact)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := use.Prove(channel.Result, []byte(`{"address":"0xAA","attemptsLeft":10}`))
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(answer, &members); err != nil {
		t.Fatal(err)
	}
	good := string(members["proof"])
	for name, text := range map[string]string{
		"none":       `{"address":"0xAA","attemptsLeft":10}`,
		"empty":      `{"address":"0xAA","attemptsLeft":10,"proof":""}`,
		"cut":        `{"address":"0xAA","attemptsLeft":10,"proof":` + good[:10] + `"}`,
		"address":    `{"address":"0xBB","attemptsLeft":10,"proof":` + good + `}`,
		"attempts":   `{"address":"0xAA","attemptsLeft":11,"proof":` + good + `}`,
		"a member":   `{"address":"0xAA","attemptsLeft":10,"more":1,"proof":` + good + `}`,
		"not JSON":   `{`,
		"no object":  `[]`,
		"null":       `null`,
		"wrong kind": `{"address":"0xAA","attemptsLeft":10,"proof":1}`,
	} {
		if err := prover.Check(channel.Result, []byte(text)); !errors.Is(err, channel.ErrProof) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := prover.Check(channel.Failure, answer); !errors.Is(err, channel.ErrProof) {
		t.Errorf("a result passed for an error: %v", err)
	}
	if err := prover.Check(channel.Result, []byte(`{ "proof": `+good+`, "attemptsLeft": 1e1, "address": "\u0030xAA" }`)); err != nil {
		t.Errorf("another spelling of the same: %v", err)
	}
	_, other := h.seal(t, sign)
	if err := other.Check(channel.Result, answer); !errors.Is(err, channel.ErrProof) {
		t.Errorf("the answer to another block: %v", err)
	}
}

func TestDigest(t *testing.T) {
	want := sha256.Sum256([]byte(`{"a":{"b":[1,"é"]},"z":"x"}`))
	for _, text := range []string{
		`{"z":"x","a":{"b":[1,"é"]}}`, ` { "a" : {"b":[1, "\u00e9"]}, "z":"\u0078", "pin":"123456" } `,
		`{"sealedPin":{"keyId":"0x"},"z":"x","newPin":"1","a":{"b":[1,"é"]}}`,
	} {
		if got, err := channel.Digest([]byte(text)); got != want || err != nil {
			t.Errorf("%s: %x, %v", text, got, err)
		}
	}
	for _, text := range []string{``, `[]`, `null`, `1`, `{`} {
		if _, err := channel.Digest([]byte(text)); err == nil {
			t.Errorf("%q has a digest", text)
		}
	}
}

func TestNumbers(t *testing.T) {
	for text, fine := range map[string]bool{
		`{"a":0,"b":[1,-5,9007199254740991,-9007199254740991],"c":"1e99"}`: true,
		`{"a":9007199254740992}`:          false,
		`{"a":[{"b":-9007199254740993}]}`: false,
		`{"a":12345678901234567890}`:      false,
		`{"a":1.5}`:                       false,
		`{"a":1e3}`:                       false,
		`{"a":-0}`:                        false,
	} {
		if err := channel.CheckNumbers([]byte(text)); (err == nil) != fine {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// Nothing that a peer sends may crash the receiver.
func FuzzOpen(f *testing.F) {
	f.Add([]byte("enc"), []byte("ciphertext"), "method", int64(60))
	f.Add(make([]byte, channel.EncSize), make([]byte, channel.CiphertextSize), "", int64(1))
	h := &host{now: time.Now()}
	h.Receiver = channel.NewReceiver(channel.Config{Now: h.clock, PerUID: 8, Total: 8,
		Sign: func(context.Context, [32]byte) ([]byte, error) { return nil, nil }})
	a, err := h.Announce(context.Background())
	if err != nil {
		f.Fatal(err)
	}
	id := make([]byte, 16)
	if _, err := fmt.Sscanf(a.KeyID, "0x%x", &id); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, enc, ciphertext []byte, method string, ahead int64) {
		b := &channel.Block{KeyID: id, Enc: enc, Ciphertext: ciphertext, Expires: h.now.Unix() + ahead%200}
		if _, _, err := h.Open(alice, channel.Request{Method: method}, b, exact); err == nil {
			t.Error("junk opened")
		}
	})
}

func BenchmarkSealAndOpen(b *testing.B) {
	h := &host{now: time.Now()}
	identity, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	h.Receiver = channel.NewReceiver(channel.Config{Now: h.clock, PerUID: 1 << 30, Total: 1 << 30,
		Sign: func(_ context.Context, d [32]byte) ([]byte, error) {
			return ecdsa.SignASN1(rand.Reader, identity, d[:])
		}})
	a, err := h.Announce(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	k, err := channel.Verify(&identity.PublicKey, a.Text, a.Signature, h.now)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		block, _, err := k.Seal(sign, &channel.PINs{PIN: []byte("271828")}, h.now.Add(time.Minute))
		if err != nil {
			b.Fatal(err)
		}
		if _, _, err := h.Open(alice, sign, block, exact); err != nil {
			b.Fatal(err)
		}
	}
}
