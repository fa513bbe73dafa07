package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sigild/sigild/ipc"
)

func (a *app) listCommand() *cobra.Command {
	var p ipc.ListWalletsParams
	var from, until string
	var relay uint32
	c := &cobra.Command{
		Use:     "list",
		Short:   "List the wallets of this user, oldest first",
		Long:    "List the wallets of this user, oldest first. An operator lists those of one relay\n(--relay) or of all (--all), these in the order of their ids.",
		Example: "  sigilctl wallet list --state locked\n  sigilctl wallet list --tag vip --from 2026-01-01 --until 2026-02-01\n  sigilctl wallet list --all --state frozen",
		Args:    arguments(),
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if p.Limit < 0 {
				return usage(c, "--limit must not be negative")
			}
			if p.From, err = moments(c, "from", from); err != nil {
				return err
			}
			if p.Until, err = moments(c, "until", until); err != nil {
				return err
			}
			if c.Flags().Changed("relay") {
				p.Relay = &relay
			}
			if p.Relay != nil && p.AllRelays {
				return usage(c, "either --relay or --all")
			}
			return a.list(c, p)
		},
	}
	c.Flags().StringVar(&p.Owner, "owner", "", "only the wallets of this user")
	c.Flags().StringVar(&p.Tag, "tag", "", "only wallets with this tag")
	c.Flags().StringVar(&p.State, "state", "", "only wallets that are active, frozen, locked or deleted")
	c.Flags().StringVar(&from, "from", "", "only wallets made at or after this `TIME`: 2026-01-31 or 2026-01-31T10:20:30Z, in UTC")
	c.Flags().StringVar(&until, "until", "", "only wallets made before this `TIME`")
	c.Flags().Uint32Var(&relay, "relay", 0, "the wallets of the relay with this `UID`; for operators")
	c.Flags().BoolVar(&p.AllRelays, "all", false, "the wallets of all relays; for operators")
	c.Flags().IntVar(&p.Limit, "limit", 0, "the most wallets to show (default: all)")
	words(c, "state", "active", "frozen", "locked", "deleted")
	return c
}

// moments reads a time or a day, nil for none.
func moments(c *cobra.Command, flag, text string) (*ipc.Time, error) {
	if text == "" {
		return nil, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			at := ipc.At(t)
			return &at, nil
		}
	}
	return nil, usage(c, "--%s: %q is neither a day (2026-01-31) nor a time (2026-01-31T10:20:30Z)", flag, text)
}

// failure says which wallets could not be read.
func (l *listing) failure() error {
	if l.corrupt == nil {
		return nil
	}
	f := fail(exitFailed, "recordCorrupt", "", "%d wallets are not shown, their record was changed outside the daemon: %v", len(l.corrupt), l.corrupt)
	f.answered = true
	return f
}

func (a *app) list(c *cobra.Command, p ipc.ListWalletsParams) error {
	client, err := a.connect(c.Context())
	if err != nil {
		return err
	}
	defer client.Close()
	l := listing{app: a, client: client, filter: p, raw: []json.RawMessage{}}
	if err := l.read(c.Context()); err != nil {
		return err
	}
	result := map[string]any{"wallets": l.raw}
	if l.corrupt != nil {
		result["corrupt"] = l.corrupt
	}
	raw, err := json.Marshal(result)
	if err != nil {
		return err
	}
	if err := a.print(raw, l.String); err != nil {
		return err
	}
	if l.more && !a.json {
		fmt.Fprintf(a.stderr, "there are more wallets: raise --limit\n")
	}
	return l.failure()
}
