package guard_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/sigild/sigild/daemon/guard"
)

// memoryNodes keeps a tree's nodes.
type memoryNodes map[string][]byte

func (m memoryNodes) Node(key []byte) []byte { return m[string(key)] }

func (m memoryNodes) PutNode(key, node []byte) error {
	if node == nil {
		delete(m, string(key))
		return nil
	}
	m[string(key)] = node
	return nil
}

func TestTreeVectors(t *testing.T) {
	data, err := os.ReadFile("../../testdata/vectors/guard-tree.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Steps []struct {
			Wallet                               hexBytes
			RowBefore, RecordBefore, Row, Record *hexBytes
			Root                                 hexBytes
		}
	}
	if err := json.Unmarshal(data, &v); err != nil || len(v.Steps) < 15 {
		t.Fatalf("%d steps, %v", len(v.Steps), err)
	}
	bytesOf := func(h *hexBytes) []byte {
		if h == nil {
			return nil
		}
		return *h
	}
	nodes, root := memoryNodes{}, [32]byte{}
	for n, s := range v.Steps {
		before, after := [2][]byte{bytesOf(s.RowBefore), bytesOf(s.RecordBefore)}, [2][]byte{bytesOf(s.Row), bytesOf(s.Record)}
		if root, err = guard.UpdateTree(nodes, root, [16]byte(s.Wallet), before, after); err != nil || root != [32]byte(s.Root) {
			t.Fatalf("step %d: %x, %v, want %x", n, root, err, []byte(s.Root))
		}
	}
	if len(nodes) != 0 {
		t.Errorf("%d nodes left of an empty tree", len(nodes))
	}
}

// The root follows from what the wallets are, not from how they came to be it;
// and a change of any node is found by whoever passes it.
func TestTreeIsItsContent(t *testing.T) {
	one, two := memoryNodes{}, memoryNodes{}
	var rootOne, rootTwo [32]byte
	wallets := rand.Perm(40)
	for _, n := range wallets {
		rootOne = grow(t, one, rootOne, n)
	}
	for n := range 40 {
		rootTwo = grow(t, two, rootTwo, n)
	}
	if rootOne != rootTwo || len(one) != len(two) {
		t.Fatal("the order of changes counts")
	}
	for key, node := range one {
		for _, at := range []int{0, len(node) / 2, len(node) - 1} {
			node[at] ^= 1
			found := 0
			for n := range 40 {
				w := id(uint32(n))
				if _, err := guard.UpdateTree(two.over(one), rootOne, w, leaf(n), leaf(n)); errors.Is(err, guard.ErrTree) {
					found++
				}
			}
			if found == 0 {
				t.Fatalf("node %s, byte %d: nobody noticed", hex.EncodeToString([]byte(key)), at)
			}
			node[at] ^= 1
		}
	}
}

// over reads from below and keeps writes away.
func (m memoryNodes) over(below memoryNodes) reading { return reading{below} }

type reading struct{ memoryNodes }

func (reading) PutNode([]byte, []byte) error { return nil }

func leaf(n int) [2][]byte { return [2][]byte{{byte(n), 1}, {byte(n), 2, byte(n >> 8)}} }

func grow(t *testing.T, m memoryNodes, root [32]byte, n int) [32]byte {
	t.Helper()
	root, err := guard.UpdateTree(m, root, id(uint32(n)), [2][]byte{}, leaf(n))
	if err != nil {
		t.Fatal(err)
	}
	return root
}
