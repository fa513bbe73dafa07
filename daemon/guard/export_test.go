package guard

// UpdateTree is what a change does to the tree, for the vectors.
func UpdateTree(n interface {
	Node(key []byte) []byte
	PutNode(key, node []byte) error
}, root [32]byte, wallet [16]byte, before, after [2][]byte) ([32]byte, error) {
	return updateTree(n, root, wallet, before, after)
}

// Waiting is how many operations wait for the next batch.
func (l *Ledger[T]) Waiting() int {
	l.queue.mu.Lock()
	defer l.queue.mu.Unlock()
	return len(l.queue.list)
}
