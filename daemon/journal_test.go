package daemon

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sigild/sigild/daemon/config"
)

// journal is a file that systemd might have connected to its journal.
func journal(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	stat := info.Sys().(*syscall.Stat_t)
	t.Setenv("JOURNAL_STREAM", fmt.Sprintf("%d:%d", stat.Dev, stat.Ino))
	return f
}

func speak(t *testing.T, to *os.File, format string) []string {
	t.Helper()
	log := NewLogger(to, config.Log{Level: "debug", Format: format})
	log.Debug("one")
	log.With("with", 1).Info("two\nlines")
	log.WithGroup("group").Warn("three", "in", 1)
	log.Error("four")
	text, err := os.ReadFile(to.Name())
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if len(lines) != 4 {
		t.Fatalf("%d lines: %q", len(lines), text)
	}
	return lines
}

func TestJournalHasPriorities(t *testing.T) {
	for format, begins := range map[string]string{"text": "time=", "json": `{"time":`} {
		t.Run(format, func(t *testing.T) {
			f := journal(t)
			lines := speak(t, f, format)
			for n, p := range []string{"<7>", "<6>", "<4>", "<3>"} {
				if !strings.HasPrefix(lines[n], p+begins) {
					t.Errorf("line %d is %q, want priority %s", n, lines[n], p)
				}
			}
			if got := JournalPrefix(f, slog.LevelError); got != "<3>" {
				t.Errorf("the prefix is %q", got)
			}
		})
	}
}

// Redirected to a file, the log is as it always was.
func TestOnlyTheJournalHasPriorities(t *testing.T) {
	journal(t)
	other, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, line := range speak(t, other, "text") {
		if !strings.HasPrefix(line, "time=") {
			t.Errorf("%q", line)
		}
	}
	if got := JournalPrefix(other, slog.LevelError) + JournalPrefix(new(strings.Builder), slog.LevelError); got != "" {
		t.Errorf("the prefix is %q", got)
	}
}
