// Command sigilctl is the command-line client of sigild: it shows the daemon's
// state, makes and lists wallets, derives accounts and signs, over the daemon's
// Unix socket. It touches no device and holds no key.
//
// A PIN is asked for on the terminal, without echo, or read from a file
// descriptor (--pin-fd); it is never an argument or an environment variable.
// Results go to standard output, everything else to standard error; with --json
// standard output is exactly one JSON value, the daemon's result or error object.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

// version is set when a release is built, by -ldflags "-X main.version=v1.2.3".
var version string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run carries out one command line and returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr}
	root := a.rootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	if err := root.ExecuteContext(ctx); err != nil {
		return a.report(err, args)
	}
	return exitOK
}

// releaseVersion is version or, for a build without, what the Go tool recorded.
func releaseVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
