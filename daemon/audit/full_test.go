package audit_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sigild/sigild/daemon/audit"
)

// childVariable makes this test binary the process whose files may not grow:
// it holds the path of the log.
const childVariable = "SIGILD_AUDIT_TEST_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childVariable); path != "" {
		if err := fillUp(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// fillUp writes until the disk is full, as a limit on the size of files makes
// it, and then once more with room.
func fillUp(path string) error {
	signal.Ignore(syscall.SIGXFSZ)
	l, err := audit.Open(path)
	if err != nil {
		return err
	}
	if err := limitFiles(2500); err != nil {
		return err
	}
	if err := writeUntilRefused(l, path); err != nil {
		return err
	}
	if err := l.Check(context.Background()); !errors.Is(err, syscall.EFBIG) {
		return fmt.Errorf("a look at the full disk: %w, want EFBIG", err)
	}
	if err := limitFiles(unix.RLIM_INFINITY); err != nil {
		return err
	}
	if err := l.Check(context.Background()); err != nil {
		return err
	}
	if err := l.Write(context.Background(), entry("room again")); err != nil {
		return err
	}
	return l.Close()
}

// limitFiles sets the soft limit alone, so that it can be lifted again.
func limitFiles(size uint64) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	limit.Cur = min(size, limit.Max)
	return unix.Setrlimit(unix.RLIMIT_FSIZE, &limit)
}

// writeUntilRefused says on standard output which entries were acknowledged.
// After the first refusal each further one must be refused too and leave the
// file as long as it was.
func writeUntilRefused(l *audit.Log, path string) error {
	refused := 0
	for n := 0; refused < 3; n++ {
		before, err := os.Stat(path)
		if err != nil {
			return err
		}
		name := fmt.Sprint("action-", n)
		switch err := l.Write(context.Background(), entry(name)); {
		case err == nil && refused == 0:
			fmt.Println(name)
			continue
		case !errors.Is(err, syscall.EFBIG):
			return fmt.Errorf("entry %d: err = %v, want EFBIG", n, err)
		}
		refused++
		if after, err := os.Stat(path); err != nil || after.Size() != before.Size() {
			return fmt.Errorf("entry %d: the file has %d bytes, had %d: %v", n, after.Size(), before.Size(), err)
		}
	}
	return nil
}

// P6, P7: an entry that does not fit is not acknowledged and leaves no part of
// itself; with room again the same log goes on without a gap.
func TestFullDisk(t *testing.T) {
	path := place(t)
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childVariable+"="+path)
	child.Stderr = os.Stderr
	out, err := child.Output()
	if err != nil {
		t.Fatal(err)
	}
	acknowledged := strings.Fields(string(out))
	entries := read(t, path)
	if len(acknowledged) < 2 || len(entries) != len(acknowledged)+1 {
		t.Fatalf("%d entries, %d acknowledged before the disk was full", len(entries), len(acknowledged))
	}
	for i, name := range acknowledged {
		if entries[i].Action != name {
			t.Errorf("entry %d is %s, want %s", i+1, entries[i].Action, name)
		}
	}
	if last := entries[len(entries)-1]; last.Action != "room again" {
		t.Errorf("the last entry is %s", last.Action)
	}
}
