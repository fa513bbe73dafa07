package main

import (
	"sync/atomic"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"go.etcd.io/bbolt"

	"github.com/sigild/sigild/cmd/internal/ask/asktest"
	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/hsm"
)

// coder reads and writes the database's CBOR.
type coder struct {
	t    *testing.T
	mode cbor.EncMode
}

func newCoder(t *testing.T) *coder {
	t.Helper()
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		t.Fatal(err)
	}
	return &coder{t, mode}
}

func (c *coder) decode(data []byte, to any) {
	c.t.Helper()
	if err := cbor.Unmarshal(data, to); err != nil {
		c.t.Fatal(err)
	}
}

func (c *coder) encode(value any) []byte {
	c.t.Helper()
	data, err := c.mode.Marshal(value)
	if err != nil {
		c.t.Fatal(err)
	}
	return data
}

// changeInstallation writes the installation document anew, with a MAC by the
// token's key where it is to be authentic, and else with the one that it had.
func changeInstallation(t *testing.T, h *daemontest.Host, authentic bool, change func(*coder, map[int]cbor.RawMessage)) {
	t.Helper()
	v, c := openVault(t, h), newCoder(t)
	defer v.close(t)
	var envelope struct {
		_      struct{} `cbor:",toarray"`
		Format uint8
		Body   []byte
		MAC    []byte
	}
	var body map[int]cbor.RawMessage
	c.decode(stored(t, v.db, "meta", []byte("installation")), &envelope)
	c.decode(envelope.Body, &body)
	change(c, body)
	envelope.Body = c.encode(body)
	if authentic {
		mac, err := v.keys.HMAC(testContext(t), hsm.Record, append([]byte("sigild/installation/v1"), envelope.Body...))
		if err != nil {
			t.Fatal(err)
		}
		envelope.MAC = mac[:]
	}
	err := v.db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("meta")).Put([]byte("installation"), c.encode(envelope))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// setEnforcement has the document say who refused to give keys out when the host
// was provisioned.
func setEnforcement(t *testing.T, h *daemontest.Host, who string) {
	t.Helper()
	changeInstallation(t, h, true, func(c *coder, body map[int]cbor.RawMessage) {
		const generations, enforcement = 4, 4 // docs/format.md
		var list []map[int]cbor.RawMessage
		c.decode(body[generations], &list)
		list[0][enforcement] = c.encode(who)
		body[generations] = c.encode(list)
	})
}

// TestLessEnforcementStopsTheStart: a token that refused in part what it does not
// refuse any more, or that refuses in part now, is not what was provisioned.
func TestLessEnforcementStopsTheStart(t *testing.T) {
	faults, module := faultyToken(t)
	h := newHost(t, module)
	faults.RefuseTemplates() // the token has none: the daemon alone keeps keys in
	provision(t, h)
	for _, c := range []struct {
		provisioned string
		starts      bool
	}{
		{hsm.EnforcedByDaemon, true}, {hsm.EnforcedInPart, false}, {hsm.EnforcedByToken, false},
		{"a word of another version", false}, {hsm.EnforcedByDaemon, true},
	} {
		setEnforcement(t, h, c.provisioned)
		if !c.starts {
			refusedWith(t, h, "enforces less", c.provisioned)
			continue
		}
		start(t, h)
		stop(t, h)
	}
}

// TestTypedPINIsSealedAfterAllIsVerified: an installation document that nobody has
// authenticated says to which TPM, and for which states, a typed PIN is sealed.
func TestTypedPINIsSealedAfterAllIsVerified(t *testing.T) {
	m := newDevices(t, daemontest.Options{Config: map[string]string{"token": `pin = "prompt"`}})
	if _, err := m.Provision(m.ctx); err != nil {
		t.Fatal(err)
	}
	tap, err := m.TapTPM()
	if err != nil {
		t.Fatal(err)
	}
	var sealed atomic.Int32
	tap.Watch(func(code uint32) {
		const create = 0x153 // TPM_CC_Create
		if code == create {
			sealed.Add(1)
		}
	})
	run := func(authentic bool, says string) *asktest.Terminal {
		created := int64(1)
		if authentic {
			created = 2
		}
		changeInstallation(t, m.Host, authentic, func(c *coder, body map[int]cbor.RawMessage) {
			const field = 2 // docs/format.md: Created
			body[field] = c.encode(created)
		})
		sealed.Store(0)
		term := asktest.Start(t, m.Command(m.ctx, "run"))
		term.Expect("User PIN of the token: ")
		term.Send(string(m.TokenPIN()) + "\r")
		term.Expect(says)
		return term
	}
	run(false, "changed outside the daemon").Wait()
	if n := sealed.Load(); n != 0 {
		t.Errorf("the TPM sealed %d times for a document that is not authentic", n)
	}
	term := run(true, "msg=ready")
	if n := sealed.Load(); n != 1 {
		t.Errorf("the TPM sealed %d times", n)
	}
	term.Send("\x03")
	if code, shown := term.Wait(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, shown)
	}
}
