package daemon

import (
	"fmt"

	"github.com/sigild/sigild/daemon/guard"
)

// guardNotes say what an operator should know of the anchor.
func guardNotes(s *guard.Status) []string {
	if s == nil || s.Refused != nil || s.Unclean == 0 {
		return nil
	}
	return []string{fmt.Sprintf("the TPM lost power without an orderly shutdown before %d of %d allowed starts: run `sigild check --accept` while the daemon is stopped", s.Unclean, guard.UncleanMax)}
}

// guardFindings say why PINs are refused.
func (h *health) guardFindings() []finding {
	o := h.daemon.guarded.opened.Load()
	if o == nil {
		return nil
	}
	if s := o.Status(); s.Refused != nil {
		return []finding{{conditionOf("databaseRefused"), o.start, fmt.Sprintf("%v (database %d, TPM %d)", s.Refused, s.Anchored, s.Counter)}}
	}
	return nil
}
