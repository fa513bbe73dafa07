package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// ErrOwner is returned when a command runs as another user than the one whose
// the database is: what it writes would be out of the daemon's reach.
var ErrOwner = errors.New("the database belongs to another user")

// checkOwner compares this process's user with the owner of the database's
// folder. A folder that is not there is left to whoever opens the database.
func checkOwner(database string) error {
	folder := filepath.Dir(database)
	info, err := os.Stat(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(stat.Uid) == os.Geteuid() {
		return nil
	}
	name := strconv.FormatUint(uint64(stat.Uid), 10)
	if u, err := user.LookupId(name); err == nil {
		name = u.Username
	}
	return fmt.Errorf("%w: %s is %s's; run this as that user, as in: runuser -u %[3]s -- sigild", ErrOwner, folder, name)
}
