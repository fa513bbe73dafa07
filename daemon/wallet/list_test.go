package wallet_test

import (
	"context"
	"fmt"
	"slices"
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
