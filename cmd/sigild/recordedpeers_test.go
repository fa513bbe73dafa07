package main

import (
	"encoding/json"
	"fmt"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sigild/sigild/daemon/channel"
	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/ipc"
	"github.com/sigild/sigild/ipc/ipctest"
)

// peers plays with connections of several users. The daemon's own user plays root,
// where the test runs as another.
func peers(t *testing.T) ipctest.Recorded {
	h := openToAll(t, "allow = "+uids(own, relayUID), withConfig(map[string]string{"pin": cheapPIN}))
	uid := own
	as := func(who int) func(*testing.T) { return func(*testing.T) { uid = who } }
	r := hooked(h, map[string]func(*testing.T){"as root": as(own), "as another relay": as(relayUID), "as a stranger": as(strangerUID)})
	r.Dial = func(t *testing.T) net.Conn { return connectAs(t, h, uid) }
	return r
}

// sealedBlocks plays with PINs that are sealed for each run.
func sealedBlocks(t *testing.T) ipctest.Recorded {
	h, _ := serving(t, custody())
	return recorded(h)
}

// sealer puts sealed PINs into recorded requests. "<sealed 402916>" stands for
// one, "<sealed 402916/591823>" for an old and a new one, "<sealed 402916 key 7>"
// for one with the private key 7, and what follows a comma says what is wrong with
// it. "<recipient>" stands for a public key to seal a private one to.
type sealer struct {
	host *daemontest.Host
	key  *channel.Key
	last ipc.SealedPIN
	out  *channel.Recipient
}

// capitals marks an id that is sent in capital letters.
var capitals = regexp.MustCompile(`"<in capitals 0x([0-9a-f]+)>"`)

var sealedMark = regexp.MustCompile(`"<sealed (\d+)(?:/(\d+))?(?: key (\d+))?(?:, ([a-z ]+))?>"`)

func (s *sealer) prepare(t *testing.T, request string) string {
	t.Helper()
	request = s.withRecipient(t, request)
	request = capitals.ReplaceAllStringFunc(request, func(mark string) string {
		return `"0x` + strings.ToUpper(capitals.FindStringSubmatch(mark)[1]) + `"`
	})
	m := sealedMark.FindStringSubmatch(request)
	if m == nil {
		return request
	}
	block := s.last
	if m[4] != "used before" {
		block = s.seal(t, request, m)
		s.last = block
	}
	return strings.Replace(request, m[0], string(mustJSON(t, block)), 1)
}

// params is prepare for the parameters alone, without their brackets.
func (s *sealer) params(t *testing.T, method, params string) string {
	t.Helper()
	head, tail := fmt.Sprintf(`{"method":%q,"params":[`, method), "]}"
	return strings.TrimSuffix(strings.TrimPrefix(s.prepare(t, head+params+tail), head), tail)
}

func (s *sealer) seal(t *testing.T, request string, m []string) ipc.SealedPIN {
	t.Helper()
	var q struct {
		Method string
		Params []map[string]json.RawMessage
	}
	if err := json.Unmarshal([]byte(request), &q); err != nil || len(q.Params) != 1 {
		t.Fatalf("%s: %v", request, err)
	}
	delete(q.Params[0], "sealedPin")
	expires := time.Now().Add(channel.Lifetime)
	switch m[4] {
	case "expired":
		expires = time.Now().Add(-time.Minute)
	case "for another request":
		q.Params[0]["message"] = json.RawMessage(`"0xff"`)
	}
	digest, err := channel.Digest(mustJSON(t, q.Params[0]))
	if err != nil {
		t.Fatal(err)
	}
	pins := &channel.PINs{PIN: []byte(m[1])}
	if m[2] != "" {
		pins.New = []byte(m[2])
	}
	if m[3] != "" {
		pins.Key = make([]byte, channel.KeySize)
		if _, err := fmt.Sscan(m[3], &pins.Key[channel.KeySize-1]); err != nil {
			t.Fatal(err)
		}
	}
	b, _, err := s.pinKey(t).Seal(channel.Request{Method: q.Method, Digest: digest}, pins, expires)
	if err != nil {
		t.Fatal(err)
	}
	if m[4] == "to an older key" {
		b.KeyID = make([]byte, len(channel.ID{}))
	}
	return ipc.SealedPIN{KeyID: b.KeyID, Enc: b.Enc, Ciphertext: b.Ciphertext, Expires: ipc.At(time.Unix(b.Expires, 0))}
}

// withRecipient puts one public key in the place of every mark.
func (s *sealer) withRecipient(t *testing.T, request string) string {
	t.Helper()
	if !strings.Contains(request, "<recipient>") {
		return request
	}
	if s.out == nil {
		var err error
		if s.out, err = channel.NewRecipient(); err != nil {
			t.Fatal(err)
		}
	}
	return strings.ReplaceAll(request, "<recipient>", ipc.Hex(s.out.Public()).String())
}

// pinKey is the daemon's key, or the last one when it cannot make another.
func (s *sealer) pinKey(t *testing.T) *channel.Key {
	t.Helper()
	r, err := dial(t, s.host.Socket).PinKey(testContext(t))
	if err != nil && s.key != nil {
		return s.key
	}
	if err != nil {
		t.Fatal(err)
	}
	pinned, err := channel.ParseIdentity(identity(t, s.host))
	if err != nil {
		t.Fatal(err)
	}
	if s.key, err = channel.Verify(pinned, r.Statement, r.Signature, time.Now()); err != nil {
		t.Fatal(err)
	}
	return s.key
}
