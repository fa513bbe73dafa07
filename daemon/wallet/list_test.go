package wallet_test

import (
	"context"
	"testing"

	"github.com/sigild/sigild/daemon/policy"
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
