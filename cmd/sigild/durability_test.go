package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/ipc"
	"github.com/sigild/sigild/ipc/ipctest"
)

// traced is a provisioned host whose `sigild run` will be traced into the file.
// With -D the tracer is the child, so that signals reach sigild; Stop returns
// when the tracer is done as well, because it holds standard error.
func traced(t *testing.T) (h *daemontest.Host, file string) {
	t.Helper()
	h = newHost(t)
	provision(t, h)
	file = filepath.Join(h.Dir, "trace")
	strace := []string{"strace", "-D", "-f", "-qq", "-y", "-x", "-s", "1048576",
		"-e", "trace=fsync,fdatasync,pwrite64,write,sendto,sendmsg,writev", "-e", "signal=none", "-o", file}
	h.Sigild = append(strace, h.Sigild...)
	return h, file
}

// caller makes requests with ids of its own, by which the trace tells answers
// apart.
type caller struct {
	t       *testing.T
	conn    interface{ Write([]byte) (int, error) }
	answers *json.Decoder
	last    int
}

func newCaller(t *testing.T, h *daemontest.Host) *caller {
	t.Helper()
	conn := ipctest.Connect(t, h.Socket)
	return &caller{t: t, conn: conn, answers: json.NewDecoder(conn), last: 7000}
}

// call makes a request and gives the mark of its answer: the text that only the
// answer's write holds.
func (c *caller) call(method, params, reason string) (mark []byte, result json.RawMessage) {
	c.t.Helper()
	c.last++
	if _, err := fmt.Fprintf(c.conn, `{"jsonrpc":"2.0","id":%d,"method":%q,"params":[%s]}`+"\n", c.last, method, params); err != nil {
		c.t.Fatal(err)
	}
	var answer struct {
		Result json.RawMessage
		Error  *ipc.Error
	}
	if err := c.answers.Decode(&answer); err != nil {
		c.t.Fatal(err)
	}
	if got := ipc.ReasonOf(errorOrNil(answer.Error)); got != reason {
		c.t.Fatalf("%s: reason %q, want %q", method, got, reason)
	}
	return fmt.Appendf(nil, `"id":%d`, c.last), answer.Result
}

// between gives the events after the answer with the one mark and up to the
// beginning of the answer with the other.
func between(t *testing.T, events []event, from, to []byte) []event {
	t.Helper()
	index := func(mark []byte) int {
		i := slices.IndexFunc(events, func(e event) bool {
			return e.begin && e.call != "pwrite64" && bytes.Contains(e.data, mark)
		})
		if i < 0 {
			t.Fatalf("the trace does not have the answer %s", mark)
		}
		return i
	}
	a, b := index(from), index(to)
	if a >= b {
		t.Fatalf("the answers %s and %s are not in order", from, to)
	}
	return events[a+1 : b]
}

// durable looks at a stretch of a trace that ends where something is told to
// the world: every write to the file must have been followed by a sync that
// began after it ended, and one write must hold what was to be stored.
func durable(events []event, file string, stored []byte) error {
	writes, clean, held := 0, false, false
	pending := false // a sync that began when all was written
	for _, e := range events {
		if e.on != file {
			continue
		}
		switch e.call {
		case "fsync", "fdatasync":
			if e.begin {
				pending = true
			}
			clean = clean || e.end && pending
		default:
			writes++
			clean, pending = false, false
			held = held || bytes.Contains(e.data, stored)
		}
	}
	switch {
	case writes == 0:
		return fmt.Errorf("nothing was written to %s", file)
	case !held:
		return fmt.Errorf("%d writes to %s do not hold what was to be stored", writes, file)
	case !clean:
		return fmt.Errorf("the last write to %s was not synced", file)
	}
	return nil
}

// untilTPM cuts a stretch before the first HMAC command to the TPM.
func untilTPM(t *testing.T, events []event) []event {
	t.Helper()
	i := slices.IndexFunc(events, func(e event) bool { return e.begin && isHMAC(e.data) })
	if i < 0 {
		t.Fatal("the trace has no TPM2_HMAC")
	}
	return events[:i]
}

