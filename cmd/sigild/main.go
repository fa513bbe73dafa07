// Command sigild is the signing daemon. `sigild provision` makes an
// installation once, `sigild run` serves it, `sigild check` verifies it,
// `sigild probe` looks at a token.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sigild/sigild/cmd/internal/manual"
	"github.com/sigild/sigild/daemon"
)

// version is set by the linker.
var version = "0.0.0-unreleased"

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is the whole program but for the exit. The first SIGINT or SIGTERM
// drains; the second ends the process at once.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	root := newRoot(stdout, stderr)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err != nil {
		p := daemon.JournalPrefix(stderr, slog.LevelError)
		fmt.Fprintf(stderr, "%ssigild: %s\n", p, strings.ReplaceAll(err.Error(), "\n", "\n"+p))
	}
	var usage *usageError
	if errors.As(err, &usage) {
		return 2
	}
	return daemon.ExitCode(err)
}

const exitCodes = "0 done, 1 failed, 2 usage, 78 something must be mended before another start\n" +
	"(configuration, a refused token PIN, a host that is not provisioned)."

// usageError is a command line that cannot be understood.
type usageError struct{ error }

func newRoot(stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "sigild",
		Short: "A signing daemon that keeps wallet keys inside a PKCS#11 token",
		Long: "sigild signs with keys that never leave a PKCS#11 token, for a wallet back end on a Unix socket.\n\n" +
			"Exit codes: " + exitCodes,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	root.PersistentFlags().String("config", "/etc/sigild/sigild.toml", "configuration file")
	root.AddCommand(newRun(), newProvision(), newRecover(), newReseal(), newProbe(), newCheck(), newCheckConfig(), newCompact(),
		newForgetRefusal(), newClearTokenFault(), manual.Command("8", exitCodes))
	return root
}
