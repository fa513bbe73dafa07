package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/sigild/sigild/ipc"
)

// pageSize is how many wallets are asked for at once.
const pageSize = 500

// listing reads the wallets page by page.
type listing struct {
	app    *app
	client *ipc.Client
	owner  string
	limit  int // 0 for all

	wallets []ipc.WalletInfo
	raw     []json.RawMessage // the same, as the daemon wrote them
	more    bool              // the limit cut the rest off
}

// page is a ListWalletsResult whose wallets are kept as they were written.
type page struct {
	Wallets []json.RawMessage `json:"wallets"`
	Cursor  string            `json:"cursor"`
}

func (l *listing) read(ctx context.Context) error {
	for cursor := ""; ; {
		params := ipc.ListWalletsParams{Owner: l.owner, Cursor: cursor, Limit: l.want()}
		p, _, err := call[page](ctx, l.app, l.client, ipc.MethodListWallets, params)
		if err != nil {
			return err
		}
		if len(p.Wallets) > params.Limit || p.Cursor != "" && (p.Cursor == cursor || len(p.Wallets) == 0) {
			return fmt.Errorf("%w: a page that leads nowhere", ipc.ErrProtocol)
		}
		if err := l.take(p.Wallets); err != nil {
			return err
		}
		cursor = p.Cursor
		l.more = cursor != "" && l.limit > 0 && len(l.raw) >= l.limit
		if cursor == "" || l.more {
			return nil
		}
	}
}

func (l *listing) want() int {
	if l.limit == 0 {
		return pageSize
	}
	return min(pageSize, l.limit-len(l.raw))
}

func (l *listing) take(wallets []json.RawMessage) error {
	for _, raw := range wallets {
		var w ipc.WalletInfo
		if err := json.Unmarshal(raw, &w); err != nil {
			return fmt.Errorf("%w: a wallet of the list", ipc.ErrProtocol)
		}
		l.wallets = append(l.wallets, w)
		l.raw = append(l.raw, raw)
	}
	return nil
}

// String is the table for people, with the address of the first account.
func (l *listing) String() string {
	if len(l.wallets) == 0 {
		return "no wallets\n"
	}
	rows := [][]string{{"WALLET", "ADDRESS", "STATE", "ATTEMPTS", "ACCOUNTS", "CREATED (UTC)", "OWNER", "LABEL"}}
	for _, w := range l.wallets {
		address := "-"
		if len(w.Accounts) > 0 {
			address = w.Accounts[0].Address
		}
		rows = append(rows, []string{w.WalletID.String(), address, w.State, fmt.Sprint(w.AttemptsLeft),
			fmt.Sprint(len(w.Accounts)), short(w.CreatedAt), w.Owner, w.Label})
	}
	return table(rows)
}
