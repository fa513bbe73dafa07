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
	filter ipc.ListWalletsParams // its Limit is for all pages, 0 for none

	wallets []ipc.WalletInfo
	raw     []json.RawMessage // the same, as the daemon wrote them
	corrupt []ipc.Hex         // wallets whose record was changed outside the daemon
	more    bool              // the limit cut the rest off
}

// page is a ListWalletsResult whose wallets are kept as they were written.
type page struct {
	Wallets []json.RawMessage `json:"wallets"`
	Cursor  string            `json:"cursor"`
	Corrupt []ipc.Hex         `json:"corrupt"`
}

func (l *listing) read(ctx context.Context) error {
	progress := l.app.progress()
	defer progress.end()
	for cursor := ""; ; {
		params := l.filter
		params.Cursor, params.Limit = cursor, l.want()
		p, _, err := call[page](ctx, l.app, l.client, ipc.MethodListWallets, params)
		if err != nil {
			return err
		}
		stuck := p.Cursor == cursor || len(p.Wallets)+len(p.Corrupt) == 0 && !l.mayBeEmpty()
		if len(p.Wallets) > params.Limit || p.Cursor != "" && stuck {
			return fmt.Errorf("%w: a page that leads nowhere", ipc.ErrProtocol)
		}
		if err := l.take(p.Wallets); err != nil {
			return err
		}
		l.corrupt = append(l.corrupt, p.Corrupt...)
		cursor = p.Cursor
		l.more = cursor != "" && l.filter.Limit > 0 && len(l.raw) >= l.filter.Limit
		progress.show("read so far: %d wallets", len(l.raw))
		if cursor == "" || l.more {
			return nil
		}
	}
}

// mayBeEmpty reports whether the filter may leave nothing of a page that is not the
// last one.
func (l *listing) mayBeEmpty() bool {
	f := l.filter
	return f.State != "" || f.AllRelays || f.Tag != "" && f.Owner != ""
}

func (l *listing) want() int {
	if l.filter.Limit == 0 {
		return pageSize
	}
	return min(pageSize, l.filter.Limit-len(l.raw))
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
	foreign := l.wallets[0].Relay != nil
	if foreign {
		rows[0] = append(rows[0], "RELAY")
	}
	for _, w := range l.wallets {
		address := "-"
		if len(w.Accounts) > 0 {
			address = w.Accounts[0].Address
		}
		rows = append(rows, []string{w.WalletID.String(), address, w.State, fmt.Sprint(w.AttemptsLeft),
			fmt.Sprint(len(w.Accounts)), short(w.CreatedAt), w.Owner, w.Label})
		if foreign && w.Relay != nil {
			rows[len(rows)-1] = append(rows[len(rows)-1], fmt.Sprint(*w.Relay))
		}
	}
	return table(rows)
}
