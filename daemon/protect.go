package daemon

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	sys "golang.org/x/sys/unix"

	"github.com/sigild/sigild/daemon/wipe"
)

// protect keeps this process's memory from others: no core dump, no debugger of
// the same user, and no swap where the limits allow to lock everything (then
// locked is true). Whatever loads the token's module or asks for a secret calls it
// first; a second call changes nothing.
func protect() (locked bool, err error) {
	if err := sys.Setrlimit(sys.RLIMIT_CORE, &sys.Rlimit{}); err != nil {
		return false, fmt.Errorf("core dumps cannot be turned off: %w", err)
	}
	// prctl(2): no core dump to a pipe either, and no ptrace(2) or
	// /proc/PID/mem without CAP_SYS_PTRACE.
	if err := sys.Prctl(sys.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return false, fmt.Errorf("debuggers cannot be kept out: %w", err)
	}
	may, err := mayLock()
	if err != nil || !may {
		return false, err
	}
	// mlockall(2): each page stays in memory from its first use on.
	err = sys.Mlockall(sys.MCL_CURRENT | sys.MCL_FUTURE | sys.MCL_ONFAULT)
	if errors.Is(err, sys.ENOMEM) || errors.Is(err, sys.EPERM) || errors.Is(err, sys.EINVAL) {
		return false, nil
	}
	return err == nil, err
}

// mayLock says whether the process may lock any amount: with a limit the
// runtime would die where it needs more memory later.
func mayLock() (bool, error) {
	var limit sys.Rlimit
	if err := sys.Getrlimit(sys.RLIMIT_MEMLOCK, &limit); err != nil {
		return false, err
	}
	if limit.Cur == sys.RLIM_INFINITY {
		return true, nil
	}
	header := sys.CapUserHeader{Version: sys.LINUX_CAPABILITY_VERSION_3}
	var data [2]sys.CapUserData
	if err := sys.Capget(&header, &data[0]); err != nil {
		return false, err
	}
	return data[0].Effective&(1<<sys.CAP_IPC_LOCK) != 0, nil
}

// collector has the garbage collector run soon after requests with secrets:
// what package wipe marked is erased when it is collected, and an idle daemon
// would collect nothing for two minutes.
type collector struct {
	armed atomic.Bool
}

// collectAfter bounds how long a library's copy of a secret stays after the
// request, and how often an idle daemon collects.
const collectAfter = time.Second

func (c *collector) soon() {
	if !wipe.Enabled() || !c.armed.CompareAndSwap(false, true) {
		return
	}
	time.AfterFunc(collectAfter, func() {
		c.armed.Store(false)
		runtime.GC()
	})
}
