package guard

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// ErrLocked is returned when a wallet has no attempt left. Only an operator
// gives attempts back.
var ErrLocked = errors.New("no attempt is left")

// WaitError is returned when the next check must wait. Nothing was charged.
type WaitError struct{ For time.Duration }

func (e *WaitError) Error() string {
	return fmt.Sprintf("the next PIN is checked in %s at the earliest", e.For)
}

// Limits are the attempts of one wallet.
type Limits struct {
	Consecutive uint32 // failures in a row until locked
	Window      uint32 // failures within Days, of the latest RecentMax
	Days        uint32
	Lifetime    uint32 // failures ever, which success does not reset
}

// firstWait is the failure in a row after which checks wait.
const firstWait = 4

// wait is how long the next check waits after so many failures in a row.
func wait(failures uint32) time.Duration {
	switch {
	case failures < firstWait:
		return 0
	case failures == 4:
		return time.Minute
	case failures == 5:
		return 5 * time.Minute
	case failures == 6:
		return 15 * time.Minute
	case failures == 7:
		return time.Hour
	case failures == 8:
		return 3 * time.Hour
	}
	return 8 * time.Hour
}

// Attempts is what a caller may be told of a wallet's counts.
type Attempts struct {
	Left     uint32        // checks until locked; 0 too while the window's budget is used up
	Failures uint32        // failures since the last passed check, this one included
	Wait     time.Duration // until the next check is made; 0: at once
	LastPass time.Time
}

// seconds of the TPM's clock.
func seconds(d time.Duration) int64 { return int64(d / time.Second) }

// attempts says what is left under l at a time of the TPM's clock. The smallest
// budget counts.
func (r *Row) attempts(l Limits, now time.Duration) Attempts {
	a := Attempts{Failures: r.Consecutive}
	if r.LastPass != 0 {
		a.LastPass = time.Unix(r.LastPass, 0).UTC()
	}
	a.Left = min(remaining(l.Consecutive, r.Consecutive), remaining(sum(l.Lifetime, r.Given), r.Lifetime))
	if a.Left == 0 || l.Window == 0 {
		a.Left = 0
		return a // locked: time does not help
	}
	recent, opens := r.window(l, now)
	a.Left = min(a.Left, remaining(l.Window, recent))
	a.Wait = max(0, time.Duration(r.NotBefore)*time.Second-now, opens)
	return a
}

// allowed says whether a check may be charged.
func (a Attempts) allowed() error {
	if a.Wait > 0 {
		return &WaitError{a.Wait}
	}
	if a.Left == 0 {
		return ErrLocked
	}
	return nil
}

// window counts the failures within the window and says in how long one of
// them leaves a full one.
func (r *Row) window(l Limits, now time.Duration) (count uint32, opens time.Duration) {
	length := time.Duration(l.Days) * 24 * time.Hour
	var inside []time.Duration
	for _, at := range r.Recent {
		if leaves := time.Duration(at)*time.Second + length; leaves > now {
			inside = append(inside, leaves-now)
		}
	}
	count = uint32(len(inside))
	if count < l.Window {
		return count, 0
	}
	return count, inside[count-l.Window]
}

// remaining and sum stay within the range of their type.
func remaining(limit, used uint32) uint32 { return limit - min(used, limit) }

func sum(a, b uint32) uint32 { return uint32(min(uint64(a)+uint64(b), math.MaxUint32)) }

// in is the row as it counts after the latest acceptance. In a row that was
// written before it failures may be missing, and the TPM's clock may be another
// one.
func (r *Row) in(accepted uint64, l Limits, now time.Duration) *Row {
	next := *r
	next.Recent = append([]int64{}, r.Recent...)
	if r.Accepted == accepted {
		return &next
	}
	next.Accepted, next.NotBefore = accepted, 0
	next.Consecutive = max(r.Consecutive, remaining(l.Consecutive, keptAttempts))
	for i := range next.Recent {
		next.Recent[i] = min(next.Recent[i], seconds(now))
	}
	return &next
}

// charged is the row with one more failure.
func (r *Row) charged(now time.Duration) *Row {
	next := *r
	next.Revision++
	next.Consecutive = sum(r.Consecutive, 1)
	next.Lifetime = sum(r.Lifetime, 1)
	next.Recent = append(append([]int64{}, r.Recent...), seconds(now))
	if extra := len(next.Recent) - RecentMax; extra > 0 {
		next.Recent = next.Recent[extra:]
	}
	next.NotBefore = 0
	if w := wait(next.Consecutive); w > 0 {
		next.NotBefore = seconds(now + w + time.Second - 1)
	}
	return &next
}
