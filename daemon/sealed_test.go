package daemon

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/sigild/sigild/daemon/channel"
	"github.com/sigild/sigild/daemon/config"
	"github.com/sigild/sigild/daemon/wallet"
	"github.com/sigild/sigild/ipc"
)

// sealing is a daemon that has nothing but its end of the PIN channel.
type sealing struct {
	*Daemon
	key *channel.Key
}

func newSealing(t *testing.T, answerBytes int) *sealing {
	t.Helper()
	identity, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(_ context.Context, digest [32]byte) ([]byte, error) {
		return ecdsa.SignASN1(rand.Reader, identity, digest[:])
	}
	d := &Daemon{config: &config.Config{}, hard: t.Context()}
	d.config.Limits.RequestTimeout = config.Duration(time.Minute)
	d.receiver = channel.NewReceiver(channel.Config{Now: time.Now, Sign: sign, PerUID: 8, Total: 8, AnswerBytesPerUID: answerBytes, AnswerBytes: 1 << 20})
	a, err := d.receiver.Announce(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	key, err := channel.Verify(&identity.PublicKey, a.Text, a.Signature, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return &sealing{d, key}
}

// ask answers one request with one sealed PIN twice, from two users if they are
// two, and says how often it was carried out.
func (s *sealing) ask(t *testing.T, failure error, first, second uint32) (runs int, answers [2]string, errs [2]error) {
	t.Helper()
	q := channel.Request{Method: ipc.MethodSignMessage}
	b, _, err := s.key.Seal(q, &channel.PINs{PIN: []byte("402916")}, time.Now().Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	for n, uid := range []uint32{first, second} {
		params := ipc.SignMessageParams{SealedPIN: &ipc.SealedPIN{KeyID: b.KeyID, Enc: b.Enc, Ciphertext: b.Ciphertext,
			Expires: ipc.At(time.Unix(b.Expires, 0))}}
		use, err := s.openPINs(wallet.Peer{UID: uid}, q, &params, json.RawMessage("[{}]"))
		if err != nil {
			errs[n] = wireError(err)
			continue
		}
		answer, err := s.answerSealed(t.Context(), use, func(context.Context) (any, error) {
			runs++
			return struct{}{}, failure
		})
		if text, ok := answer.(json.RawMessage); ok {
			answers[n] = string(text)
		}
		errs[n] = err
	}
	return runs, answers, errs
}

// The same request again, byte by byte, gets the first answer, be it a failure.
func TestAgainGetsTheFirstAnswer(t *testing.T) {
	s := newSealing(t, 1<<20)
	if runs, answers, errs := s.ask(t, nil, 1, 1); runs != 1 || answers[0] == "" || answers[0] != answers[1] || errors.Join(errs[:]...) != nil {
		t.Errorf("run %d times: %q, %v", runs, answers, errs)
	}
	runs, _, errs := s.ask(t, wireError(&wallet.PINError{}), 1, 1)
	var wrong [2]*ipc.Error
	for n, err := range errs {
		if !errors.As(err, &wrong[n]) || wrong[n].Reason != "wrongPin" || len(wrong[n].Proof) != 32 {
			t.Fatalf("answer %d: %v", n, err)
		}
	}
	if runs != 1 || wrong[0].Proof.String() != wrong[1].Proof.String() {
		t.Errorf("run %d times: %v", runs, errs)
	}
}

// An answer that was not kept, and one that is somebody else's, have a reason.
func TestAgainWithoutAnAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		answerBytes int
		second      uint32
	}{"not kept": {0, 1}, "another user": {1 << 20, 2}} {
		runs, answers, errs := newSealing(t, c.answerBytes).ask(t, nil, 1, c.second)
		var used *ipc.Error
		if runs != 1 || answers[0] == "" || answers[1] != "" || !errors.As(errs[1], &used) || used.Reason != ipc.ReasonSealedPINUsed {
			t.Errorf("%s: run %d times, %q, %v", name, runs, answers, errs)
		}
	}
}
