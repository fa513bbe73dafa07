package daemon

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"syscall"
)

// JournalPrefix is what a line on w begins with so that systemd's journal gives it
// the priority of a level (sd-daemon(3)): `journalctl -p warning` finds it then.
// Where w is not the journal it is nothing.
func JournalPrefix(w io.Writer, level slog.Level) string {
	if !toJournal(w) {
		return ""
	}
	return priority(level)
}

// priority is a level as sd-daemon(3) has it, by the numbers of syslog(3).
func priority(level slog.Level) string {
	switch {
	case level >= slog.LevelError:
		return "<3>"
	case level >= slog.LevelWarn:
		return "<4>"
	case level >= slog.LevelInfo:
		return "<6>"
	}
	return "<7>"
}

// toJournal says whether w is the stream that systemd connected to its journal,
// and not another that it was redirected to (systemd.exec(5), JOURNAL_STREAM).
func toJournal(w io.Writer) bool {
	f, is := w.(*os.File)
	if !is {
		return false
	}
	info, err := f.Stat()
	if err != nil {
		return false
	}
	stat, is := info.Sys().(*syscall.Stat_t)
	return is && fmt.Sprintf("%d:%d", stat.Dev, stat.Ino) == os.Getenv("JOURNAL_STREAM")
}

// journalHandler writes each record of another handler behind its priority.
type journalHandler struct {
	slog.Handler
	out *prioritised
}

// prioritised passes lines on behind a prefix; a handler writes one line at a time.
type prioritised struct {
	to     io.Writer
	mu     sync.Mutex
	prefix string // of the record that is being written
}

func (p *prioritised) Write(line []byte) (int, error) {
	if _, err := p.to.Write(append([]byte(p.prefix), line...)); err != nil {
		return 0, err
	}
	return len(line), nil
}

// newJournalHandler is a handler for w, as make gives it, with priorities where w
// is the journal.
func newJournalHandler(w io.Writer, make func(io.Writer) slog.Handler) slog.Handler {
	if !toJournal(w) {
		return make(w)
	}
	out := &prioritised{to: w}
	return &journalHandler{make(out), out}
}

// Handle is slog.Handler's.
func (h *journalHandler) Handle(ctx context.Context, r slog.Record) error {
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	h.out.prefix = priority(r.Level)
	return h.Handler.Handle(ctx, r)
}

// WithAttrs is slog.Handler's.
func (h *journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &journalHandler{h.Handler.WithAttrs(attrs), h.out}
}

// WithGroup is slog.Handler's.
func (h *journalHandler) WithGroup(name string) slog.Handler {
	return &journalHandler{h.Handler.WithGroup(name), h.out}
}
