package main

import (
	"encoding/json"
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
	h, _ := serving(t)
	s := &sealer{host: h}
	r := recorded(h)
	r.Prepare = s.prepare
	return r
}

// sealer puts sealed PINs into recorded requests. "<sealed 402916>" stands for
// one, "<sealed 402916/591823>" for an old and a new one, and what follows a
// comma says what is wrong with it.
type sealer struct {
	host *daemontest.Host
	key  *channel.Key
	last ipc.SealedPIN
}

var sealedMark = regexp.MustCompile(`"<sealed (\d+)(?:/(\d+))?(?:, ([a-z ]+))?>"`)

func (s *sealer) prepare(t *testing.T, request string) string {
	t.Helper()
	m := sealedMark.FindStringSubmatch(request)
	if m == nil {
		return request
	}
	block := s.last
	if m[3] != "used before" {
		block = s.seal(t, request, m)
		s.last = block
	}
	return strings.Replace(request, m[0], string(mustJSON(t, block)), 1)
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
	switch m[3] {
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
	b, _, err := s.pinKey(t).Seal(channel.Request{Method: q.Method, Digest: digest}, pins, expires)
	if err != nil {
		t.Fatal(err)
	}
	if m[3] == "to an older key" {
		b.KeyID = make([]byte, len(channel.ID{}))
	}
	return ipc.SealedPIN{KeyID: b.KeyID, Enc: b.Enc, Ciphertext: b.Ciphertext, Expires: ipc.At(time.Unix(b.Expires, 0))}
}

func (s *sealer) pinKey(t *testing.T) *channel.Key {
	t.Helper()
	if s.key != nil {
		return s.key
	}
	r, err := dial(t, s.host.Socket).PinKey(testContext(t))
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
