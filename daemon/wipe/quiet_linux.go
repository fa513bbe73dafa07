package wipe

import (
	"runtime"
	"unsafe"

	sys "golang.org/x/sys/unix"
)

// Quiet calls f, which may call C with secrets, on a thread that takes no signals
// meanwhile, so that the kernel stores none of its registers; then registers and
// the unused part of the stack are erased. The signals come after that.
//
// What C leaves on its own stack and heap, what f allocates, and a stack that is
// replaced by a larger one while f runs, are not covered: f keeps no secret on it.
func Quiet(f func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before sys.Sigset_t
	_ = sys.PthreadSigmask(sys.SIG_BLOCK, held(), &before) // fails for bad arguments only
	defer func() { _ = sys.PthreadSigmask(sys.SIG_SETMASK, &before, nil) }()
	defer Do(func() {})
	f()
}

// held are the signals that can wait: all but those that a fault of the thread
// itself raises, SIGSYS, by which libpsx reaches all threads, and the two that the
// C library keeps for itself.
func held() *sys.Sigset_t {
	const internal = 32 // and 33: SIGCANCEL and SIGSETXID, nptl(7)
	set := new(sys.Sigset_t)
	for i := range set.Val {
		set.Val[i] = ^set.Val[i]
	}
	for _, s := range []sys.Signal{sys.SIGSEGV, sys.SIGBUS, sys.SIGFPE, sys.SIGILL, sys.SIGTRAP, sys.SIGABRT, sys.SIGSYS,
		internal, internal + 1} {
		bits := 8 * int(unsafe.Sizeof(set.Val[0]))
		set.Val[(int(s)-1)/bits] &^= 1 << ((int(s) - 1) % bits)
	}
	return set
}
