package guard

// UpdateTree is what a change does to the tree, for the vectors.
func UpdateTree(n interface {
	Node(key []byte) []byte
	PutNode(key, node []byte) error
}, root [32]byte, wallet [16]byte, before, after [2][]byte) ([32]byte, error) {
	return updateTree(n, root, wallet, before, after)
}
