package daemon

import (
	"errors"
	"fmt"

	"github.com/sigild/sigild/daemon/config"
	"github.com/sigild/sigild/daemon/store"
)

// Compact rewrites the database of a stopped daemon without the space that it
// does not use, and gives its size before and after, in bytes.
func Compact(c *config.Config) (before, after int64, err error) {
	if err := checkOwner(c.Store.Path); err != nil {
		return 0, 0, err
	}
	before, after, err = store.Compact(c.Store.Path)
	if errors.Is(err, store.ErrInUse) {
		return 0, 0, fmt.Errorf("%w: stop the daemon first (systemctl stop sigild.socket sigild)", err)
	}
	return before, after, err
}
