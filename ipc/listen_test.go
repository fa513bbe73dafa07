package ipc_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/sigild/sigild/ipc"
	"github.com/sigild/sigild/ipc/ipctest"
)

func mustListen(t *testing.T, path string, mode os.FileMode, gid int) *ipc.Listener {
	t.Helper()
	ln, err := ipc.Listen(path, mode, gid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

func stat(t *testing.T, path string) *syscall.Stat_t {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return &st
}

// TestListenModeUnderEveryUmask does not run in parallel: the umask belongs to
// the process.
func TestListenModeUnderEveryUmask(t *testing.T) {
	dir := ipctest.Directory(t)
	before := syscall.Umask(0o022)
	defer syscall.Umask(before)
	for _, umask := range []int{0, 0o022, 0o077, 0o777} {
		for _, mode := range []os.FileMode{0o600, 0o660, 0o666, 0o770} {
			syscall.Umask(umask)
			path := filepath.Join(dir, "s")
			ln, err := ipc.Listen(path, mode, -1)
			if now := syscall.Umask(0o022); now != umask {
				t.Errorf("the umask is %o after Listen, was %o", now, umask)
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := stat(t, path).Mode & 0o777; got != uint32(mode) {
				t.Errorf("umask %o: mode %o, want %o", umask, got, mode)
			}
			if err := ln.Close(); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(path + ".lock"); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestListenGroup(t *testing.T) {
	gid := os.Getegid()
	if os.Geteuid() == 0 {
		gid = 12346
	}
	path := filepath.Join(ipctest.Directory(t), "s")
	mustListen(t, path, 0o660, gid)
	if st := stat(t, path); int(st.Gid) != gid || st.Mode&0o777 != 0o660 {
		t.Fatalf("gid %d mode %o, want %d 660", st.Gid, st.Mode&0o777, gid)
	}
}

func TestListenInADirectoryThatGivesItsGroup(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("only root can give the directory another group; this user's is used")
	}
	dir := ipctest.Directory(t)
	if os.Geteuid() == 0 {
		if err := os.Chown(dir, 0, 12346); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755|os.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	mustListen(t, path, 0o660, os.Getegid())
	if st := stat(t, path); int(st.Gid) != os.Getegid() || st.Mode&0o777 != 0o660 {
		t.Fatalf("gid %d mode %o, want %d 660", st.Gid, st.Mode&0o777, os.Getegid())
	}
}

func TestListenOnALiveSocket(t *testing.T) {
	path := filepath.Join(ipctest.Directory(t), "s")
	mustListen(t, path, 0o600, -1)
	if _, err := ipc.Listen(path, 0o600, -1); !errors.Is(err, ipc.ErrInUse) {
		t.Fatalf("got %v", err)
	}
	if conn, err := net.Dial("unix", path); err != nil {
		t.Fatalf("the first listener lost its socket: %v", err)
	} else {
		conn.Close()
	}
}

// TestListenOnALiveSocketOfAnotherProgram has no lock to rely on.
func TestListenOnALiveSocketOfAnotherProgram(t *testing.T) {
	path := filepath.Join(ipctest.Directory(t), "s")
	other, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := ipc.Listen(path, 0o600, -1); !errors.Is(err, ipc.ErrInUse) {
		t.Fatalf("got %v", err)
	}
}

func TestListenReplacesAStaleSocket(t *testing.T) {
	path := filepath.Join(ipctest.Directory(t), "s")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	mustListen(t, path, 0o600, -1)
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

func TestListenDoesNotRemoveWhatIsNotASocket(t *testing.T) {
	dir := ipctest.Directory(t)
	file, link, sub := filepath.Join(dir, "file"), filepath.Join(dir, "link"), filepath.Join(dir, "sub")
	if err := errors.Join(os.WriteFile(file, []byte("x"), 0o600), os.Symlink(filepath.Join(dir, "gone"), link), os.Mkdir(sub, 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, link, sub} {
		if _, err := ipc.Listen(path, 0o600, -1); !errors.Is(err, ipc.ErrNotSocket) {
			t.Errorf("%s: got %v", path, err)
		}
		stat(t, path)
	}
}

func TestListenPathsAndDirectories(t *testing.T) {
	dir := ipctest.Directory(t)
	open := filepath.Join(dir, "open")
	if err := errors.Join(os.Mkdir(open, 0o755), os.Chmod(open, 0o777|os.ModeSticky)); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		path string
		mode os.FileMode
		want error
	}{
		"relative":          {"s", 0o600, ipc.ErrSocketPath},
		"not clean":         {dir + "/../" + filepath.Base(dir) + "/s", 0o600, ipc.ErrSocketPath},
		"too long":          {dir + "/" + strings.Repeat("x", 100), 0o600, ipc.ErrSocketPath},
		"special mode":      {dir + "/s", 0o660 | os.ModeSetuid, ipc.ErrSocketPath},
		"writable for all":  {open + "/s", 0o600, ipc.ErrUnsafeDirectory},
		"missing directory": {dir + "/none/s", 0o600, os.ErrNotExist},
	} {
		if _, err := ipc.Listen(test.path, test.mode, -1); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
	}
	if os.Geteuid() == 0 {
		foreign := filepath.Join(dir, "foreign")
		if err := errors.Join(os.Mkdir(foreign, 0o755), os.Chown(foreign, 12345, -1)); err != nil {
			t.Fatal(err)
		}
		if _, err := ipc.Listen(foreign+"/s", 0o600, -1); !errors.Is(err, ipc.ErrUnsafeDirectory) {
			t.Errorf("another user's directory: got %v", err)
		}
	}
}

func TestCloseRemovesOnlyItsOwnSocket(t *testing.T) {
	path := filepath.Join(ipctest.Directory(t), "s")
	ln := mustListen(t, path, 0o600, -1)
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("the socket is still there: %v", err)
	}

	ln = mustListen(t, path, 0o600, -1)
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := errors.Join(ln.Close(), ln.Close()); err != nil {
		t.Fatal(err)
	}
	stat(t, path)
}

func TestOfManyStartsOneWins(t *testing.T) {
	path := filepath.Join(ipctest.Directory(t), "s")
	for range 10 {
		var wg sync.WaitGroup
		results := make(chan *ipc.Listener, 8)
		for range cap(results) {
			wg.Go(func() {
				ln, err := ipc.Listen(path, 0o600, -1)
				if err != nil && !errors.Is(err, ipc.ErrInUse) {
					t.Errorf("got %v", err)
				}
				results <- ln
			})
		}
		wg.Wait()
		close(results)
		won := 0
		for ln := range results {
			if ln != nil {
				won++
				ln.Close()
			}
		}
		if won != 1 {
			t.Fatalf("%d listeners, want 1", won)
		}
	}
}
