package guard

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"slices"
	"sort"
)

// ErrTree is returned when the hash tree in the database is not the one that
// the guard root stands over: the file was changed outside the daemon.
var ErrTree = errors.New("the database was changed outside the daemon: its hash tree is not the one of the guard root")

// The tree has treeDepth levels of inner nodes with a child for each half byte
// of the id, and below them leaves: the entries of all wallets and requests whose
// ids begin with the same treeDepth half bytes. A commit hashes the whole leaf, so
// that nobody may choose one: wallets' ids are random, and those of requests are
// the beginning of a MAC by the record key. 10 million of both are about 150 a leaf.
const (
	treeDepth = 4
	children  = 16
	hashSize  = sha256.Size
	entrySize = idSize + 2*hashSize
	nodeLabel = "sigild/tree-node/v1"
	leafLabel = "sigild/tree-leaf/v1"
	innerSize = children * hashSize
	idSize    = 16
)

// hash is the hash of a subtree; zero for an empty one.
type hash [hashSize]byte

// nodes is where a tree's nodes are.
type nodes interface {
	Node(key []byte) []byte
	PutNode(key, node []byte) error
}

// nodeKey is depth (1 byte) ‖ that many half bytes of the id, a byte each.
func nodeKey(depth int, wallet [16]byte) []byte {
	key := append(make([]byte, 0, 1+treeDepth), byte(depth))
	for i := range depth {
		key = append(key, nibble(wallet, i))
	}
	return key
}

func nibble(wallet [16]byte, i int) byte {
	if i%2 == 0 {
		return wallet[i/2] >> 4
	}
	return wallet[i/2] & 0x0f
}

// hashNode is SHA-256(label ‖ depth (1) ‖ node), and zero for no node.
func hashNode(depth int, node []byte) hash {
	if len(node) == 0 {
		return hash{}
	}
	label := nodeLabel
	if depth == treeDepth {
		label = leafLabel
	}
	b := append(make([]byte, 0, len(label)+1+len(node)), label...)
	return sha256.Sum256(append(append(b, byte(depth)), node...))
}

// leafEntry stands for an id: id (16) ‖ SHA-256(row) ‖ SHA-256(record), the stored
// bytes of each; zero for one that is not there. An id without both has no entry.
func leafEntry(id [16]byte, leaf [2][]byte) []byte {
	if leaf[0] == nil && leaf[1] == nil {
		return nil
	}
	e := append(make([]byte, 0, entrySize), id[:]...)
	for _, data := range leaf {
		var sum hash
		if data != nil {
			sum = sha256.Sum256(data)
		}
		e = append(e, sum[:]...)
	}
	return e
}

// path is the way from the root to a wallet's leaf, verified.
type path struct {
	wallet [16]byte
	inner  [treeDepth][]byte // from the root; nil: empty
	leaf   []byte
}

// readPath reads the nodes above a wallet and verifies them under root.
func readPath(n nodes, root hash, wallet [16]byte) (*path, error) {
	p := &path{wallet: wallet}
	want := root
	for depth := range treeDepth {
		node, err := readNode(n, depth, wallet, want)
		if err != nil {
			return nil, err
		}
		p.inner[depth], want = node, hash{}
		if node != nil {
			want = hash(node[int(nibble(wallet, depth))*hashSize:])
		}
	}
	var err error
	p.leaf, err = readNode(n, treeDepth, wallet, want)
	return p, err
}

// readNode gives nil for an empty subtree, whatever is stored in its place.
func readNode(n nodes, depth int, wallet [16]byte, want hash) ([]byte, error) {
	if want == (hash{}) {
		return nil, nil
	}
	node := n.Node(nodeKey(depth, wallet))
	if !wellFormed(depth, node) || hashNode(depth, node) != want {
		return nil, ErrTree
	}
	return node, nil
}

func wellFormed(depth int, node []byte) bool {
	if depth < treeDepth {
		return len(node) == innerSize
	}
	return len(node) > 0 && len(node)%entrySize == 0
}

// find gives the wallet's place in its leaf, and its entry if it has one.
func (p *path) find() (at int, found []byte) {
	count := len(p.leaf) / entrySize
	at = entrySize * sort.Search(count, func(i int) bool {
		return bytes.Compare(p.leaf[i*entrySize:i*entrySize+idSize], p.wallet[:]) >= 0
	})
	if at < len(p.leaf) && bytes.Equal(p.leaf[at:at+idSize], p.wallet[:]) {
		return at, p.leaf[at : at+entrySize]
	}
	return at, nil
}

// check compares a leaf with its entry.
func (p *path) check(leaf [2][]byte) error {
	if _, found := p.find(); !bytes.Equal(found, leafEntry(p.wallet, leaf)) {
		return ErrCorrupt
	}
	return nil
}

// put replaces the wallet's entry, writes the nodes above it and gives the new
// root.
func (p *path) put(n nodes, leaf [2][]byte) (hash, error) {
	at, found := p.find()
	p.leaf = slices.Concat(p.leaf[:at], leafEntry(p.wallet, leaf), p.leaf[at+len(found):])
	child, err := putNode(n, treeDepth, p.wallet, p.leaf)
	for depth := treeDepth - 1; depth >= 0 && err == nil; depth-- {
		inner := make([]byte, innerSize)
		copy(inner, p.inner[depth])
		copy(inner[int(nibble(p.wallet, depth))*hashSize:], child[:])
		if bytes.Equal(inner, make([]byte, innerSize)) {
			inner = nil
		}
		p.inner[depth] = inner
		child, err = putNode(n, depth, p.wallet, inner)
	}
	return child, err
}

func putNode(n nodes, depth int, wallet [16]byte, node []byte) (hash, error) {
	if len(node) == 0 {
		return hash{}, n.PutNode(nodeKey(depth, wallet), nil)
	}
	return hashNode(depth, node), n.PutNode(nodeKey(depth, wallet), node)
}

// updateTree verifies that a wallet was what the tree under root says, and
// gives the root of the tree in which it is what it is now.
func updateTree(n nodes, root hash, wallet [16]byte, before, after [2][]byte) (hash, error) {
	p, err := readPath(n, root, wallet)
	if err != nil {
		return root, err
	}
	if err := p.check(before); err != nil {
		return root, err
	}
	return p.put(n, after)
}

// verifyLeaf verifies a leaf under one of the roots.
func verifyLeaf(n nodes, roots []hash, wallet [16]byte, leaf [2][]byte) error {
	top := hashNode(0, n.Node(nodeKey(0, wallet)))
	if !slices.Contains(roots, top) {
		return ErrTree
	}
	p, err := readPath(n, top, wallet)
	if err != nil {
		return err
	}
	return p.check(leaf)
}
