// Package wipe runs code that handles secrets so that what it leaves behind is
// erased: registers, stack, and heap allocations once nothing refers to them.
//
// Callers wipe their own buffers with clear; Do is for the copies that
// libraries make and nobody can reach: key schedules, HMAC pads, buffers that
// grew. It works in programs built with GOEXPERIMENT=runtimesecret on
// linux/amd64 and linux/arm64, as the Makefile does, and elsewhere only calls
// the function. Goroutines that the function starts are not covered; for that reason
// package argon2 is there, and what else is called in Do starts none.
//
// The function must not call C on its own goroutine: in Go 1.26.8 on amd64,
// runtime.asmcgocall goes on with registers that secret mode has just erased,
// and the process dies of a segmentation fault. So Do stands around the
// computations themselves, and not around whole requests or calls of a token.
package wipe

// Enabled says whether Do erases.
func Enabled() bool { return enabled }

// Stack erases what calls that have returned left on the stack of this
// goroutine, where Do erases. It is for what passes by value through frames that
// Do cannot stand around, since they call C: a token's HMAC is one.
func Stack() {
	if enabled {
		Do(func() {}) // it erases all of the stack below itself
	}
}
