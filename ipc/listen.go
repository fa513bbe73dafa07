package ipc

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Errors of Listen.
var (
	// ErrInUse is returned when another process serves the path, or is about to.
	ErrInUse = errors.New("ipc: socket is in use by another process")
	// ErrNotSocket is returned when the path is something other than a socket,
	// which Listen does not remove.
	ErrNotSocket = errors.New("ipc: path exists and is not a socket")
	// ErrUnsafeDirectory is returned when others could replace the socket.
	ErrUnsafeDirectory = errors.New("ipc: socket directory is not safe")
	// ErrSocketPath is returned for a path that cannot be a socket's address.
	ErrSocketPath = errors.New("ipc: unusable socket path")
)

// probeTimeout bounds the question whether a daemon still answers at the path.
const probeTimeout = 2 * time.Second

// maxPathBytes is the size of sun_path less its final zero (unix(7)).
const maxPathBytes = 107

// A Listener is a listening Unix socket that was bound by this process. Beside
// the socket it holds a lock on the file PATH.lock, which stays behind, empty.
type Listener struct {
	*net.UnixListener
	path  string
	inode inode
	lock  *os.File
	once  sync.Once
	err   error
}

type inode struct{ device, number uint64 }

// Listen binds a stream socket at the absolute path. mode is its final mode, of
// which only the 0777 bits may be set, and gid its group, -1 for that of the
// process.
//
// The directory must belong to root or to the process's user and must not be
// writable for all. A socket that nobody listens on is replaced; one that
// answers is ErrInUse, as is a second Listen anywhere for the same path. At no
// moment does the socket grant more than mode and gid do: it is bound with the
// owner's bits only whenever its group has to be changed.
func Listen(path string, mode os.FileMode, gid int) (*Listener, error) {
	if err := checkPath(path, mode); err != nil {
		return nil, err
	}
	if err := checkDirectory(filepath.Dir(path)); err != nil {
		return nil, err
	}
	lock, err := lockPath(path + ".lock")
	if err != nil {
		return nil, err
	}
	l, err := bindLocked(path, mode, gid)
	if err != nil {
		lock.Close()
		return nil, err
	}
	l.lock = lock
	return l, nil
}

func checkPath(path string, mode os.FileMode) error {
	switch {
	case !filepath.IsAbs(path) || filepath.Clean(path) != path:
		return fmt.Errorf("%w: %q is not a clean absolute path", ErrSocketPath, path)
	case len(path) > maxPathBytes:
		return fmt.Errorf("%w: %q is longer than %d bytes", ErrSocketPath, path, maxPathBytes)
	case mode&^os.ModePerm != 0:
		return fmt.Errorf("%w: mode %v has more than permission bits", ErrSocketPath, mode)
	}
	return nil
}

// checkDirectory makes sure that nobody but root and this user can replace what
// is in dir. A sticky bit does not help: it lets others be there first.
func checkDirectory(dir string) error {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return fmt.Errorf("ipc: socket directory %s: %w", dir, err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return fmt.Errorf("%w: %s is not a directory", ErrUnsafeDirectory, dir)
	case st.Mode&0o002 != 0:
		return fmt.Errorf("%w: %s is writable for all, use one of mode 0755", ErrUnsafeDirectory, dir)
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%w: %s belongs to uid %d, not to this user or root", ErrUnsafeDirectory, dir, st.Uid)
	}
	return nil
}

// lockPath takes the lock that makes look, remove and bind one step.
func lockPath(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("ipc: socket lock: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("%w: %s is locked", ErrInUse, path)
	}
	return nil, fmt.Errorf("ipc: socket lock %s: %w", path, err)
}

func bindLocked(path string, mode os.FileMode, gid int) (*Listener, error) {
	if err := removeStale(path); err != nil {
		return nil, err
	}
	bindMode := mode
	if gid >= 0 && gid != os.Getegid() {
		bindMode &= 0o700
	}
	ln, err := bindWithMode(path, bindMode)
	if err != nil {
		return nil, fmt.Errorf("ipc: bind: %w", err)
	}
	ln.SetUnlinkOnClose(false)
	l := &Listener{UnixListener: ln, path: path}
	if l.inode, err = inodeOf(path); err == nil {
		err = grant(path, mode, gid)
	}
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("ipc: socket %s: %w", path, err)
	}
	return l, nil
}

// grant gives the socket its group and then, if it was bound with less, its
// mode. The directory is nobody else's, so the path still means our socket.
func grant(path string, mode os.FileMode, gid int) error {
	if gid < 0 {
		return nil
	}
	if err := os.Lchown(path, -1, gid); err != nil {
		return err
	}
	if gid == os.Getegid() {
		return nil
	}
	return os.Chmod(path, mode)
}

// removeStale removes a socket that nobody listens on.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("ipc: socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%w: %s, move it away", ErrNotSocket, path)
	}
	conn, err := net.DialTimeout("unix", path, probeTimeout)
	if err == nil {
		conn.Close()
		return fmt.Errorf("%w: %s answers", ErrInUse, path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%w: %v", ErrInUse, err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("ipc: stale socket: %w", err)
	}
	return nil
}

// umaskMu keeps two binds apart: the umask belongs to the whole process, as
// this lock must. Files that other goroutines make meanwhile come out with
// fewer rights than meant, never with more than 0777 less the socket's.
var umaskMu sync.Mutex

// bindWithMode binds path with exactly mode, whatever the umask was.
func bindWithMode(path string, mode os.FileMode) (*net.UnixListener, error) {
	umaskMu.Lock()
	defer umaskMu.Unlock()
	defer unix.Umask(unix.Umask(int(^mode & os.ModePerm)))
	return net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
}

func inodeOf(path string) (inode, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return inode{}, err
	}
	return inode{device: uint64(st.Dev), number: st.Ino}, nil
}

// Close stops listening. It removes the socket if it is still the one that
// Listen made, and gives up the lock.
func (l *Listener) Close() error {
	l.once.Do(func() {
		if now, err := inodeOf(l.path); err == nil && now == l.inode {
			l.err = os.Remove(l.path)
		}
		l.err = errors.Join(l.err, l.UnixListener.Close())
		if l.lock != nil {
			l.err = errors.Join(l.err, l.lock.Close())
		}
	})
	return l.err
}
