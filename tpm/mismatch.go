package tpm

import (
	"fmt"
	"strings"
)

// PCRDifference is one PCR that does not have its approved value.
type PCRDifference struct {
	PCR      int
	Approved [32]byte
	Actual   [32]byte
}

// ApprovalMismatch tells how the platform differs from one approval.
type ApprovalMismatch struct {
	Approval    int // index in the slice that the caller gave
	Differences []PCRDifference
}

// PCRMismatchError is returned when the platform is in none of the approved
// states. errors.Is(err, ErrPCRMismatch) matches it.
type PCRMismatchError struct {
	Approvals []ApprovalMismatch // every approval with a valid signature
}

// Error names the PCRs that differ from the approval that comes closest.
func (e *PCRMismatchError) Error() string {
	closest := e.closest()
	words := make([]string, len(closest))
	for i, difference := range closest {
		words[i] = fmt.Sprintf("PCR %d is %x, approved is %x",
			difference.PCR, difference.Actual[:8], difference.Approved[:8])
	}
	return fmt.Sprintf("%v: %s; if you know what changed them, `sigild recover` binds the host to this state",
		ErrPCRMismatch, strings.Join(words, "; "))
}

// Is matches ErrPCRMismatch.
func (e *PCRMismatchError) Is(target error) bool { return target == ErrPCRMismatch }

func (e *PCRMismatchError) closest() []PCRDifference {
	var best []PCRDifference
	for i, approval := range e.Approvals {
		if i == 0 || len(approval.Differences) < len(best) {
			best = approval.Differences
		}
	}
	return best
}
