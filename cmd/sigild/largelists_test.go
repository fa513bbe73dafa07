package main

import (
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/sigild/sigild/daemon/policy"
	"github.com/sigild/sigild/ipc"
)

// A small request must not have the daemon hold more than it can bear, however
// large the wallets are: pages end early, and so does a batch of them.
func TestListsOfLargeWalletsAreBounded(t *testing.T) {
	h, c := serving(t)
	const made = 70
	for n := range made {
		createLarge(t, c, n)
	}
	seen, pages := map[string]bool{}, 0
	for p := (ipc.ListWalletsParams{Limit: 1000}); pages == 0 || p.Cursor != ""; pages++ {
		r, err := c.ListWallets(testContext(t), p)
		if err != nil || len(r.Wallets) == 0 {
			t.Fatalf("a page of %d wallets, %v", len(r.Wallets), err)
		}
		for _, w := range r.Wallets {
			if seen[w.WalletID.String()] {
				t.Errorf("%s is listed again", w.WalletID)
			}
			seen[w.WalletID.String()] = true
		}
		p.Cursor = r.Cursor
	}
	if len(seen) != made || pages < 2 {
		t.Errorf("%d of %d wallets on %d pages", len(seen), made, pages)
	}
	listInBatch(t, h.Socket)
}

// createLarge makes a wallet of some 20 KB in an answer.
func createLarge(t *testing.T, c *ipc.Client, n int) {
	t.Helper()
	rules := &ipc.Policy{Operations: []string{"message"}}
	escaped := strings.Repeat("<", 250) // six bytes each in JSON
	for r := range policy.MaxRecipients {
		rules.Recipients = append(rules.Recipients, fmt.Sprintf("0x%040x", r))
		rules.Selectors = append(rules.Selectors, fmt.Sprintf("0x%08x", r))
	}
	_, err := c.CreateWallet(testContext(t), ipc.CreateWalletParams{RequestID: fmt.Sprint(n), Owner: escaped, Label: escaped, ExternalID: fmt.Sprint(escaped, n),
		Policy: rules, PIN: ipc.Secret(rightPIN)})
	if err != nil {
		t.Fatal(err)
	}
}

// listInBatch asks for 64 pages at once.
func listInBatch(t *testing.T, socket string) {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	calls := strings.Repeat(`,{"jsonrpc":"2.0","id":1,"method":"sigild_listWallets","params":[{"limit":1000}]}`, 64)
	if _, err := fmt.Fprintf(conn, "[%s]", calls[1:]); err != nil {
		t.Fatal(err)
	}
	var answers []struct {
		Result json.RawMessage
		Error  *ipc.Error
	}
	if err := json.NewDecoder(conn).Decode(&answers); err != nil {
		t.Fatal(err)
	}
	size, refused := 0, 0
	for _, a := range answers {
		if a.Error == nil {
			size += len(a.Result)
			continue
		}
		wantReason(t, a.Error, ipc.ReasonOverloaded)
		refused++
	}
	t.Logf("%d bytes in %d answers, %d refused", size, len(answers), refused)
	if len(answers) != 64 || refused == 0 || size < 32<<20 || size > 32<<20+4*(2<<20) {
		t.Errorf("%d bytes in %d answers, %d refused", size, len(answers), refused)
	}
}
