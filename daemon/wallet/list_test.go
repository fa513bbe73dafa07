package wallet_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sigild/sigild/daemon/policy"
	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/wallet"
)

// tagged makes a wallet of an owner with tags.
func (b *bench) tagged(t *testing.T, owner, requestID string, tags ...string) {
	t.Helper()
	_, err := b.Create(context.Background(), &wallet.CreateRequest{Peer: b.peer, RequestID: requestID, Owner: owner,
		Tags: tags, Policy: policy.Default(), PIN: []byte(goodPIN), Digest: [32]byte{byte(len(requestID))}})
	if err != nil {
		t.Fatal(err)
	}
}

// A list by tag and owner has the wallets that have both, also where others
// have the same tag.
func TestListByTagAndOwner(t *testing.T) {
	b := newBench(t)
	b.tagged(t, "alice", "1", "cold")
	b.tagged(t, "bob", "22", "cold")
	b.tagged(t, "alice", "333", "hot")
	b.tagged(t, "alice", "4444", "cold", "hot")
	for _, c := range []struct {
		page wallet.Page
		want int
	}{
		{wallet.Page{Tag: "cold", Owner: "alice"}, 2},
		{wallet.Page{Tag: "cold", Owner: "bob"}, 1},
		{wallet.Page{Tag: "hot", Owner: "bob"}, 0},
		{wallet.Page{Tag: "cold"}, 3},
		{wallet.Page{Owner: "alice"}, 3},
	} {
		found := 0
		c.page.Limit = 1
		for {
			l, err := b.List(context.Background(), b.peer, c.page, "")
			if err != nil {
				t.Fatalf("%+v: %v", c.page, err)
			}
			if len(l.Corrupt) > 0 {
				t.Errorf("%+v: %x is called corrupt", c.page, l.Corrupt)
			}
			found += len(l.Wallets)
			if l.Cursor == nil {
				break
			}
			c.page.After = l.Cursor
		}
		if found != c.want {
			t.Errorf("tag %q, owner %q: %d wallets, want %d", c.page.Tag, c.page.Owner, found, c.want)
		}
	}
}

