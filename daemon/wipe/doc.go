// Package wipe runs code that handles secrets so that what it leaves behind is
// erased: registers, stack, and heap allocations once nothing refers to them.
//
// Callers wipe their own buffers with clear; Do is for the copies that nobody can
// reach: those of libraries (key schedules, HMAC pads, buffers that grew), and those
// in registers. A mere copy of a secret needs it too: Go moves the last 32 bytes of
// a slice through vector registers, where they stay, and a signal that interrupts
// the goroutine after that, such as the scheduler's own, has the kernel store them
// on the signal's stack for as long as nothing overwrites them. For goroutines in Do
// the runtime overwrites that stack, at the next collection.
//
// It works in programs built with GOEXPERIMENT=runtimesecret on linux/amd64 and
// linux/arm64, as the Makefile does, and elsewhere only calls the function.
// Goroutines that the function starts are not covered.
//
// The function of Do must not call C on its own goroutine: in Go 1.26.8 on amd64,
// runtime.asmcgocall goes on with registers that secret mode has just erased, and
// the process dies of a segmentation fault. So Do stands around the computations
// and copies themselves, and not around whole requests. Around a call of C stands
// Quiet.
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
