package wallet

import (
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/sigild/sigild/daemon/policy"
)

// Terms say what an unlock is good for. All of them are explicit.
type Terms struct {
	Signatures int           // at least 1
	Duration   time.Duration // on the monotonic clock, more than 0
	Accounts   []uint32      // at least one
	Rules      policy.Policy // operations, chains, recipients, value of one transaction
	TotalValue *big.Int      // wei over all transactions; nil is 0
	AnyTotal   bool          // no bound on the total
	AnyClient  bool          // any connection of the same uid, not only this one
}

// Bounds of terms.
const (
	MaxUnlockSignatures = 1_000_000
	MaxUnlockDuration   = 24 * time.Hour
)

func (t *Terms) check() error {
	switch {
	case t.Signatures < 1 || t.Signatures > MaxUnlockSignatures:
		return &FieldError{"terms.signatures", fmt.Sprintf("must be 1 to %d", MaxUnlockSignatures)}
	case t.Duration <= 0 || t.Duration > MaxUnlockDuration:
		return &FieldError{"terms.seconds", "must be 1 to 86400"}
	case len(t.Accounts) == 0 || len(t.Accounts) > MaxBatch:
		return &FieldError{"terms.accounts", "must name 1 to 64 accounts"}
	case repeats(t.Accounts):
		return &FieldError{"terms.accounts", "name one twice"}
	case t.AnyTotal && t.TotalValue != nil:
		return &FieldError{"terms.totalValue", "is both bounded and not"}
	case t.TotalValue != nil && t.TotalValue.Sign() < 0:
		return &FieldError{"terms.totalValue", "must not be negative"}
	}
	if err := t.Rules.Validate(); err != nil {
		return &FieldError{"terms", err.Error()}
	}
	return nil
}

func repeats(accounts []uint32) bool {
	for n, a := range accounts {
		if slices.Contains(accounts[:n], a) {
			return true
		}
	}
	return false
}

// TermsError is returned when an unlock's terms do not allow a request. The
// unlock stays as it was.
type TermsError struct{ Reason string }

func (e *TermsError) Error() string { return "the unlock's terms do not allow this: " + e.Reason }

// take reserves what a request uses of the terms. The returned function ends
// the use and, when nothing was signed, gives the reservation back.
func (u *unlock) take(r *SignRequest) (giveBack func(failed bool), err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ended != nil {
		return nil, u.ended
	}
	if !u.terms.AnyClient && r.Peer.Connection != u.peer.Connection {
		return nil, ErrUnlockRequired
	}
	if !time.Now().Before(u.until) {
		return nil, ErrUnlockRequired
	}
	value, err := u.admit(r.Items)
	if err != nil {
		return nil, err
	}
	u.left -= len(r.Items)
	if u.allowed != nil {
		u.allowed.Sub(u.allowed, value)
	}
	u.using.Add(1)
	return func(failed bool) { u.giveBack(failed, len(r.Items), value) }, nil
}

// admit holds the items against the terms and adds up their value.
func (u *unlock) admit(items []Item) (*big.Int, error) {
	if len(items) > u.left {
		return nil, &TermsError{"not enough signatures are left"}
	}
	total := new(big.Int)
	for _, i := range items {
		if u.keys[i.Account] == nil {
			return nil, &TermsError{"another account"}
		}
		if d := u.terms.Rules.Decide(i.Facts); !d.Allowed() {
			return nil, &TermsError{d.Reason}
		}
		if u.allowed == nil || i.Facts.Operation == policy.Message || i.Facts.Operation == policy.CliqueHeader {
			continue // these move nothing by themselves
		}
		moved := i.Facts.Moved()
		if moved == nil {
			return nil, &TermsError{"the total value is bounded and this operation does not show its value"}
		}
		total.Add(total, moved)
	}
	if u.allowed != nil && total.Cmp(u.allowed) > 0 {
		return nil, &TermsError{"the total value is used up"}
	}
	return total, nil
}

func (u *unlock) giveBack(failed bool, signatures int, value *big.Int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if failed {
		u.left += signatures
		if u.allowed != nil {
			u.allowed.Add(u.allowed, value)
		}
	}
	u.using.Done()
}

func (u *unlock) spent() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.left == 0
}