// isHMAC recognises a command with sessions (TPM_ST_SESSIONS), of the size that
// it says, and the code TPM_CC_HMAC (TPM 2.0 Part 3, TPM2_HMAC).
func isHMAC(b []byte) bool {
	return len(b) > 10 && binary.BigEndian.Uint16(b) == uint16(tpm2.TPMSTSessions) &&
		binary.BigEndian.Uint32(b[2:]) == uint32(len(b)) && binary.BigEndian.Uint32(b[6:]) == uint32(tpm2.TPMCCHMAC)
}

// TestNothingIsAnsweredBeforeItIsOnDisk traces sigild through a creation, a
// right and a wrong PIN check.
func TestNothingIsAnsweredBeforeItIsOnDisk(t *testing.T) {
	h, file := traced(t)
	start(t, h)
	c := newCaller(t, h)
	idle, _ := c.call(ipc.MethodStatus, "{}", "")
	created, result := c.call(ipc.MethodCreateWallet, fmt.Sprintf(`{"requestId":"1","owner":"alice","pin":%q}`, rightPIN), "")
	var made ipc.CreateWalletResult
	if err := json.Unmarshal(result, &made); err != nil {
		t.Fatal(err)
	}
	id := made.Wallet.WalletID
	sign := func(pin string) string {
		return fmt.Sprintf(`{"walletId":%q,"message":"0x68656c6c6f","pin":%q}`, id, pin)
	}
	signed, _ := c.call(ipc.MethodSignMessage, sign(rightPIN), "")
	refused, _ := c.call(ipc.MethodSignMessage, sign(wrongPIN), "wrongPin")
	stop(t, h)
	events, err := readTrace(file)
	if err != nil {
		t.Fatal(err)
	}
	creation, right, wrong := between(t, events, idle, created), between(t, events, created, signed), between(t, events, signed, refused)
	line := fmt.Appendf(nil, `"walletId":%q`, id)
	for _, must := range []struct {
		what   string
		events []event
		file   string
		stored []byte
	}{
		{"the record before a creation's answer", creation, h.Database(), id},
		{"the audit line before a creation's answer", creation, h.AuditLog(), line},
		{"the charge before a right PIN's check", untilTPM(t, right), h.Database(), id},
		{"the charge before a wrong PIN's check", untilTPM(t, wrong), h.Database(), id},
		{"the settled charge before a signature", right, h.Database(), id},
		{"the charge before a refusal", wrong, h.Database(), id},
		{"the audit line before a signature", right, h.AuditLog(), line},
		{"the audit line before a refusal", wrong, h.AuditLog(), line},
	} {
		if err := durable(must.events, must.file, must.stored); err != nil {
			t.Errorf("%s: %v", must.what, err)
		}
	}
}

// TestDurableFindsWhatIsNotSynced shows the rule on traces that must fail.
func TestDurableFindsWhatIsNotSynced(t *testing.T) {
	write := func(data string) event {
		return event{call: "pwrite64", on: "f", data: []byte(data), begin: true, end: true}
	}
	sync := event{call: "fdatasync", on: "f", begin: true, end: true}
	begins, ends := event{call: "fdatasync", on: "f", begin: true}, event{call: "fdatasync", on: "f", end: true}
	for name, trace := range map[string]struct {
		events []event
		sound  bool
	}{
		"a write and a sync":         {[]event{write("x"), sync}, true},
		"a sync in two pieces":       {[]event{write("x"), begins, ends}, true},
		"nothing":                    {nil, false},
		"no sync":                    {[]event{write("x")}, false},
		"a sync before the write":    {[]event{sync, write("x")}, false},
		"a sync that has not ended":  {[]event{write("x"), begins}, false},
		"a write during the sync":    {[]event{write("x"), begins, write("y"), ends}, false},
		"a second write":             {[]event{write("x"), sync, write("y")}, false},
		"a write of something else":  {[]event{write("y"), sync}, false},
		"a sync of another file":     {[]event{write("x"), {call: "fdatasync", on: "g", begin: true, end: true}}, false},
		"only writes to other files": {[]event{{call: "pwrite64", on: "g", data: []byte("x"), begin: true, end: true}, sync}, false},
	} {
		if err := durable(trace.events, "f", []byte("x")); (err == nil) != trace.sound {
			t.Errorf("%s: %v", name, err)
		}
	}
}