// The active wallets are found behind others, over several pages, each once, and
// not for ever.
func TestEachActive(t *testing.T) {
	b := newBench(t)
	var want []seal.ID
	for n := range 12 {
		b.now = b.now.Add(time.Second)
		w := b.create(t, fmt.Sprint(n)).Info.Header.Wallet
		if n < 7 || n == 9 {
			if _, err := b.Freeze(context.Background(), wallet.Actor{Peer: b.peer}, w, "relay"); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want = append(want, w)
	}
	for _, c := range []struct{ scanned, most, want int }{
		{1, 100, 2}, // ten pages of one wallet end before the last two
		{2, 100, 4}, {2, 3, 3}, {2, 1, 1}, {5, 100, 4}, {12, 100, 4}, {12, 4, 4}, {500, 2, 2},
	} {
		var got []seal.ID
		err := b.EachActiveBy(context.Background(), b.peer, c.scanned, func(i *wallet.Info) bool {
			got = append(got, i.Header.Wallet)
			return len(got) < c.most
		})
		if err != nil || !slices.Equal(got, want[:c.want]) {
			t.Errorf("pages of %d, at most %d: got %x, %v, want %x", c.scanned, c.most, got, err, want[:c.want])
		}
	}
}

// An operator sees the wallets of all relays, page by page, each once; a relay does not.
func TestListAll(t *testing.T) {
	b := newBench(t)
	want := map[seal.ID]bool{}
	for n := range 7 {
		b.peer.UID = uint32(1000 + n%3)
		want[b.create(t, fmt.Sprint("r-", n)).Info.Header.Wallet] = true
	}
	if _, err := b.ListAll(t.Context(), wallet.Actor{Peer: b.peer}, wallet.Page{Limit: 9}, ""); !errors.Is(err, wallet.ErrOperator) {
		t.Errorf("a relay: %v", err)
	}
	for _, limit := range []int{2, 3, 4, 9} {
		seen := map[seal.ID]bool{}
		for p := (wallet.Page{Limit: limit}); ; {
			l, err := b.ListAllBy(t.Context(), b.operator(), p, wallet.Active, 3)
			if err != nil || len(l.Wallets) > limit {
				t.Fatalf("%+v, %v", l, err)
			}
			for _, i := range l.Wallets {
				if seen[i.Header.Wallet] || !want[i.Header.Wallet] {
					t.Errorf("limit %d: %x again, or of nobody", limit, i.Header.Wallet)
				}
				seen[i.Header.Wallet] = true
			}
			if p.After = l.Cursor; p.After == nil {
				break
			}
		}
		if len(seen) != len(want) {
			t.Errorf("limit %d: %d of %d wallets", limit, len(seen), len(want))
		}
	}
	for name, p := range map[string]wallet.Page{"owner": {Owner: "nobody"}, "tag": {Tag: "x"}, "until": {Until: 1}, "from": {From: 1 << 40}} {
		p.Limit = 9
		if l, err := b.ListAll(t.Context(), b.operator(), p, ""); err != nil || len(l.Wallets) != 0 {
			t.Errorf("%s: %+v, %v", name, l, err)
		}
	}
}

// large gives the peer n wallets of some 200 KB in an answer, and their ids.
func (b *bench) large(t *testing.T, n int) map[seal.ID]bool {
	t.Helper()
	rules := policy.Policy{Operations: []policy.Operation{policy.Message}}
	for n := range policy.MaxRecipients {
		rules.Recipients = append(rules.Recipients, fmt.Sprintf("%03d%s", n, strings.Repeat("&", 125)))
	}
	made := map[seal.ID]bool{}
	for n := range n {
		b.now = b.now.Add(time.Second)
		r := b.creation(fmt.Sprint("large-", n))
		r.Policy, r.Label = rules, strings.Repeat("<", 256)
		c, err := b.Create(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		made[c.Info.Header.Wallet] = true
	}
	return made
}

// Pages of large wallets end early, and all wallets are on one of them.
func TestPagesOfLargeWallets(t *testing.T) {
	b := newBench(t)
	made := b.large(t, 16)
	for name, list := range map[string]func(wallet.Page) (*wallet.Listing, error){
		"of a relay": func(p wallet.Page) (*wallet.Listing, error) { return b.List(t.Context(), b.peer, p, "") },
		"active":     func(p wallet.Page) (*wallet.Listing, error) { return b.List(t.Context(), b.peer, p, wallet.Active) },
		"of all":     func(p wallet.Page) (*wallet.Listing, error) { return b.ListAll(t.Context(), b.operator(), p, "") },
	} {
		seen, pages := map[seal.ID]bool{}, 0
		for p := (wallet.Page{Limit: 1000}); pages == 0 || p.After != nil; pages++ {
			l, err := list(p)
			if err != nil || len(l.Wallets) == 0 {
				t.Fatalf("%s: %+v, %v", name, l, err)
			}
			size := 0
			for _, i := range l.Wallets {
				seen[i.Header.Wallet] = made[i.Header.Wallet] && !seen[i.Header.Wallet]
				size += i.AnswerBytes()
			}
			if last := l.Wallets[len(l.Wallets)-1].AnswerBytes(); size-last >= 1<<20 {
				t.Errorf("%s: a page of %d wallets and %d bytes", name, len(l.Wallets), size)
			}
			p.After = l.Cursor
		}
		for id, once := range seen {
			if !once {
				t.Errorf("%s: %x again, or of nobody", name, id)
			}
		}
		if len(seen) != len(made) || pages < 3 {
			t.Errorf("%s: %d of %d wallets, %d pages", name, len(seen), len(made), pages)
		}
	}
	visited := 0
	if err := b.EachActive(t.Context(), b.peer, func(*wallet.Info) bool { visited++; return true }); err != nil || visited != len(made) {
		t.Errorf("each active: %d of %d, %v", visited, len(made), err)
	}
}
