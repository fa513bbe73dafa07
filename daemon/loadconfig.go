package daemon

import (
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/sigild/sigild/daemon/config"
)

// Config is the daemon's configuration.
type Config = config.Config

// ErrConfig is returned for a configuration that must be mended.
var ErrConfig = errors.New("the configuration is not usable")

// LoadConfig reads and checks the configuration at path. ErrConfig.
func LoadConfig(path string) (*Config, error) {
	c, err := config.Load(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return c, nil
}

// NewLogger writes to w at the configured level, in the configured form, and with
// priorities where w is systemd's journal.
func NewLogger(w io.Writer, l config.Log) *slog.Logger {
	log, _ := NewLeveledLogger(w, l)
	return log
}

// NewLeveledLogger is NewLogger with a level that a reload can change.
func NewLeveledLogger(w io.Writer, l config.Log) (*slog.Logger, *slog.LevelVar) {
	level := new(slog.LevelVar)
	level.Set(levelOf(l))
	options := &slog.HandlerOptions{Level: level}
	form := func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, options) }
	if l.Format == "json" {
		form = func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, options) }
	}
	return slog.New(newJournalHandler(w, form)), level
}
