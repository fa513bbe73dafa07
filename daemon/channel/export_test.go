package channel

import (
	"time"
	"unsafe"
)

// SetBack gives t with its wall clock set back by d and its monotonic reading
// as it was. Package time has no way to make one, and a test has no other way
// to turn the clock: it is taken from the layout of time.Time, wall (1 bit of
// hasMonotonic, 33 of seconds since 1885, 30 of nanoseconds) and ext (monotonic).
func SetBack(t time.Time, d time.Duration) time.Time {
	wall := (*uint64)(unsafe.Pointer(&t))
	*wall -= uint64(d/time.Second) << 30
	return t
}
