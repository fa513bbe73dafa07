package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/ipc"
)

// TestRecordedConversations plays testdata/service/*.txt: every method's
// successes and refusals, each file with wallets of its own on one host.
func TestRecordedConversations(t *testing.T) {
	h, _ := serving(t, withConfig(map[string]string{"limits": "unlocks = 2\nunlocks_per_uid = 2"}))
	files, err := filepath.Glob("testdata/service/*.txt")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d conversations, %v", len(files), err)
	}
	r := recorded(h)
	seen := map[string]bool{}
	r.Told = func(answer []byte) { seen[reasonIn(answer)] = true }
	r.Hooks = map[string]func(*testing.T){"another wallet is unlocked": func(t *testing.T) { unlockAnother(t, h) }}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { r.Play(t, file) })
	}
	for _, reason := range []string{"wrongPin", "pinWait", "pinSyntax", "pinWeak", "unlockRequired", "termsExceeded", "policyDenied",
		"notFound", "frozen", "deleted", "requestReused", "externalIdTaken", "tooManyAccounts", "wrongSender", "digest",
		"invalidParams", "tooManyUnlocks"} {
		if !seen[reason] {
			t.Errorf("no conversation shows the reason %q", reason)
		}
	}
}

// reasonIn is the reason of an answer, "" of a result.
func reasonIn(answer []byte) string {
	var a struct{ Error *ipc.Error }
	if json.Unmarshal(answer, &a) != nil || a.Error == nil {
		return ""
	}
	return a.Error.Reason
}

// unlockAnother takes the last place for an unlock.
func unlockAnother(t *testing.T, h *daemontest.Host) {
	t.Helper()
	c := dial(t, h.Socket)
	w := create(t, c, t.Name())
	_, err := c.Unlock(testContext(t), ipc.UnlockParams{WalletID: w.WalletID, PIN: ipc.Secret(rightPIN), Bind: "uid",
		Terms: ipc.Terms{Signatures: 1, Seconds: 300, TotalValue: ipc.Any, Policy: ipc.Policy{Operations: []string{"message"}}}})
	wantReason(t, err, "tooManyUnlocks")
}
