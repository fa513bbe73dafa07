package daemon

import (
	"fmt"

	"github.com/sigild/sigild/daemon/guard"
)

// state is the daemon's in one word.
func state(s guard.Status) string {
	if s.Refused != nil {
		return "databaseRefused"
	}
	return "ready"
}

// guardNotes say what an operator should know of the anchor.
func guardNotes(s guard.Status) []string {
	if s.Refused != nil {
		return []string{fmt.Sprintf("%v (database at step %d of the TPM's %d)", s.Refused, s.Anchored, s.Counter)}
	}
	if s.Unclean > 0 {
		return []string{fmt.Sprintf("the TPM lost power without an orderly shutdown at %d of %d allowed starts: run `sigild check --accept` while the daemon is stopped", s.Unclean, guard.UncleanMax)}
	}
	return nil
}
