package main

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sigild/sigild/daemon/audit"
	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/hsm/hsmtest"
	"github.com/sigild/sigild/ipc"
)

// newManaged is a provisioned host with the metrics and the service manager's
// socket in its configuration, and what scrapes the former.
func newManaged(t *testing.T, change ...func(*daemontest.Options)) (*daemontest.Host, *manager, func() string) {
	t.Helper()
	manager, env := newManager(t)
	h := newHost(t, append(change, func(o *daemontest.Options) { o.Env = append(o.Env, env...) })...)
	scrape := monitored(t, h)
	provision(t, h)
	return h, manager, scrape
}

// notReady wants READY withheld, and the same reason in the service manager's
// STATUS, in sigild_status and in the metrics.
func notReady(t *testing.T, h *daemontest.Host, manager *manager, scrape func() string, reason string) {
	t.Helper()
	if message, n := manager.message("STATUS=not ready yet: ", "READY=1"); !strings.Contains(message[n], reason+": ") {
		t.Errorf("%q does not name %s", message[n], reason)
	}
	manager.withheld(3)
	failsFor(t, h, scrape, reason)
}

// failsFor wants sigild_status and the metrics to be failing for the reason.
func failsFor(t *testing.T, h *daemontest.Host, scrape func() string, reason string) {
	t.Helper()
	if state, reasons := reasonsOf(t, dial(t, h.Socket)); state != "failing" || !slices.Contains(reasons, reason) {
		t.Errorf("state %q, reasons %v, want %s", state, reasons, reason)
	}
	text := scrape()
	for _, want := range []string{"sigild_ready 0\n", `sigild_degraded{reason="` + reason + `"} 1` + "\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("the scrape lacks %q", want)
		}
	}
}

// A database that is refused serves nobody, whatever the devices answer.
func TestReadyNotOnAnOlderCopy(t *testing.T) {
	h, manager, scrape := newManaged(t)
	start(t, h)
	manager.await("READY=1")
	c := dial(t, h.Socket)
	w := create(t, c, "1").WalletID
	old := copyOf(t, h)
	if _, err := tryPIN(t, c, w, rightPIN); err != nil {
		t.Fatal(err)
	}
	putBack(t, h, old)
	for _, told := range []string{"STOPPING=1", "READY=1", "STOPPING=1"} { // by the runs before
		manager.await(told)
	}
	notReady(t, h, manager, scrape, "databaseRefused")
	stop(t, h)
	manager.await("STOPPING=1")
	if said, err := check(t, h, "--accept"); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	start(t, h)
	manager.await("READY=1")
}

func TestReadyNotWithAFaultyToken(t *testing.T) {
	faults, module := faultyToken(t)
	h, manager, scrape := newManaged(t, module)
	start(t, h)
	manager.await("READY=1")
	c := dial(t, h.Socket)
	w := create(t, c, "1").WalletID
	faults.WrongSignatures(hsmtest.Forever)
	_, err := tryPIN(t, c, w, rightPIN)
	wantReason(t, err, "tokenFault")
	manager.await("STATUS=failing: tokenFault: ")
	failsFor(t, h, scrape, "tokenFault")
	stop(t, h)
	manager.await("STOPPING=1")
	faults.ClearAll() // the probe key signs well, and wallets' keys might
	start(t, h)
	notReady(t, h, manager, scrape, "tokenFault")
	stop(t, h)
	manager.await("STOPPING=1")
	if code, said := command(t, h, "", "clear-token-fault"); code != 0 {
		t.Fatalf("clear-token-fault: exit code %d: %s", code, said)
	}
	start(t, h)
	manager.await("READY=1")
}

// A device that is away at the start withholds READY until it comes.
func TestReadyWhenTheDeviceReturns(t *testing.T) {
	h, manager, scrape := newManaged(t)
	h.StopTPM()
	start(t, h)
	notReady(t, h, manager, scrape, "tpmAway")
	if err := h.BootTPM(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if ready, _ := manager.message("READY=1", "STATUS=ready"); !slices.Contains(ready, "STATUS=ready") {
		t.Errorf("READY came with %q", ready)
	}
	w := create(t, dial(t, h.Socket), "1").WalletID
	if _, err := tryPIN(t, dial(t, h.Socket), w, rightPIN); err != nil {
		t.Error(err)
	}
}

// A log that cannot be written is told of from the first request on that met it,
// and service returns without a restart.
func TestFullAuditDiskIsReported(t *testing.T) {
	h, manager, scrape := newManaged(t)
	start(t, h)
	manager.await("READY=1")
	c := dial(t, h.Socket)
	w := create(t, c, "1").WalletID
	mend := refuseWrites(t, h, h.AuditLog(), "write:error=ENOSPC")
	_, err := tryPIN(t, c, w, rightPIN)
	wantReason(t, err, "auditUnavailable")
	if status := manager.await("STATUS=failing: auditLog: "); !strings.Contains(status, "no space left") {
		t.Errorf("%q does not say why", status)
	}
	failsFor(t, h, scrape, "auditLog")
	mend(t)
	manager.await("STATUS=ready")
	if _, err := tryPIN(t, c, w, rightPIN); err != nil {
		t.Error(err)
	}
	wholeAuditLog(t, h)
}

// wholeAuditLog wants a log of entries alone, numbered without a gap, and gives
// them.
func wholeAuditLog(t *testing.T, h *daemontest.Host) (entries []audit.Entry) {
	t.Helper()
	text, err := os.ReadFile(h.AuditLog())
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var e audit.Entry
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Sequence != uint64(len(entries)+1) || line[0] != '{' {
			t.Fatalf("line %d of the audit log, %q: %v", len(entries)+1, line, err)
		}
		entries = append(entries, e)
	}
	return entries
}

// A database that cannot be written is told of although nobody asks for anything.
func TestFullDatabaseDiskIsReported(t *testing.T) {
	h, manager, scrape := newManaged(t)
	start(t, h)
	manager.await("READY=1")
	c := dial(t, h.Socket)
	w := create(t, c, "1").WalletID
	mend := refuseWrites(t, h, h.Database(), "pwrite64:error=ENOSPC")
	manager.await("STATUS=failing: databaseWrite: ")
	failsFor(t, h, scrape, "databaseWrite")
	_, err := tryPIN(t, c, w, rightPIN)
	wantReason(t, err, "diskUnavailable")
	if _, err := c.GetWallet(testContext(t), ipc.GetWalletParams{WalletID: w}); err != nil {
		t.Errorf("looking at a wallet: %v", err)
	}
	mend(t)
	manager.await("STATUS=ready")
	if _, err := tryPIN(t, c, w, rightPIN); err != nil {
		t.Error(err)
	}
}
