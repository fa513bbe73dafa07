// Package confine takes from the process, for good, the right to open any other
// file than those it was told of, by Landlock (landlock(7)). It restricts every
// thread of the process, C's too, and each that is made later, so a PKCS#11
// module is confined with the daemon.
//
// A rule holds on to a file or folder itself and not to its name: a file that
// is replaced, as configuration files are, is out of reach of a rule for the
// old one. So rules are for folders wherever files come and go.
package confine

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// ErrPath is returned for a path in a rule that cannot be opened.
var ErrPath = errors.New("confine: no rule can be made for this path")

// Rules say what stays possible. Paths are files, or folders with all below.
// Running programs is never possible.
type Rules struct {
	Read    []string // reading
	Write   []string // reading, and for folders also making and removing what is in them
	Devices []string // opening for reading and writing
	// Terminals may also be asked for and given settings (ioctl(2)).
	Terminals []string
	// Optional paths are those of the above that may be missing. The others
	// must be there.
	Optional func(path string) bool
	// TCP, when it is not nil, leaves these ports only.
	TCP *Ports
}

// Ports are TCP ports.
type Ports struct{ Connect, Bind []uint16 }

// State is what is in force.
type State struct {
	// ABI is the kernel's version of Landlock, 0 when it offers none.
	ABI int
	// Files says that only files of the rules can be opened, IOCTL that devices
	// other than Terminals take no ioctl(2) of their own, TCP that ports are
	// limited. Older kernels cannot do all.
	Files, IOCTL, TCP bool
}

// Versions of Landlock that brought something (landlock(7), "VERSIONS").
const (
	abiFiles = 1
	abiTCP   = 4 // Linux 6.7
	abiIOCTL = 5 // Linux 6.10
)

const (
	readFile  landlock.AccessFSSet = ll.AccessFSReadFile
	readAll                        = readFile | ll.AccessFSReadDir
	writeFile                      = readFile | ll.AccessFSWriteFile | ll.AccessFSTruncate
	writeAll                       = readAll | writeFile | ll.AccessFSRemoveFile | ll.AccessFSRemoveDir |
		ll.AccessFSMakeReg | ll.AccessFSMakeDir | ll.AccessFSMakeSock | ll.AccessFSMakeFifo | ll.AccessFSMakeSym
	device   = readFile | ll.AccessFSWriteFile
	terminal = device | ll.AccessFSIoctlDev
)

// Apply restricts this process as far as the kernel can. A kernel without
// Landlock is no error: the state says so. ErrPath and other errors leave the
// process as it was.
func Apply(r Rules) (State, error) {
	version := abi()
	if version < abiFiles {
		return State{}, nil
	}
	// The rights of version 5. The later one for named sockets is left alone: a
	// resolver, the journal or a module may want any of them.
	c := landlock.Config{HandledAccessFS: landlock.V5.HandledAccessFS}
	rules, err := r.files()
	if err != nil {
		return State{}, err
	}
	if r.TCP != nil {
		c.HandledAccessNet = landlock.V5.HandledAccessNet
		rules = append(rules, r.TCP.rules()...)
	}
	if err := c.BestEffort().Restrict(rules...); err != nil {
		return State{}, fmt.Errorf("confine: %w", err)
	}
	return State{ABI: version, Files: true, IOCTL: version >= abiIOCTL, TCP: r.TCP != nil && version >= abiTCP}, nil
}

// abi asks the kernel for its version of Landlock. One that was built without
// it, booted without it, or whose seccomp filter refuses, has none.
func abi() int {
	version, err := ll.LandlockGetABIVersion()
	if err != nil {
		return 0
	}
	return version
}

func (r Rules) files() ([]landlock.Rule, error) {
	var rules []landlock.Rule
	for _, kind := range []struct {
		paths        []string
		file, folder landlock.AccessFSSet
	}{
		{r.Read, readFile, readAll}, {r.Write, writeFile, writeAll}, {r.Devices, device, device}, {r.Terminals, terminal, terminal},
	} {
		for _, path := range slices.Compact(slices.Sorted(slices.Values(kind.paths))) {
			isFolder, there, err := r.look(path)
			switch {
			case err != nil:
				return nil, err
			case !there:
			case isFolder:
				rules = append(rules, landlock.PathAccess(kind.folder, path))
			default:
				rules = append(rules, landlock.PathAccess(kind.file, path))
			}
		}
	}
	return rules, nil
}

// look reports what a path is. One that may not be looked at is as good as
// missing: the process could not open it either.
func (r Rules) look(path string) (isFolder, there bool, err error) {
	var st unix.Stat_t
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(fd)
		err = unix.Fstat(fd, &st)
	}
	switch {
	case err == nil:
		return st.Mode&unix.S_IFMT == unix.S_IFDIR, true, nil
	case r.Optional != nil && r.Optional(path):
		return false, false, nil
	}
	return false, false, fmt.Errorf("%w: %w", ErrPath, &os.PathError{Op: "open", Path: path, Err: err})
}

func (p *Ports) rules() (rules []landlock.Rule) {
	for _, port := range p.Connect {
		rules = append(rules, landlock.ConnectTCP(port))
	}
	for _, port := range p.Bind {
		rules = append(rules, landlock.BindTCP(port))
	}
	return rules
}
