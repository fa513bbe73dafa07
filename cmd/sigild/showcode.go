package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/sigild/sigild/cmd/internal/ask"
	"github.com/sigild/sigild/daemon"
)

// splitFlags are the flags of a command that shows a recovery code.
func splitFlags(c *cobra.Command) *daemon.Split {
	s := new(daemon.Split)
	c.Flags().IntVar(&s.Shares, "shares", 0, "show the recovery code as this many shares, 2 to 16, for as many keepers")
	c.Flags().IntVar(&s.Needed, "threshold", 0, "how many of the shares give the code back, 2 or more")
	return s
}

// showCode gives the parts of a recovery code to people, each of whom confirms
// having written one down, or to a descriptor.
func showCode(c *cobra.Command, fd int, split daemon.Split, parts [][]byte) error {
	if fd >= 0 {
		return writeCode(fd, parts)
	}
	for i, part := range parts {
		if err := showPart(c, part, title(split, i+1)); err != nil {
			return err
		}
		if len(parts) > 1 {
			clearScreen(c.OutOrStdout())
		}
	}
	return nil
}

func title(split daemon.Split, number int) string {
	const valid = `shown once; it is valid only after "provisioned"`
	if split == (daemon.Split{}) {
		return "Recovery code (" + valid + "):"
	}
	return fmt.Sprintf("Share %d of %d of the recovery code, %d are needed (%s).\nOnly its keeper should look now:",
		number, split.Shares, split.Needed, valid)
}

// confirmTries is how often a keeper may mistype: a provisioning with many
// keepers should not end with a slip of the last one.
const confirmTries = 3

// showPart shows one part and asks for its last group.
func showPart(c *cobra.Command, part []byte, title string) error {
	if _, err := fmt.Fprintf(c.OutOrStdout(), "\n%s\n\n    %s\n\n", title, part); err != nil {
		return err
	}
	terminal := ask.Source{FD: ask.Terminal}
	for tries := 1; ; tries++ {
		err := terminal.Confirm(c.Context(), "Write it down now. Type its last four characters to confirm", part[len(part)-4:])
		if !errors.Is(err, ask.ErrNotConfirmed) || tries == confirmTries {
			return err
		}
		fmt.Fprintln(c.ErrOrStderr(), "These are not its last four characters: look again.")
	}
}

// clearScreen takes a share from the screen, and from what can be scrolled back
// to, before the next keeper comes (ECMA-48 ED, and xterm's ED 3).
func clearScreen(w io.Writer) {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprint(f, "\x1b[H\x1b[2J\x1b[3J")
	}
}

func writeCode(fd int, parts [][]byte) error {
	f := os.NewFile(uintptr(fd), "recovery code")
	if f == nil {
		return fmt.Errorf("--code-fd %d is not an open file descriptor", fd)
	}
	for _, part := range parts {
		line := append(append(make([]byte, 0, len(part)+1), part...), '\n')
		_, err := f.Write(line)
		clear(line)
		if err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return errors.Join(kept(f), f.Close())
}

// kept makes what was written to a file durable: the installation counts on the code
// from here on. Pipes and terminals have nothing to make durable.
func kept(f *os.File) error {
	err := f.Sync()
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	return err
}
